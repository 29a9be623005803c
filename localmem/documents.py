"""Files to passages with provenance: text, Markdown and source code, one by one or in folders.

A document is cut where it would be read in parts: at headings, then before definitions, then between paragraphs, then
between lines; a passage has at most about 800 characters, and knows its lines. No text is lost: only blank lines at the
edges of passages are left out. Knows nothing of storage; what it cannot read it reports, with the reason.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from localmem.errors import ConfigError
from localmem.memory.archival import Document, Passage

_MOST_BYTES = 5_000_000
_MOST_CHARACTERS = 800
#: A passage that a heading would leave shorter than this goes on into the next section.
_LEAST_CHARACTERS = 200
_MOST_CONTEXT = 120

_MARKDOWN = {".md", ".markdown", ".mdown", ".mkd"}
_HEADING = re.compile(r"(#{1,6})\s+(.*?)\s*#*\s*")
_FENCE = re.compile(r"\s{0,3}(```+|~~~+)")
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
#: What text has little of: undecodable bytes, and control characters other than white space and escape.
_NO_TEXT = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\ufffd]")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder that was not read, and why."""

    path: Path
    reason: str


def read_documents(paths: Iterable[Path]) -> Iterator[Document | Skipped]:
    """The documents in files and folders, in the order given, each once; folders from top to bottom, sorted.

    Hidden files and folders are left out unless they are named in `paths`. ConfigError if a path does not exist.
    """
    seen: set[Path] = set()
    for path in map(Path, paths):
        if not path.exists():
            raise ConfigError(f"there is no {path}; check its spelling")
        top = path.absolute().parent
        for found in _files(path):
            if isinstance(found, Skipped):
                yield found
            elif (real := found.resolve()) not in seen:
                seen.add(real)
                yield _read(real, found.absolute().relative_to(top).as_posix())


def document_from_text(name: str, text: str, *, path: str | None = None) -> Document:
    """A document out of a text in no file, such as a message too long for the window. `path` is its identity."""
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    return Document(name, path or name, digest, passages(text, markdown=Path(name).suffix.lower() in _MARKDOWN))


# -- files


def _files(path: Path) -> Iterator[Path | Skipped]:
    if not path.is_dir():
        yield path
        return
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        yield Skipped(path, f"cannot be listed: {error.strerror}")
        return
    for entry in entries:
        if entry.name.startswith("."):
            yield Skipped(entry, "hidden")
        elif entry.is_symlink() and entry.is_dir():
            yield Skipped(entry, "a link to a folder")
        else:
            yield from _files(entry)


def _read(path: Path, name: str) -> Document | Skipped:
    try:
        if not path.is_file():
            return Skipped(path, "not a regular file")
        size = path.stat().st_size
        if size > _MOST_BYTES:
            return Skipped(path, f"larger than 5 MB ({size / 1e6:.1f} MB)")
        data = path.read_bytes()
    except OSError as error:
        return Skipped(path, f"cannot be read: {error.strerror}")
    if data.startswith(b"%PDF-"):
        return Skipped(path, "a PDF; convert it to text first")
    text = _decode(data)
    if text is None:
        return Skipped(path, "binary")
    parts = passages(text, markdown=path.suffix.lower() in _MARKDOWN)
    if not parts:
        return Skipped(path, "empty")
    return Document(name, path.as_posix(), hashlib.sha256(data).hexdigest(), parts)


