"""Schemas that somebody else wrote: what is refused, what is cheap, and what the shortest reply is."""

import json
import re
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.specs.json_pattern import PatternError, check_pattern
from zoo.specs.json_schema import SchemaFaultError, check_schema, oddities
from zoo.specs.shortest import shortest_reply, whole_replies

CHEAP = (r"^[a-z]{1,20}(-[a-z]{1,9})?$", r"^\d{4}-\d{2}-\d{2}$", r"^(yes|no)$", r"[A-Z]\w*", r"^$", r"a{3}b+")
DEAR = (
    r"(a+)+$", r"(a|aa)+$", "(a|aa)" * 10 + "$", r"a*a*a*a*$",
    r"(\w*\d*)*$", r"(?=a)b", r"(a)\1", r"a{1,2000}b{1,2000}", r"(a{0,50}){0,50}", "a" * 400, r"(",
    r"(?P<n>a)(?P=n)",
)  # fmt: skip


@pytest.mark.parametrize("pattern", CHEAP)
def test_an_ordinary_pattern_is_taken(pattern: str) -> None:
    check_pattern(pattern)
    check_schema({"type": "string", "pattern": pattern})


@pytest.mark.parametrize("pattern", DEAR)
def test_a_dear_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError):
        check_pattern(pattern)
    with pytest.raises(SchemaFaultError) as caught:
        check_schema({"properties": {"a": {"type": "string", "pattern": pattern}}})
    assert caught.value.code == "ZO011"
    assert caught.value.path == ("properties", "a", "pattern")


PARTS = st.recursive(
    st.sampled_from(["a", "b", "[ab]", r"\w", "."]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("".join),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{0,3}", "{2}"])).map(lambda p: f"(?:{p[0]}){p[1]}"),
        st.lists(inner, min_size=2, max_size=3).map(lambda options: "(?:" + "|".join(options) + ")"),
    ),
    max_leaves=12,
)


@given(PARTS)
@settings(max_examples=100, deadline=None)
def test_what_is_taken_matches_in_bounded_time(pattern: str) -> None:
    try:
        check_pattern(pattern + "$")
    except PatternError:
        return
    begin = time.process_time()
    re.search(pattern + "$", "a" * 800 + "!")  # Python's matcher has no guard of its own
    assert time.process_time() - begin < 2


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strin"}, {"required": "a"}, {"minimum": "0"}, {"properties": []}, {"enum": "a"},
        {"$ref": "#/$defs/x", "$defs": {}}, {"items": {"$id": "urn:x"}},
        {"$dynamicRef": "#x"}, {"$ref": "other.json"},
        {"$defs": {"A": {"items": {"$ref": "#/$defs/A"}}}, "$ref": "#/$defs/A"}, {"enum": list(range(6000))},
    ],
)  # fmt: skip
def test_no_schema_or_an_endless_one_is_refused(schema: dict[str, object]) -> None:
    with pytest.raises(SchemaFaultError) as caught:
        check_schema(schema)
    assert caught.value.code in ("ZO008", "ZO009")


def test_what_the_checker_refuses_as_no_schema_another_validator_refuses_too() -> None:
    wrong: list[dict[str, Any]] = [{"type": "strin"}, {"required": "a"}, {"minimum": "0"}, {"properties": []}]
    for schema in wrong:
        with pytest.raises(jsonschema.SchemaError):
            jsonschema.Draft202012Validator.check_schema(schema)
        with pytest.raises(SchemaFaultError):
            check_schema(schema)


def test_an_older_draft_is_taken() -> None:
    check_schema({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]})


@pytest.mark.parametrize(
    ("schema", "certain"),
    [
        ({"properties": {"a": {}}, "required": ["b"]}, False),
        ({"properties": {"a": {}}, "required": ["b"], "additionalProperties": False}, True),
        ({"enum": []}, True),
        ({"type": "integer", "enum": ["1"]}, True),
        ({"type": "array", "properties": {"a": {}}}, False),
    ],
)
def test_a_schema_that_cannot_be_meant_is_odd(schema: dict[str, object], certain: bool) -> None:
    (found,) = oddities(schema)
    assert found[2] is certain
    assert not list(oddities({"type": "object", "properties": {"a": {}}, "required": ["a"]}))


SCHEMAS: dict[str, tuple[dict[str, object], str | None]] = {
    "enum": ({"enum": ["unanswerable", "answerable"]}, '"answerable"'),
    "object": ({"type": "object", "properties": {"b": {"type": "integer"}}, "required": ["b"]}, '{"b":0}'),
    "empty object": ({"type": "object", "properties": {"b": {"type": "integer"}}}, "{}"),
    "array": ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, "[true,true]"),
    "bounds": ({"type": "integer", "minimum": 12}, "12"),
    "below": ({"type": "integer", "maximum": -7}, "-7"),
    "string": ({"type": "string", "minLength": 3}, '"aaa"'),
    "either": ({"anyOf": [{"type": "string", "minLength": 9}, {"type": "null"}]}, "null"),
    "reference": ({"$ref": "#/$defs/A", "$defs": {"A": {"const": 5}}}, "5"),
    "pattern": ({"type": "string", "pattern": "^[0-9]{4}$"}, None),
    "nothing": ({"type": "integer", "minimum": 5, "maximum": 3}, None),
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_shortest_reply_is_valid_or_not_known(name: str) -> None:
    schema, wanted = SCHEMAS[name]
    found = shortest_reply(schema)
    assert found == wanted
    if found is not None:
        jsonschema.validate(json.loads(found), schema)


def test_enumerated_replies_are_listed_as_they_are_written() -> None:
    score = {"type": "object", "properties": {"score": {"enum": ["yes", "no"]}}, "required": ["score"]}
    assert whole_replies(score) == ['{"score": "yes"}', '{"score": "no"}']
    assert whole_replies({"enum": [1, "é"]}) == ["1", '"é"']
    assert whole_replies({"type": "string"}) is None
