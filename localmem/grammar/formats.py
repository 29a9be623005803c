"""Dates and times, exactly: what llguidance's own formats let through beside them.

Its date has a 29th of February every year, and its time a 60th second every minute. So a pattern that is exact is put
beside such a format. Source: RFC 3339, section 5.6 and its appendices C (leap years) and D (leap seconds).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from localmem.grammar.enforced import SCHEMAS_BY_NAME

_LEAP = r"(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_YEAR = r"(?:[1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
_DAY = (
    r"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|"
    r"02-(?:0[1-9]|1[0-9]|2[0-8]))"
)
_DATE = rf"(?:{_YEAR}-{_DAY}|{_LEAP}-02-29)"
_OFFSET = r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
_TIME = (
    rf"(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?{_OFFSET}|"
    r"23:59:60(?:\.[0-9]+)?(?:[Zz]|[+-]00:00))"
)

#: A pattern for the whole of a text of each format.
EXACT: dict[str, str] = {
    "date": rf"^{_DATE}$",
    "time": rf"^{_TIME}$",
    "date-time": rf"^{_DATE}[Tt]{_TIME}$",
}


#: Keywords whose values are data.
_DATA = {"const", "enum", "default", "examples"}


def exact_formats(schema: Any) -> Any:
    """The same schema, an exact pattern beside each date and time. No data in it is changed.

    What stands under a word that is no keyword is changed too: a $ref may point there.
    """
    if isinstance(schema, list):
        return [exact_formats(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    changed = {word: _inside(word, value) for word, value in schema.items()}
    form = schema.get("format")
    pattern = EXACT.get(form) if isinstance(form, str) else None
    if pattern is not None:
        if "pattern" in changed:
            changed["allOf"] = [*changed.get("allOf", []), {"pattern": pattern}]
        else:
            changed["pattern"] = pattern
    return changed


def _inside(word: str, value: Any) -> Any:
    """The value of a keyword, with the schemas in it made exact."""
    if word in _DATA:
        return value
    if word in SCHEMAS_BY_NAME and isinstance(value, Mapping):
        return {name: exact_formats(part) for name, part in value.items()}
    return exact_formats(value)
