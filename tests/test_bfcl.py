"""BFCL's AST match as a table of calls that count and calls that do not, written from bfcl_eval's rules."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.bfcl import SUITES, Case, data_folder, load_cases, mismatch, parameters_schema, plain, standardized

PARAMETERS: dict[str, Any] = {
    "type": "dict",
    "properties": {
        "city": {"type": "string", "description": "Where."},
        "days": {"type": "integer"},
        "rate": {"type": "float"},
        "wet": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "point": {"type": "tuple", "items": {"type": "float"}},
        "where": {"type": "dict", "properties": {"x": {"type": "integer"}, "name": {"type": "string"}}},
        "rows": {"type": "array", "items": {"type": "dict"}},
        "data": {"type": "any"},
    },
    "required": ["city"],
}
CITY = {"city": ["Lisbon", "Lisbon, Portugal"]}


def case(truth: dict[str, Any], suite: str = "simple_python") -> Case:
    functions = ({"name": "get.weather", "parameters": PARAMETERS}, {"name": "other", "parameters": PARAMETERS})
    return Case("c", suite, "?", functions if suite == "multiple" else functions[:1], {"get.weather": CITY | truth})


@pytest.mark.parametrize(
    ("truth", "given"),
    [
        ({}, {}),
        ({}, {"city": "lisbon,portugal"}),  # case, spaces and ,./-_*^ do not count
        ({}, {"city": "LIS_BON"}),
        ({"days": [3, ""]}, {}),  # "" says that it may be left out
        ({"days": [3, ""]}, {"days": 3}),
        ({"days": [3, 4]}, {"days": 4}),
        ({"rate": [2.0]}, {"rate": 2}),  # an integer is taken for a float
        ({"rate": [2]}, {"rate": 2.0}),
        ({"wet": [True]}, {"wet": True}),
        ({"tags": [["a", "b"], ["c"]]}, {"tags": ["C"]}),
        ({"tags": [["it's"]]}, {"tags": ['IT"S']}),  # quotes are alike
        ({"tags": [""]}, {"tags": []}),  # an oddity: "" stands for the empty list, too
        ({"point": [[1.5, 2.0]]}, {"point": [1.5, 2.0]}),
        ({"point": [[1, 2]]}, {"point": [1, 2]}),  # the answer has integers where floats are described
        ({"where": [{"x": [1], "name": ["A b"]}]}, {"where": {"name": "ab", "x": 1}}),
        ({"where": [{"x": [1, ""]}]}, {"where": {}}),
        ({"where": ["", {"x": [1]}]}, {"where": {"x": 1}}),
        ({"rows": [[{"x": [1]}, {"x": [2]}]]}, {"rows": [{"x": 1}, {"x": 2}]}),
        ({"data": [["variable"]]}, {"data": ["variable"]}),  # answers of another type than the described one
        ({"days": ["variable"]}, {"days": "variable"}),
    ],
)
def test_calls_that_match(truth: dict[str, Any], given: dict[str, Any]) -> None:
    for suite in SUITES:
        assert mismatch(case(truth, suite), [{"get.weather": {"city": "Lisbon", **given}}]) is None


@pytest.mark.parametrize(
    ("truth", "given", "error"),
    [
        ({}, {"city": "Porto"}, "value_error:string"),
        ({}, {"city": "Lisbon!"}, "value_error:string"),
        ({}, {"city": 1}, "type_error:simple"),
        ({}, {"days": 3}, "simple_function_checker:unexpected_param"),  # described, but no answer has it
        ({"elsewhere": ["x", ""]}, {"elsewhere": "x"}, "simple_function_checker:unexpected_param"),
        ({"days": [3]}, {}, "simple_function_checker:missing_optional"),
        ({"days": [3]}, {"days": 4}, "value_error:others"),
        ({"days": [3]}, {"days": 3.0}, "type_error:simple"),  # a float is not taken for an integer
        ({"days": [1]}, {"days": True}, "type_error:simple"),
        ({"days": [3]}, {"days": "3"}, "type_error:simple"),
        ({"days": [3, ""]}, {"days": ""}, "type_error:simple"),
        ({"rate": [2.5]}, {"rate": "2.5"}, "type_error:simple"),
        ({"wet": [True]}, {"wet": False}, "value_error:others"),
        ({"wet": [True]}, {"wet": "true"}, "type_error:simple"),
        ({"wet": [True]}, {"wet": None}, "type_error:simple"),
        ({"tags": [["a", "b"]]}, {"tags": ["b", "a"]}, "value_error:list/tuple"),
        ({"tags": [["a"]]}, {"tags": "a"}, "type_error:simple"),
        ({"tags": [["a"]]}, {"tags": [1]}, "type_error:nested"),
        ({"point": [[1.5, 2.0]]}, {"point": [1.5, 2]}, "type_error:nested"),  # inside a list 2 is no 2.0
        ({"where": [{"x": [1]}]}, {"where": {"x": 2}}, "value_error:dict_value"),
        ({"where": [{"x": [1]}]}, {"where": {"x": 1, "y": 1}}, "value_error:dict_key"),
        ({"where": [{"x": [1]}]}, {"where": {}}, "value_error:dict_key"),
        ({"rows": [[{"x": [1]}]]}, {"rows": [{"x": 1}, {"x": 1}]}, "value_error:list_dict_count"),
        ({"rows": [[{"x": [1]}]]}, {"rows": [{"x": 2}]}, "value_error:dict_value"),
        ({"data": ["variable"]}, {"data": 1}, "type_error:simple"),
    ],
)
def test_calls_that_do_not_match(truth: dict[str, Any], given: dict[str, Any], error: str) -> None:
    for suite in SUITES:
        assert mismatch(case(truth, suite), [{"get.weather": {"city": "Lisbon", **given}}]) == error


def test_the_function_is_the_one_that_is_asked_for_and_the_only_one() -> None:
    right = {"get.weather": {"city": "Lisbon"}}
    for suite, prefix in (("simple_python", "simple"), ("multiple", "multiple")):
        for calls in ([], [right, right]):
            assert mismatch(case({}, suite), calls) == f"{prefix}_function_checker:wrong_count"
        # Names are compared as they are, dots and all.
        for name in ("other", "get_weather", "Get.Weather"):
            wrong = mismatch(case({}, suite), [{name: {"city": "Lisbon"}}])
            assert wrong == "simple_function_checker:wrong_func_name"
    assert mismatch(case({}), [{"get.weather": {}}]) == "simple_function_checker:missing_required"


def test_standardized() -> None:
    assert standardized("St. John's-by_the/Sea, *2^3*") == 'stjohn"sbythesea23'
    assert standardized(3) == 3


def test_types_become_json_schema() -> None:
    schema = parameters_schema(PARAMETERS)
    assert schema["properties"]["city"] == {"type": "string", "description": "Where."}
    assert plain(schema)["properties"] == {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "rate": {"type": "number"},
        "wet": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "point": {"type": "array", "items": {"type": "number"}},
        "where": {
            "type": "object",
            "properties": {"x": {"type": "integer"}, "name": {"type": "string"}},
            "required": [],
            "additionalProperties": False,
        },
        "rows": {"type": "array", "items": {"type": "object"}},
        "data": {"type": "string"},
    }
    assert (schema["required"], schema["additionalProperties"]) == (["city"], False)


def test_the_first_acceptable_answer_of_each_case_matches() -> None:
    folder = data_folder("bfcl")
    if not folder.is_dir():
        pytest.skip(f"no BFCL cases in {folder}")
    for suite in SUITES:
        for one in load_cases(folder, suite):
            ((name, truth),) = one.truth.items()
            told = {key: [value for value in values if value != ""] for key, values in truth.items()}
            given = {key: _value(values[0]) for key, values in told.items() if values}
            assert mismatch(one, [{name: given}]) is None, one.id
            assert mismatch(one, [{name: given | {"no such parameter": 1}}]) is not None, one.id


def _value(answer: Any) -> Any:
    """An acceptable answer as a model would write it: the values of a dict are lists of acceptable ones."""
    if isinstance(answer, list):
        return [_value(item) for item in answer]
    if isinstance(answer, dict):
        return {key: values[0] for key, values in answer.items() if values[0] != ""}
    return answer
