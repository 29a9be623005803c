"""For each format of a string that llguidance knows, a pattern: each text that it matches whole is of that format.

Dates and times are those of `formats`. The others follow their RFCs (3339 A for durations, 3986 for URIs, 4291 for
IPv6, 5321 for mail, 1123 for host names, 9562 for UUIDs); where such a text is longer or stranger than the pattern
foresees, there is no plan for its end. Knows no schema.
"""

from __future__ import annotations

from localmem.grammar.formats import EXACT

_HEX = "[0-9a-fA-F]"
_GROUP = f"{_HEX}{{1,4}}"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
_IPV6 = "|".join(
    [f"(?:{_GROUP}:){{7}}{_GROUP}", "::"]
    + [f"::{_GROUP}(?::{_GROUP}){{0,{6 - 0}}}"]
    + [f"{_GROUP}(?::{_GROUP}){{{n - 1}}}::(?:{_GROUP}(?::{_GROUP}){{0,{6 - n}}})?" for n in range(1, 7)]
    + [f"{_GROUP}(?::{_GROUP}){{6}}::"]
)
_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_NAME = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_ATOM = r"[a-zA-Z0-9!#$%&'*+\-/=?\^_`{|}~]+"
_CLOCK = "[0-9]+H(?:[0-9]+M(?:[0-9]+S)?)?|[0-9]+M(?:[0-9]+S)?|[0-9]+S"
_CALENDAR = "[0-9]+Y(?:[0-9]+M(?:[0-9]+D)?)?|[0-9]+M(?:[0-9]+D)?|[0-9]+D"
_SUB = r"a-zA-Z0-9\-._~!$&'()*+,;="
_PERCENT = f"%{_HEX}{{2}}"
_SEGMENT = f"(?:[{_SUB}:@]|{_PERCENT})"
_TAIL = f"(?:[{_SUB}:@/?]|{_PERCENT})*"
_HOST = rf"(?:\[(?:{_IPV6})\]|(?:[{_SUB}]|{_PERCENT})*)"
_AUTHORITY = f"//(?:(?:[{_SUB}:]|{_PERCENT})*@)?{_HOST}(?::[0-9]*)?(?:/{_SEGMENT}*)*"
_PATH = f"/(?:{_SEGMENT}+(?:/{_SEGMENT}*)*)?|{_SEGMENT}+(?:/{_SEGMENT}*)*|"

#: Format -> a pattern for the whole of a text.
PATTERNS: dict[str, str] = {
    **EXACT,
    "duration": f"^P(?:(?:{_CALENDAR})(?:T(?:{_CLOCK}))?|T(?:{_CLOCK})|[0-9]+W)$",
    "email": rf"^{_ATOM}(?:\.{_ATOM})*@(?:{_NAME}(?:\.{_NAME})*|\[{_IPV4}\])$",
    "hostname": rf"^{_LABEL}(?:\.{_LABEL})*$",
    "ipv4": f"^{_IPV4}$",
    "ipv6": f"^(?:{_IPV6})$",
    "uri": rf"^[a-zA-Z][a-zA-Z0-9+\-.]*:(?:{_AUTHORITY}|{_PATH})(?:\?{_TAIL})?(?:#{_TAIL})?$",
    "uuid": f"^{_HEX}{{8}}-(?:{_HEX}{{4}}-){{3}}{_HEX}{{12}}$",
    "unknown": "",
}
