"""Documents: what is read, what is skipped and why, and passages that lose nothing."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localmem.documents import Document, Skipped, document_from_text, passages, read_documents
from localmem.errors import ConfigError

PARAGRAPH = "This is a sentence of a paragraph about apples, pears and plums. " * 4


def texts(path: Path) -> list[str]:
    (document,) = read_documents([path])
    assert isinstance(document, Document)
    return [passage.text for passage in document.passages]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("naïve ☕".encode(), "naïve ☕"),
        ("naïve ☕".encode("utf-8-sig"), "naïve ☕"),
        ("naïve ☕".encode("utf-16"), "naïve ☕"),
        (b"\xfe\xff" + "naïve ☕".encode("utf-16-be"), "naïve ☕"),
        ("naïve ☕".encode("utf-32"), "naïve ☕"),
        ("naïve café".encode("latin-1"), "naïve café"),
        (b"one\r\ntwo\rthree", "one\ntwo\nthree"),
    ],
)
def test_encodings(tmp_path: Path, data: bytes, text: str) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    assert texts(tmp_path / "a.txt") == [text]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GIF89a\0\0", "binary"),
        (bytes(range(1, 255)) * 9, "binary"),
        (b"\xff\xfe" + bytes(range(256)) * 9, "binary"),
        (b"%PDF-1.4 text", "a PDF; convert it to text first"),
        (b"x" * 5_000_001, "larger than 5 MB (5.0 MB)"),
        (b"", "empty"),
        (b" \n\n\t\n", "empty"),
    ],
)
def test_files_that_are_skipped(tmp_path: Path, data: bytes, reason: str) -> None:
    (tmp_path / "a").write_bytes(data)
    assert list(read_documents([tmp_path / "a"])) == [Skipped(tmp_path / "a", reason)]


def test_folders(tmp_path: Path) -> None:
    top = tmp_path / "notes"
    (top / "sub" / ".git").mkdir(parents=True)
    (top / ".hidden").write_text("x")
    (top / "b.md").write_text("# B\n\nbee")
    (top / "a.txt").write_text("ay")
    (top / "sub" / "c.py").write_text("c = 1")
    (top / "sub" / ".git" / "config").write_text("x")
    (top / "loop").symlink_to(top)
    (top / "same").symlink_to(top / "a.txt")
    os.mkfifo(top / "pipe")
    found = list(read_documents([top, top / "a.txt", top / ".hidden"]))
    assert [(d.name, d.path) for d in found if isinstance(d, Document)] == [
        ("notes/a.txt", str(top / "a.txt")),
        ("notes/b.md", str(top / "b.md")),
        ("notes/sub/c.py", str(top / "sub" / "c.py")),
        (".hidden", str(top / ".hidden")),
    ]
    assert [(s.path.name, s.reason) for s in found if isinstance(s, Skipped)] == [
        (".hidden", "hidden"), ("loop", "a link to a folder"), ("pipe", "not a regular file"), (".git", "hidden"),
    ]  # fmt: skip


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no"):
        list(read_documents([tmp_path / "none"]))


def test_a_digest_is_of_the_bytes(tmp_path: Path) -> None:
    digests = []
    for text in ("a", "a", "b"):
        (tmp_path / "a").write_text(text)
        (document,) = read_documents([tmp_path / "a"])
        assert isinstance(document, Document)
        digests.append(document.digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_text_without_a_file() -> None:
    document = document_from_text("message 7", "hello\n\nworld")
    assert (document.name, document.path) == ("message 7", "message 7")
    assert [(p.text, p.first_line, p.last_line) for p in document.passages] == [("hello\n\nworld", 1, 3)]


def test_text_is_cut_between_paragraphs() -> None:
    parts = passages("\n\n".join([PARAGRAPH] * 5))
    assert [(p.first_line, p.last_line) for p in parts] == [(1, 5), (7, 9)]


def test_code_is_cut_before_definitions() -> None:
    body = "".join(f"    x{n} = compute_something({n})\n" for n in range(18))
    code = "\n\n".join(f"def f{n}():\n{body}\n    return 1\n" for n in range(4))
    assert [part.text.split("(")[0] for part in passages(code)] == ["def f0", "def f1", "def f2", "def f3"]


def test_markdown_is_cut_at_headings_and_says_what_it_stands_under() -> None:
    text = f"# Passport\n\n{PARAGRAPH}\n\n## Renewal ##\n\n{PARAGRAPH * 2}\n\n{PARAGRAPH * 2}\n\n# Tax\n\nlater\n"
    parts = passages(text, markdown=True)
    assert [(p.text.splitlines()[0], p.first_line, p.last_line) for p in parts] == [
        ("# Passport", 1, 3), ("[Passport]", 5, 7), ("[Passport > Renewal]", 9, 9), ("# Tax", 11, 13),
    ]  # fmt: skip
    assert "[" not in passages(text)[0].text


def test_a_hash_in_a_fence_is_no_heading() -> None:
    text = f"# Top\n\n```sh\n# comment\n{PARAGRAPH}\n~~~\n# more\n{PARAGRAPH}\n```\n\n## Under\n\n{PARAGRAPH}\n"
    assert [p.text.splitlines()[0] for p in passages(text, markdown=True)] == ["# Top", "[Top]"]


def test_a_heading_is_not_left_at_the_end() -> None:
    code = "```\n" + "a line of an example that is rather long, really\n" * 20 + "```\n"
    text = f"# Top\n\nA short introduction.\n\n## Example\n\n{code}"
    assert passages(text, markdown=True)[0].text.splitlines()[-1] == "A short introduction."


def test_a_long_line_is_cut_behind_sentences_words_or_anywhere() -> None:
    prose, words, solid = "One sentence. " * 100, "word " * 400, "x" * 2000
    for line, end in ((prose, "."), (words, "word"), (solid, "x")):
        parts = passages(line)
        assert len(parts) >= 2
        assert all(p.text.endswith(end) for p in parts)
        assert {(p.first_line, p.last_line) for p in parts} == {(1, 1)}


LINES = st.lists(
    st.one_of(
        st.just(""),
        st.sampled_from(["# A", "## B", "### C ###", "```", "~~~", "    indented", "\f", "a\u2028b"]),
        st.text(st.characters(exclude_characters="\r\n"), max_size=60),
        st.builds(lambda word, n: f"{word} " * n, st.text("abc.!。", min_size=1, max_size=9), st.integers(1, 400)),
    ),
    max_size=60,
)


@settings(max_examples=80, deadline=None)
@given(LINES, st.booleans())
def test_nothing_is_lost_and_lines_are_true(lines: list[str], markdown: bool) -> None:
    text = "\n".join(lines)
    parts = passages(text, markdown=markdown)
    assert all(part.text.strip() for part in parts)
    assert all(len(part.text) <= 800 + 130 for part in parts)
    bodies = [re.sub(r"\A\[.*\]\n", "", part.text) if markdown else part.text for part in parts]
    assert "".join("".join(bodies).split()) == "".join(text.split()) or "[" in text
    at = 1
    for part, body in zip(parts, bodies, strict=True):
        assert part.first_line is not None
        assert part.last_line is not None
        assert at <= part.first_line <= part.last_line <= len(lines)
        assert body.split("\n")[0] in lines[part.first_line - 1]
        assert body.split("\n")[-1] in lines[part.last_line - 1]
        at = part.last_line
