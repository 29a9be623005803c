"""Rules as a regular expression: compared with a matcher of rules that tries everything, and with documents."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from localmem.errors import GrammarError
from localmem.grammar.json_rules import json_rules
from localmem.grammar.regex_rules import regex_of, states
from localmem.grammar.rules import Alt, Chars, Ref, Repeat, Rule, Rules, Seq, Text

PLENTY = 10**6
LETTERS = "ab.\\-]^[\né\x00\U0001f600|{}()*+?$# ~&\x7f"


def ends(rule: Rule, text: str, at: int, rules: Rules) -> set[int]:
    """Where a text that fits `rule` and begins at `at` may end."""
    match rule:
        case Text(literal):
            return {at + len(literal)} if text.startswith(literal, at) else set()
        case Chars(ranges, negated):
            return {at + 1} if at < len(text) and any(a <= ord(text[at]) <= b for a, b in ranges) != negated else set()
        case Seq(parts):
            found = {at}
            for part in parts:
                found = {end for start in found for end in ends(part, text, start, rules)}
            return found
        case Alt(choices):
            return {end for choice in choices for end in ends(choice, text, at, rules)}
        case Repeat(inner, least, most):
            found, reached = ({at} if least == 0 else set()), {at}
            for count in range(1, (len(text) + least if most is None else most) + 1):
                reached = {end for start in reached for end in ends(inner, text, start, rules)}
                if count >= least and reached <= found:
                    break  # going round again reaches nothing new
                found |= reached if count >= least else set()
            return found
        case Ref(name):
            return ends(rules.rules[name], text, at, rules)


characters = st.sampled_from(LETTERS)
ranges = st.lists(st.tuples(characters, characters).map(lambda ab: (min(map(ord, ab)), max(map(ord, ab)))), max_size=3)
leaves = st.one_of(
    st.text(characters, max_size=3).map(Text),
    st.builds(lambda found, negated: Chars(tuple(found), negated), ranges, st.booleans()),
    st.just(Ref("other")),
)


def _wider(inner: st.SearchStrategy[Rule]) -> st.SearchStrategy[Rule]:
    lists = st.lists(inner, min_size=1, max_size=3).map(tuple)
    times = st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(0, 2)))
    return st.one_of(
        lists.map(Seq),
        lists.map(Alt),
        st.builds(lambda r, t: Repeat(r, t[0], None if t[1] is None else t[0] + t[1]), inner, times),
    )


def derived(rule: Rule, rules: Rules, data: st.DataObject) -> str:
    """A text that the rules allow, found by following them; rejects the example where that leads to no text."""
    match rule:
        case Text(literal):
            return literal
        case Chars(ranges, negated):
            fitting = [c for c in LETTERS if any(a <= ord(c) <= b for a, b in ranges) != negated]
            assume(fitting)
            return data.draw(st.sampled_from(fitting))
        case Seq(parts):
            return "".join(derived(part, rules, data) for part in parts)
        case Alt(choices):
            return derived(data.draw(st.sampled_from(choices)), rules, data)
        case Repeat(inner, least, most):
            count = data.draw(st.integers(least, least + 2 if most is None else most))
            return "".join(derived(inner, rules, data) for _ in range(count))
        case Ref(name):
            return derived(rules.rules[name], rules, data)


@given(st.recursive(leaves, _wider, max_leaves=6), st.text(characters, max_size=3), st.data())
@settings(max_examples=200, deadline=None)
def test_it_matches_what_the_rules_allow(root: Rule, text: str, data: st.DataObject) -> None:
    other = data.draw(st.text(characters, max_size=2).map(Text))
    rules = Rules({"root": root, "other": other})
    try:
        regex = regex_of(rules, most_states=PLENTY)
    except GrammarError:
        assert all(not ends(root, t, 0, rules) for t in ("", text))
        return
    assert (re.fullmatch(regex, text) is not None) == (len(text) in ends(root, text, 0, rules)), regex
    written = derived(root, rules, data)
    assert re.fullmatch(regex, written) is not None, (regex, written)


@pytest.mark.parametrize(
    ("rule", "regex"),
    [
        (Text("a.b"), r"a\.b"),
        (Text("<\n\x7f>"), r"<\x0a\x7f>"),
        (Text("é☃😀"), "é☃😀"),
        (Chars(((0x61, 0x63), (0x5D, 0x5D))), r"[\x5d\x61-\x63]"),
        (Chars(((0x22, 0x22),), negated=True), r"[\x00-\x21\x23-\ud7ff\ue000-\U0010fffe]"),
        (Chars((), negated=True), r"[\x00-\ud7ff\ue000-\U0010fffe]"),
        (Alt((Text("a"), Text(""))), "a|"),
        (Seq((Alt((Text("a"), Text("b"))), Text("c"))), "(?:a|b)c"),
        (Repeat(Text("ab"), 2, 2), "(?:ab){2}"),
        (Repeat(Chars(((0x61, 0x61),)), 1, None), r"[\x61]{1,}"),
        (Repeat(Text("a"), 0, 1), "(?:a)?"),
        (Repeat(Chars(()), 0, 3), ""),
        (Alt((Chars(()), Text("a"))), "a"),
    ],
)
def test_how_it_is_written(rule: Rule, regex: str) -> None:
    assert regex_of(Rules({"root": rule}), most_states=PLENTY) == regex


@pytest.mark.parametrize(
    "rule",
    [
        Ref("root"),
        Seq((Text("a"), Alt((Text(""), Ref("root"))))),
        Chars(()),
        Chars(((0xD800, 0xDFFF),)),
        Text("\ud800"),
        Seq((Text("a"), Chars(()))),
        Repeat(Text("a"), 3, 2),
        Repeat(Chars(()), 1, 2),
        Alt(()),
    ],
)
def test_recursion_and_what_no_text_fits_are_refused(rule: Rule) -> None:
    with pytest.raises(GrammarError):
        regex_of(Rules({"root": rule}), most_states=PLENTY)


def test_the_size_is_known_before_anything_is_written_out() -> None:
    """Forty references, each to two of the one before, would be 10^12 characters."""
    rules = {f"r{i}": Seq((Ref(f"r{i - 1}"), Ref(f"r{i - 1}"))) for i in range(1, 41)}
    doubled = Rules({"root": Ref("r40"), "r0": Text("ab"), **rules})
    assert states(doubled) == 2 * 2**40
    with pytest.raises(GrammarError, match="2,199,023,255,552 states, and backend outlines takes 1,000"):
        regex_of(doubled, most_states=1000)


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        (
            {
                "type": "object",
                "properties": {"a": {"type": "string", "maxLength": 3}, "b": {"type": "integer", "minimum": 3}},
                "required": ["b"],
                "additionalProperties": False,
            },
            ['{"a": "é\\n😀", "b": 3}', '{"b": 10}'],
            ['{"a": "abcd", "b": 3}', '{"b": 2}', '{"b":3}', '{"b": 3, "a": ""}', '{"a": ""}'],
        ),
        ({"enum": ['a"b', "c\\d", 1.5, None]}, ['"a\\"b"', '"c\\\\d"', "1.5", "null"], ["1x5", '"a"b"', ""]),
        (
            {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 2},
            ["[true]", "[true, false]"],
            ["[]", "[true, ]", "[true,false]", "[true, true, true]"],
        ),
    ],
)
def test_documents(schema: dict[str, object], right: list[str], wrong: list[str]) -> None:
    regex = re.compile(regex_of(json_rules(schema), most_states=PLENTY))
    for text in right:
        json.loads(text)
        assert regex.fullmatch(text), text
    for text in wrong:
        assert not regex.fullmatch(text), text
