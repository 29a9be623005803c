"""A person's regular expression: what is read as Python reads it, and what is refused for what it is."""

from __future__ import annotations

import re

import pytest

from localmem.engine.scripted import BYTES
from localmem.errors import GrammarError
from localmem.grammar.outlines import OutlinesGrammar
from localmem.grammar.regex_syntax import matched_whole
from localmem.grammar.sources import Regex

#: Each is tried on each text, and outlines_core has to agree with Python's re.fullmatch.
PATTERNS = [
    "a|ab", "a|ab|abc", "ab|a", "(a|ab)(c|bcd)?", "a*?", "a??b", "a*", "", "|a", "(|a)b", "^a$", "^a|b$", "a\\$",
    "a\\\\$", ".*", ".+x", "(?s).", "(?s:.)b", "a(?s:.)", "[^a]", "[^]a]", "[]a]", "[a-]", "[^\\n]", "[\\s\\S]",
    "[\\w]+", "[^\\W\\d]+", "\\d{2}", "\\d\\D", "\\w+", "\\W", "\\S+", "\\s", "(?i)AB", "(?i:a)B", "(?i)é",
    "(?P<name>a)b", "{", "a}", "]", "a{2}", "a{1,}", "a{0,2}?", "\\x61", "\\u00e9", "\\U0001F600", "\\ \\#",
    "\\-\\~\\&", "\\_", "\\é", "[\\]\\-a]", "[*.+]+", "\\/\\'\\:", "[\\U00010000-\\U0010ffff]", "(?:ab){2}",
    "((a|b)c)+", "[a-z][a-z0-9_]{0,30}", "[\\^]", "[a^]", "\\t|\\n",
]  # fmt: skip
TEXTS = [
    "", "a", "b", "ab", "abc", "abcd", "aa", "bb", "aba", "abab", "acbc", "\n", "a\n", "\r", "é", "É", "x", "éx",
    "-", "]", "^", "$", "a$", "a\\", "12", "1", "1a", "a1", "_", " ", " #", "-~&", "{", "a}", "😀", "\n\n", "\nb",
    "AB", "aB", "٣", "*.+", "/':", "\t", "Ab", "a_9", "9a",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_is_read_as_python_reads_it(pattern: str) -> None:
    grammar = OutlinesGrammar(Regex(pattern))
    for text in TEXTS:
        matcher = grammar.bind(BYTES)
        taken = all(matcher.accept(byte) for byte in text.encode()) and matcher.can_stop
        assert taken == (re.fullmatch(pattern, text) is not None), text


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("a(?=b)", "look-around"),
        ("a(?!b)", "look-around"),
        ("(?<=a)b", "look-around"),
        ("(?<!a)b", "look-around"),
        (r"(a)\1", "backreference"),
        ("(?P<n>a)(?P=n)", "extension"),
        (r"\bword", r"\\b"),
        (r"a\B", r"\\B"),
        (r"\Aa", r"\\A"),
        (r"a\Z", r"\\Z"),
        (r"a\z", r"\\z"),
        (r"\<a", r"\\<"),
        (r"[\b]", r"write \\x08"),
        ("a^b", "anchor"),
        ("a$b", "anchor"),
        ("a$|b", "anchor"),
        ("a++", "possessive"),
        ("a*+", "possessive"),
        ("a{2}{3}", "repetition of a repetition"),
        ("a**", "repetition of a repetition"),
        ("[a&&b]", "&&"),
        ("[a--b]", "--"),
        ("[a~~b]", "~~"),
        ("[[a]", "inside a class"),
        ("[[:alpha:]]", "inside a class"),
        (r"\p{L}", r"\\p"),
        (r"\pL", r"\\p"),
        (r"\0", r"write \\x00"),
        (r"\x6", r"\\x"),
        (r"\h", r"\\h"),
        (r"\Q.\E", r"\\Q"),
        ("(?x)a b", "flags"),
        ("(?m)^a", "flags"),
        ("(?-i)a", "flags"),
        ("(?>a)", "cannot"),
        ("(?#c)a", "extension"),
        ("(a", "not closed"),
        ("a)", "not open"),
        ("[a", "not closed"),
    ],
)
def test_refused(pattern: str, named: str) -> None:
    with pytest.raises(GrammarError, match=named) as caught:
        OutlinesGrammar(Regex(pattern)).bind(BYTES)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "written"),
    [
        ("^ab$", "ab"),
        ("a.", r"a[^\n\U0010ffff]"),
        ("(?s).(.)", r"(?s)[^\U0010ffff]([^\U0010ffff])"),
        ("(?s:.).", r"(?s:[^\U0010ffff])[^\n\U0010ffff]"),
        ("[^a]", r"[[^a]--\U0010ffff]"),
        (r"\D", r"[^\d\U0010ffff]"),
        ("{}", r"\{\}"),
    ],
)
def test_no_class_holds_the_reserved_code_point(pattern: str, written: str) -> None:
    assert matched_whole(pattern) == written
