"""The reply's schema: where it may be written, what it may be, and that it is kept to."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.io.specs import contract
from tests.io.test_processing import done, refused
from zoo.errors import ContractError
from zoo.io.schema import schema_of

TEXT = " It rained.\n\nBoats  came in.\tNight fell.  "


def test_a_reply_that_breaks_its_schema_is_refused_with_the_place() -> None:
    schema = {
        "type": "array",
        "items": {"properties": {"r": {"type": "integer", "minimum": 0}}, "required": ["r"]},
    }
    refused("ZO122", (1, "r"), [{"r": 0}, {"r": -1}], response_format=schema)
    refused("ZO122", (0,), [{}], response_format=schema)
    assert done([{"r": 0}], response_format=schema) == [{"r": 0}]


NUMBER = {"type": "integer"}
SPELLINGS: tuple[dict[str, Any], ...] = (
    {"response_format": NUMBER},
    {"parameters": {"response_format": {"type": "json_schema", "json_schema": {"schema": NUMBER}}}},
    {"parameters": {"structured_outputs": {"json": NUMBER}}},
    {"parameters": {"extra_body": {"structured_outputs": {"json": NUMBER}}}},
    {"parameters": {"extra_body": {"structured_outputs": {"json": json.dumps(NUMBER)}}}},
    {"parameters": {"guided_json": NUMBER}},
    {"parameters": {"extra_body": {"guided_json": json.dumps(NUMBER)}}},
)


@pytest.mark.parametrize("fields", SPELLINGS)
def test_a_schema_is_checked_wherever_it_is_written(fields: dict[str, Any]) -> None:
    refused("ZO122", (), '"yes"', **fields)
    refused("ZO122", (), {"a": 1}, **fields)
    assert done(7, **fields) == 7


def test_a_schema_written_as_text_is_read_once() -> None:
    spec = contract(parameters={"guided_json": json.dumps(NUMBER)})
    found = schema_of(spec)
    assert found is not None
    assert schema_of(spec) is found
    assert schema_of(contract()) is None
    refused("ZO133", ("parameters",), 7, parameters={"guided_json": "{"})
    refused("ZO133", ("parameters", "guided_json"), 7, parameters={"guided_json": {"type": "nothing"}})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nope"},
        {"$ref": "#/nope"},
        {"$ref": "https://example.com/s"},
        {"pattern": "("},
        {"minimum": "x"},
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any]) -> None:
    refused("ZO133", ("response_format",), 1, response_format=schema)


LEAVES: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, 1, -3, 1.0, 2.5, "", "a", "ab", "é", [], {}]
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner)
)
SCHEMAS = st.recursive(
    st.sampled_from(
        [
            {"type": "integer"},
            {"type": ["string", "null"]},
            {"enum": [1, "a", None]},
            {"minimum": 1},
            {"minLength": 2},
            {"pattern": "^a"},
            {"uniqueItems": True},
            {"const": False},
            {"maxItems": 1},
            {"multipleOf": 0.5},
        ]
    ),
    lambda inner: st.one_of(
        st.builds(lambda left, right: {"anyOf": [left, right]}, inner, inner),
        st.builds(lambda left, right: {"oneOf": [left, right]}, inner, inner),
        st.builds(lambda item: {"not": item}, inner),
        st.builds(lambda item: {"items": item}, inner),
        st.builds(lambda item: {"properties": {"a": item}, "additionalProperties": False}, inner),
        st.builds(lambda item: {"properties": {"a": item}, "required": ["a"]}, inner),
    ),
    max_leaves=4,
)


@settings(derandomize=True, max_examples=150)
@given(SCHEMAS, VALUES)
def test_the_validator_agrees_with_the_python_reference(schema: dict[str, Any], value: Any) -> None:
    accepted = jsonschema.Draft202012Validator(schema).is_valid(value)
    if accepted:
        assert done(json.dumps(value), response_format=schema) == value
    else:
        with pytest.raises(ContractError, match="ZO122"):
            done(json.dumps(value), response_format=schema)