def _decode(data: bytes) -> str | None:
    """The text of a file, or None if it is not text. Latin-1 is the last resort: it takes any bytes."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _if_text(data.decode(encoding, errors="replace"))
    if b"\0" in data:
        return None
    try:
        return _if_text(data.decode("utf-8"))
    except UnicodeDecodeError:
        return _if_text(data.decode("latin-1"))


def _if_text(text: str) -> str | None:
    return None if len(_NO_TEXT.findall(text)) * 100 > len(text) else text


# -- passages


@dataclass(frozen=True, slots=True)
class _Piece:
    """A line, or a part of one that is too long. `weight` says how good a place to begin a passage it is."""

    text: str
    line: int
    weight: int
    headings: tuple[str, ...]
    continues: bool


_ANY_LINE, _PARAGRAPH, _DEFINITION, _SECTION = range(4)


def passages(text: str, *, markdown: bool = False) -> list[Passage]:
    """Cut a text. In Markdown, a passage begins with the headings that it stands under, in brackets."""
    pieces = list(_pieces(text, markdown))
    parts: list[Passage] = []
    start = 0
    while start < len(pieces):
        end = _end(pieces, start)
        passage = _passage(pieces[start:end])
        if passage is not None:
            parts.append(passage)
        start = end
    return parts


def _pieces(text: str, markdown: bool) -> Iterator[_Piece]:
    # Lines as editors count them: str.splitlines would also break at form feeds and Unicode separators.
    lines = re.split(r"\r\n|\n|\r", text)
    headings: list[tuple[int, str]] = []
    fence = ""
    after_blank = True
    for number, line in enumerate(lines, 1):
        heading = _HEADING.fullmatch(line) if markdown and not fence else None
        if heading:
            level = len(heading[1])
            headings = [(above, title) for above, title in headings if above < level]
        above = tuple(title for _, title in headings)
        if heading:
            headings.append((level, heading[2]))
        weight = _SECTION if heading else _ANY_LINE if fence or not after_blank else _weight(line)
        if markdown and (mark := _FENCE.match(line)):
            fence = mark[1] if not fence else "" if mark[1].startswith(fence) else fence
        after_blank = not line.strip()
        for place, part in enumerate(_split(line)):
            yield _Piece(part, number, weight if not place else _ANY_LINE, above, continues=place > 0)


def _weight(line: str) -> int:
    """Of a line behind a blank one: an indented one is inside of something."""
    return _PARAGRAPH if line[:1].isspace() else _DEFINITION


def _split(line: str) -> Iterator[str]:
    """A line in parts of at most 800 characters that together are the line: behind a sentence, a word, or anywhere."""
    while len(line) > _MOST_CHARACTERS:
        window = line[:_MOST_CHARACTERS]
        cut = max((m.end() for m in re.finditer(r"[.!?。！？]\s+|[。！？]", window)), default=0)
        if cut < _LEAST_CHARACTERS:
            cut = max((m.end() for m in re.finditer(r"\s+", window)), default=0)
        cut = cut if cut >= _LEAST_CHARACTERS else _MOST_CHARACTERS
        yield line[:cut]
        line = line[cut:]
    yield line


def _end(pieces: list[_Piece], start: int) -> int:
    """Where the passage that begins at `start` ends: at the best place that leaves it neither long nor short."""
    size, has_body, best = 0, False, (-1, 0)
    for place in range(start, len(pieces)):
        piece = pieces[place]
        if piece.weight == _SECTION and size >= _LEAST_CHARACTERS:
            return place
        fits = size + len(piece.text) <= _MOST_CHARACTERS
        if place > start and (size >= _LEAST_CHARACTERS or not fits or (piece.weight == _SECTION and has_body)):
            best = max(best, (piece.weight, place))
        if place > start and not fits:
            return best[1]
        size += len(piece.text) + 1
        has_body = has_body or (piece.weight != _SECTION and bool(piece.text.strip()))
    return len(pieces)


def _passage(pieces: list[_Piece]) -> Passage | None:
    written = [i for i, piece in enumerate(pieces) if piece.text.strip()]
    if not written:
        return None
    pieces = pieces[written[0] : written[-1] + 1]
    text = "".join(("" if piece.continues or not i else "\n") + piece.text for i, piece in enumerate(pieces)).rstrip()
    above = " > ".join(pieces[0].headings)[-_MOST_CONTEXT:]
    return Passage(f"[{above}]\n{text}" if above else text, pieces[0].line, pieces[-1].line)


__all__ = ["Document", "Passage", "Skipped", "document_from_text", "passages", "read_documents"]
