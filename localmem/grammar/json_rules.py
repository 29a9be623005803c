"""A JSON Schema -> rules that match its documents exactly, in localmem's layout. Knows no backend.

The layout is the one that `closing` follows: keys in the schema's order, ", " and ": " as separators, no other white
space, values of enum and const as `dump` writes them. What rules cannot say exactly is refused by keyword and JSON
path: nothing is ever weaker than what was asked for. Documentation in a schema (titles, defaults) is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localmem.errors import GrammarError
from localmem.grammar.disjoint import all_disjoint
from localmem.grammar.factoring import NOTHING, choice, optional, sequence
from localmem.grammar.keywords import branches, counts, form, key_path, literals, members, refuse, target, types
from localmem.grammar.number_rules import NUMBER, number_rule
from localmem.grammar.rule_checks import endless, left_recursive
from localmem.grammar.rules import Ref, Repeat, Rule, Rules, Text
from localmem.grammar.schema import TEXT_PATTERN
from localmem.grammar.shortest import dump
from localmem.grammar.string_rules import CHARACTERS, other_key, string_rule

_MOST_PARTS = 5000
_COMMA = Text(", ")


def json_rules(schema: Mapping[str, Any]) -> Rules:
    """The rules of a schema's documents.

    Raises GrammarError, whose `path` is the schema's own path of the cause, if the schema cannot be enforced exactly,
    has no document, or is too large.
    """
    build = _Build(schema)
    try:
        build.rules["root"] = build.value(schema, "$")
        for check, what in ((endless, "has no document that ends"), (left_recursive, "refers to itself")):
            name = check(build.rules)
            if name is not None:
                path = build.paths.get(name, "$")
                raise GrammarError(f"The schema at {path} {what}.", path)
    except RecursionError:
        raise GrammarError("This schema is nested too deep.") from None
    return Rules(build.rules)


class _Build:
    """The rules of one schema while they are made."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self.rules: dict[str, Rule] = {}
        self.paths: dict[str, str] = {"root": "$"}
        self._root = root
        self._references = {"#": "root"}
        self._names: dict[Rule, str] = {}
        self._parts = 0

    def value(self, schema: Any, path: str) -> Rule:
        """The documents of one part of the schema."""
        self._parts += 1
        if self._parts > _MOST_PARTS:
            raise GrammarError(f"This schema has more than {_MOST_PARTS:,} parts.", path)
        match form(schema, path):
            case "any":
                return self._any()
            case "$ref":
                return self._reference(schema["$ref"], path)
            case "literals":
                return choice(map(Text, literals(schema, path)))
            case "types":
                return choice(self._typed(schema, kind, path) for kind in types(schema))
            case word:
                return self._branches(schema, word, path)

    def _branches(self, schema: Mapping[str, Any], word: str, path: str) -> Rule:
        ways = branches(schema, word, path)
        found = choice(self.value(way, f"{path}.{word}[{i}]") for i, way in enumerate(ways))
        if word == "allOf" and len(ways) > 1:
            refuse(word, path)
        if word == "oneOf" and not all_disjoint(ways, self._root):
            refuse(word, path, ", as its branches are not known to exclude each other")
        return found

    def _reference(self, reference: Any, path: str) -> Rule:
        found = target(self._root, reference, path)
        if reference not in self._references:
            place = "$" + str(reference).removeprefix("#").replace("/", ".")
            name = self._references[reference] = self._fresh(str(reference).rpartition("/")[2], place)
            self.rules[name] = self.value(found, place)
        return Ref(self._references[reference])

    def _fresh(self, name: str, path: str) -> str:
        """A rule name that is not taken yet."""
        legal = "".join(c if c.isascii() and c.isalnum() else "-" for c in name).strip("-") or "rule"
        number = 1
        while legal in self.rules or legal in self.paths or legal in CHARACTERS or legal == "value":
            number += 1
            legal = f"{legal.rstrip('0123456789').rstrip('-')}-{number}"
        self.paths[legal] = path
        return legal

    def _shared(self, rule: Rule, name: str, path: str) -> Rule:
        """A rule that is used more than once, by a name of its own."""
        if isinstance(rule, Ref | Text):
            return rule
        if rule not in self._names:
            self._names[rule] = self._fresh(name, path)
            self.rules[self._names[rule]] = rule
        return Ref(self._names[rule])

    def _characters(self, rule: Rule, *names: str) -> Rule:
        """`rule`, and the characters that it refers to."""
        self.rules.update({name: CHARACTERS[name] for name in names})
        return rule

    # -- types

    def _typed(self, schema: Mapping[str, Any], kind: str, path: str) -> Rule:
        match kind:
            case "object":
                return self._object(schema, path)
            case "array":
                return self._array(schema, path)
            case "string":
                return self._string(schema, path)
            case "boolean":
                return choice((Text("true"), Text("false")))
            case "null":
                return Text("null")
            case _:
                return number_rule({**schema, "type": kind}, path)

    def _any(self) -> Rule:
        """Any JSON value."""
        if "value" not in self.rules:
            value, string = Ref("value"), self._characters(string_rule(), "char")
            member = sequence((string, Text(": "), value))
            listed = (_listed("{", member, "}", 0, None), _listed("[", value, "]", 0, None))
            self.rules["value"] = choice((*listed, string, NUMBER, *map(Text, ("true", "false", "null"))))
        return Ref("value")

    def _string(self, schema: Mapping[str, Any], path: str) -> Rule:
        least, most = counts(schema, ("minLength", "maxLength"), path)
        if "pattern" not in schema:
            return self._characters(string_rule(least, most), "char")
        if schema["pattern"] != TEXT_PATTERN:
            refuse("pattern", path)
        return self._characters(string_rule(least, most, text=True), "text-char")

    def _array(self, schema: Mapping[str, Any], path: str) -> Rule:
        least, most = counts(schema, ("minItems", "maxItems"), path)
        if isinstance(schema.get("items"), list):
            refuse("items", path, " as a list")
        if most == 0:
            return Text("[]")
        item = self.value(schema.get("items", True), f"{path}.items")
        return _listed("[", self._shared(item, "item", f"{path}.items"), "]", least, most)

    def _object(self, schema: Mapping[str, Any], path: str) -> Rule:
        properties, required = members(schema, path)
        others = schema.get("additionalProperties", True)
        keys = list(dict.fromkeys((*properties, *required)))
        written: list[Rule] = []
        for key in keys:
            place = key_path(f"{path}.properties", key) if key in properties else f"{path}.additionalProperties"
            written.append(sequence((Text(f"{dump(key)}: "), self.value(properties.get(key, others), place))))
        more = None
        if others is not False:
            place = f"{path}.additionalProperties"
            key_rule = self._characters(other_key(keys), "key-char")
            member = sequence((key_rule, Text(": "), self.value(others, place)))
            more = self._shared(member, "member", place)
        return sequence((Text("{"), self._members(written, [key in required for key in keys], more, path), Text("}")))

    def _members(self, written: list[Rule], needed: list[bool], more: Rule | None, path: str) -> Rule:
        """Members in their order, built from the last: those from one on when none stands before it, and when one does.

        `more` is any further member.
        """
        after: Rule = NOTHING if more is None else Repeat(sequence((_COMMA, more)))
        begin: Rule = NOTHING if more is None else optional(sequence((more, after)))
        leading = needed.index(True) if True in needed else len(needed)
        for index in range(len(written) - 1, -1, -1):
            member = written[index]
            if index < leading:  # what follows it is needed more than once
                member, after = self._shared(member, "member", path), self._shared(after, "members", path)
            begins = sequence((member, after))
            begin = begins if needed[index] else choice((begins, begin))
            follows = sequence((_COMMA, member))
            after = sequence((follows if needed[index] else optional(follows), after))
        return begin


def _listed(opening: str, item: Rule, closing: str, least: int, most: int | None) -> Rule:
    """Items between brackets."""
    further = Repeat(sequence((_COMMA, item)), max(least - 1, 0), None if most is None else most - 1)
    items = item if most == 1 else sequence((item, further))
    return sequence((Text(opening), items if least else optional(items), Text(closing)))
