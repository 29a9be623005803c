"""The rules of the design, asserted from the imports themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "localmem"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 300

#: Files that are longer, and how much; no others, and no longer.
LONGER = {"grammar/closing.py": 340, "memory/store.py": 360, "protocols.py": 340}

#: Top to bottom: a part imports only from rows above its own, and from itself. The loop (functions, context, documents,
#: agent and the files that they are split into) is one row, inside which imports need only be acyclic.
LOOP = "the loop"
ROWS = (
    ("errors",),
    ("protocols", "events"),
    ("config",),
    ("models", "prompts"),
    ("memory", "grammar", "engine"),
    (LOOP,),
    ("",),
    ("bench",),
    ("cli",),
    ("__main__",),
)
ROW = {part: index for index, row in enumerate(ROWS) for part in row}

#: One dependency, one importer: top-level module -> the parts (or files) that may import it.
IMPORTERS = {
    "llama_cpp": ("engine/",),
    "llguidance": ("grammar/llg.py",),
    "outlines": ("grammar/outlines.py",),
    "outlines_core": ("grammar/outlines.py",),
    "pydantic": ("grammar/types.py",),
    "faiss": ("memory/vectors.py",),
    "tantivy": ("memory/keywords.py",),
    "sentence_transformers": ("memory/embedder.py",),
    "torch": ("memory/embedder.py",),
    "transformers": ("memory/embedder.py",),
    "duckdb": ("memory/store.py",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "prompt_toolkit": ("cli/",),
    "jinja2": ("engine/",),
    "jsonschema": ("bench/",),
    "yaml": ("config/", "cli/models_file.py", "prefix.py"),
    "platformdirs": ("config/",),
    "gguf": ("models/merging.py",),
}

NETWORK = {
    "socket", "ssl", "http", "urllib", "urllib3", "requests", "httpx", "aiohttp", "ftplib", "smtplib", "imaplib",
    "poplib", "telnetlib", "socketserver", "xmlrpc", "asyncio", "websockets", "huggingface_hub", "pip", "webbrowser",
}  # fmt: skip

#: Parts of those that touch no network.
HARMLESS = {"urllib.parse"}

#: What takes long to import.
HEAVY = ("llama_cpp", "llguidance", "faiss", "tantivy", "sentence_transformers", "torch", "duckdb", "outlines", "gguf")


def name_of(file: Path) -> str:
    """The dotted name of a module, without the package's own."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    return module.split(".")[0]


MODULES = {name_of(file): file for file in FILES}


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def imported(file: Path, *, when_loaded: bool = False) -> Iterator[str]:
    """Full names of what `file` imports: everywhere, or only what runs as the module is loaded."""
    yield from _imports(tree_of(file).body, when_loaded)


def _imports(body: list[ast.stmt], when_loaded: bool) -> Iterator[str]:
    for node in body:
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert level == 0, f"relative import in line {node.lineno}"
                yield from (f"{module}.{alias.name}" for alias in names)
            case ast.FunctionDef() | ast.AsyncFunctionDef() if when_loaded:
                continue
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=orelse) if when_loaded:
                yield from _imports(orelse, when_loaded)
            case _:
                for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                    yield from _imports(getattr(node, field, []), when_loaded)


def own_module(imported_name: str) -> str | None:
    """The module of localmem that `from X import Y` or `import X` loads, without "localmem."; None for another's."""
    if imported_name != "localmem" and not imported_name.startswith("localmem."):
        return None
    inner = imported_name.removeprefix("localmem").removeprefix(".")
    while inner not in MODULES and inner:
        inner = inner.rpartition(".")[0]
    return inner


def row_of(module: str) -> int:
    return ROW.get(part_of(module), ROW[LOOP])


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module or "localmem")
def test_a_part_imports_only_from_rows_above(module: str) -> None:
    for name in imported(MODULES[module]):
        other = own_module(name)
        if other is None or part_of(other) == part_of(module):
            continue
        beside = row_of(other) == row_of(module) == ROW[LOOP]
        assert row_of(other) < row_of(module) or beside, f"localmem.{module} imports {name}, which is not above it"


def test_the_loop_ends_in_the_agent() -> None:
    """What the agent is made of does not know it."""
    for module in ("functions", "context", "documents"):
        if module in MODULES:
            assert "agent" not in {own_module(name) for name in imported(MODULES[module])}


def test_memory_grammar_and_engine_never_meet() -> None:
    trio = {"memory", "grammar", "engine"}
    for module, file in MODULES.items():
        if part_of(module) in trio:
            met = {part_of(own) for name in imported(file) if (own := own_module(name))} & trio
            assert met <= {part_of(module)}, f"localmem.{module} imports {met}"


def test_one_dependency_has_one_importer() -> None:
    for file in FILES:
        place = file.relative_to(PACKAGE).as_posix()
        for name in imported(file):
            allowed = IMPORTERS.get(name.split(".")[0])
            assert allowed is None or place.startswith(allowed), f"{place} imports {name}, which belongs to {allowed}"


@pytest.mark.parametrize(
    ("folder", "strangers"), [("localmem", {"training", "benchmarks", "tests"}), ("training", {"benchmarks", "tests"})]
)
def test_what_is_shipped_needs_no_training_and_training_no_benchmarks(folder: str, strangers: set[str]) -> None:
    """The benchmarks may use all of it: the texts that adapters are judged on are training's."""
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for file in files:
        met = {name.split(".")[0] for name in imported(file)} & strangers
        assert not met, f"{file.relative_to(ROOT)} imports {met}"


def test_only_models_can_reach_the_network() -> None:
    for file in FILES:
        place = file.relative_to(PACKAGE).as_posix()
        for name in imported(file):
            if name.split(".")[0] in NETWORK and not any(name.startswith(known) for known in HARMLESS):
                assert place.startswith("models/"), f"{place} imports {name}"


def test_only_the_cli_prints() -> None:
    for file in FILES:
        if part_of(name_of(file)) == "cli":
            continue
        for node in ast.walk(tree_of(file)):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            assert not called, f"{file} prints in line {node.lineno}"  # type: ignore[attr-defined]


def test_there_are_no_import_cycles() -> None:
    """Among what runs as modules are loaded; a package's __init__ runs before its modules, and counts."""
    edges: dict[str, set[str]] = {}
    for module, file in MODULES.items():
        loaded = {own for name in imported(file, when_loaded=True) if (own := own_module(name)) is not None}
        edges[module] = loaded - {module}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"import cycle: {' -> '.join((*path[path.index(module) :], module))}"
        if module not in done:
            for other in sorted(edges[module]):
                visit(other, (*path, module))
            done.add(module)

    for module in edges:
        visit(module, ())


@pytest.mark.parametrize("part", ["__init__", "errors", "events", "protocols", "config/__init__", "cli/__init__"])
def test_the_top_is_light(part: str) -> None:
    file = PACKAGE / f"{part}.py"
    loaded = {name.split(".")[0] for name in imported(file, when_loaded=True)}
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_every_file_is_short_and_says_what_it_is(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGER.get(file.relative_to(PACKAGE).as_posix(), MOST_LINES)
    assert ast.get_docstring(tree_of(file)), "a module's docstring says what it does and does not know"
