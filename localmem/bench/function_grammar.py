"""The grammar of a fresh agent's first call as a GBNF file: `python -m localmem.bench.function_grammar FILE`.

It is for people to read and to try in llama.cpp. An agent never uses it: the grammar of each of its calls is made from
live state before the step.
"""

from __future__ import annotations

import sys
from pathlib import Path

from localmem.bench.first_call import first_request
from localmem.engine.scripted import ScriptedEngine
from localmem.grammar.gbnf import write_gbnf
from localmem.grammar.json_rules import json_rules

_HEADER = """\
# One function call of a fresh agent with a window of 4,608 tokens: what it may write after the first
# message, with one text in archival storage.
#
# Generated from the built-in functions; to make it anew:
#   python -m localmem.bench.function_grammar grammars/function_call.gbnf
# It is an example. The grammar of every call is made from live state before the step: which functions exist, the blocks
# and their lines, the room that is left in them, the days that have messages, and pages that there are.

"""


def function_call_gbnf() -> str:
    """The text of grammars/function_call.gbnf."""
    schema = first_request(ScriptedEngine(n_ctx=4608), "compact", 512).source.schema
    return _HEADER + write_gbnf(json_rules(schema), few=1999)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Say which file to write: python -m localmem.bench.function_grammar grammars/function_call.gbnf")
    Path(sys.argv[1]).write_text(function_call_gbnf(), encoding="utf-8")
