"""The Berkeley Function Calling Leaderboard: its cases, its types as JSON Schema, and its AST match.

The match follows `eval_checker/ast_eval/ast_checker.py` of bfcl_eval for Python, rule by rule, its oddities included:
a figure is comparable only if a call counts here exactly where it counts there. Error names are its own. Knows nothing
of models, prompts or grammars.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SUITES = ("simple_python", "multiple")

Schema = dict[str, Any]
Call = Mapping[str, Mapping[str, Any]]  # {name: arguments}, as BFCL has a decoded call

#: BFCL's names of types -> JSON Schema's, as bfcl_eval's own conversion for OpenAPI has them.
JSON_TYPES = {
    "integer": "integer",
    "float": "number",
    "string": "string",
    "boolean": "boolean",
    "array": "array",
    "tuple": "array",
    "dict": "object",
    "any": "string",
}

_PYTHON_TYPES: dict[str, type] = {
    "string": str,
    "integer": int,
    "float": float,
    "boolean": bool,
    "array": list,
    "tuple": list,
    "dict": dict,
    "any": str,
}


@dataclass(frozen=True, slots=True)
class Case:
    """One question, the functions that may be called, and the calls that count as right.

    `truth` is {name: {parameter: [acceptable values]}}; "" among them says that the parameter may be left out.
    """

    id: str
    suite: str
    question: str
    functions: tuple[Mapping[str, Any], ...]
    truth: Mapping[str, Mapping[str, Sequence[Any]]]


def data_folder(name: str, given: str | None = None) -> Path:
    """Where evaluation data lies: `given`, or `name` below $LOCALMEM_DATA, or below ../shared/data."""
    if given is not None:
        return Path(given)
    root = os.environ.get("LOCALMEM_DATA")
    return (Path(root) if root else Path(__file__).resolve().parents[2] / "shared" / "data") / name


def load_cases(folder: Path, suite: str, count: int | None = None) -> list[Case]:
    """The first `count` cases of a suite; all of them if that is None."""
    answers = {row["id"]: row["ground_truth"] for row in _rows(folder / f"{suite}.answers.jsonl")}
    cases = []
    for row in _rows(folder / f"{suite}.jsonl")[:count]:
        question = "\n".join(message["content"] for turn in row["question"] for message in turn)
        (truth,) = answers[row["id"]]
        cases.append(Case(row["id"], suite, question, tuple(row["function"]), truth))
    return cases


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


# -- types


def parameters_schema(description: Mapping[str, Any]) -> Schema:
    """BFCL's description of a function's parameters (or of one) as JSON Schema, texts for the reader included.

    What BFCL says beside the type without a meaning of its own (`optional`, `format`) is left out: whether a parameter
    may be left out is what `required` says.
    """
    schema: Schema = {"type": JSON_TYPES[description["type"]]}
    for keyword in ("description", "default", "enum", "minimum", "maximum"):
        if keyword in description:
            schema[keyword] = description[keyword]
    if schema["type"] == "array" and "items" in description:
        schema["items"] = parameters_schema(description["items"])
    if schema["type"] == "object" and "properties" in description:
        schema["properties"] = {key: parameters_schema(value) for key, value in description["properties"].items()}
        schema["required"] = [key for key in description.get("required", ()) if key in schema["properties"]]
        schema["additionalProperties"] = False
    return schema


def plain(schema: Mapping[str, Any]) -> Schema:
    """`schema` without the texts that are for its reader only: what a grammar is made of."""
    kept = {key: value for key, value in schema.items() if key not in ("description", "default", "title")}
    if "items" in kept:
        kept["items"] = plain(kept["items"])
    if "properties" in kept:
        kept["properties"] = {key: plain(value) for key, value in kept["properties"].items()}
    return kept


# -- the match


def mismatch(case: Case, calls: Sequence[Call]) -> str | None:
    """BFCL's name of the error in `calls`, what a model wrote for `case`; None if they are right."""
    multiple = case.suite == "multiple"
    if len(calls) != 1:
        return "multiple_function_checker:wrong_count" if multiple else "simple_function_checker:wrong_count"
    (name, truth), *_ = case.truth.items()
    named = [function for function in case.functions if function["name"] == name]
    return _function_error((named if multiple else case.functions)[0], calls[0], truth)


def _function_error(function: Mapping[str, Any], call: Call, truth: Mapping[str, Sequence[Any]]) -> str | None:
    if function["name"] not in call:
        return "simple_function_checker:wrong_func_name"
    arguments = call[function["name"]]
    described = function["parameters"]["properties"]
    if any(name not in arguments for name in function["parameters"]["required"]):
        return "simple_function_checker:missing_required"
    for name, value in arguments.items():
        if name not in described or name not in truth:
            return "simple_function_checker:unexpected_param"
        error = _argument_error(described[name], value, truth[name])
        if error is not None:
            return error
    if any(name not in arguments and "" not in answers for name, answers in truth.items()):
        return "simple_function_checker:missing_optional"
    return None


def _argument_error(described: Mapping[str, Any], value: Any, answers: Sequence[Any]) -> str | None:
    kind = described["type"]
    expected = _PYTHON_TYPES[kind]
    nested = _PYTHON_TYPES[described["items"]["type"]] if expected is list else None
    if kind == "float" and type(value) is int:
        value = float(value)
    error, is_variable = _type_error(value, answers, expected, nested)
    if error is not None:
        return error
    if not is_variable:
        if expected is dict:
            return _dict_error(value, answers)
        if expected is list and nested is dict:
            return _dicts_error(value, answers)
        if expected is str:
            texts = [standardized(answer) for answer in answers if isinstance(answer, str)]
            return None if standardized(value) in texts else "value_error:string"
        if expected is list:
            lists = [[standardized(item) for item in answer] for answer in answers]
            return None if [standardized(item) for item in value] in lists else "value_error:list/tuple"
    return None if value in answers else "value_error:others"


def _type_error(value: Any, answers: Sequence[Any], expected: type, nested: type | None) -> tuple[str | None, bool]:
    """The error, and whether `value` is a variable's name: acceptable answers of another type than the described one.

    Types are compared exactly: True is no integer, and inside a list 1 is no float unless the answer has it so.
    """
    items: Any = value
    answered = next((type(answer) for answer in answers if answer != ""), None)
    is_variable = answered is not None and answered is not expected
    if type(value) is expected:
        if nested is None:
            return None, is_variable
        for answer in answers:
            if not isinstance(answer, list) or all(_type_error(v, answer, nested, None)[0] is None for v in items):
                return None, is_variable
        return "type_error:nested", False
    if answered is not None and type(value) is answered:
        return None, True
    return "type_error:simple", False


def _dict_error(value: Mapping[str, Any], answers: Sequence[Any]) -> str | None:
    """Compared one level deep, as BFCL does; the error is that of the last acceptable answer."""
    error: str | None = "dict_checker:unclear"
    for answer in answers:
        if answer == "":
            continue
        error = _dict_differs(value, answer)
        if error is None:
            return None
    return error


def _dict_differs(value: Mapping[str, Any], answer: Mapping[str, Sequence[Any]]) -> str | None:
    error = None
    for key, item in value.items():
        if key not in answer:
            error = "value_error:dict_key"
            break
        if standardized(item) not in [standardized(accepted) for accepted in answer[key]]:
            error = "value_error:dict_value"
            break
    if any(key not in value and "" not in accepted for key, accepted in answer.items()):
        error = "value_error:dict_key"
    return error


def _dicts_error(value: Sequence[Mapping[str, Any]], answers: Sequence[Any]) -> str | None:
    error: str | None = "list_dict_checker:unclear"
    for answer in answers:
        if len(value) != len(answer):
            error = "value_error:list_dict_count"
            continue
        errors = (_dict_error(item, [accepted]) for item, accepted in zip(value, answer, strict=True))
        error = next((found for found in errors if found is not None), None)
        if error is None:
            return None
    return error


def standardized(value: Any) -> Any:
    """A text in lower case without spaces and ,./-_*^ and with double quotes for single ones; the rest as it is."""
    if not isinstance(value, str):
        return value
    return re.sub(r"[ \,\.\/\-\_\*\^]", "", value).lower().replace("'", '"')
