"""The places of a result, from its schema through the transformations, beside what the executor returns."""

import json
from typing import Any

from zoo.contracts.fields import Field, fields
from zoo.io import process
from zoo.specs.io import IOSpec
from zoo.specs.io_pipeline import trace

RECORDS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "r": {"type": "integer", "minimum": 0},
            "c": {"type": "array", "items": {"type": "integer"}},
        },
        "required": ["r", "c"],
    },
}
CITATIONS: list[dict[str, Any]] = [
    {"type": "explode", "target_field": "c"},
    {"type": "drop_duplicates", "target_fields": ["r", "c"]},
    {
        "type": "decode_sentences",
        "source": "last_message",
        "input_path": [None, "r"],
        "output_names": {"begin": "response_begin", "end": "response_end", "text": "response_text"},
    },
    {
        "type": "decode_sentences",
        "source": "documents",
        "input_path": [None, "c"],
        "output_names": {"document_id": "doc", "begin": "begin", "end": "end", "text": "text"},
    },
    {
        "type": "project",
        "retained_fields": ["response_begin", "response_end", "response_text", "doc", "begin", "end", "text"],
    },
    {
        "type": "merge_spans",
        "group_fields": ["response_begin", "response_end", "response_text", "doc"],
        "begin_field": "begin",
        "end_field": "end",
        "text_field": "text",
    },
]


def spec(schema: Any, transformations: list[dict[str, Any]]) -> IOSpec:
    return IOSpec.model_validate({"response_format": schema, "transformations": transformations})


def places(schema: Any, transformations: list[dict[str, Any]]) -> dict[str, Field]:
    return fields(trace(spec(schema, transformations)).result)


def found_in(value: Any, place: str = "$") -> dict[str, set[str]]:
    """The places of a value with their JSON types, by another road than a schema."""
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
    match value:
        case dict():
            found = {place: {"object"}}
            for name, inner in value.items():
                found |= found_in(inner, f"{place}.{name}")
        case list():
            found = {place: {"array"}}
            for inner in value:
                for where, types in found_in(inner, f"{place}[]").items():
                    found[where] = found.get(where, set()) | types
        case _:
            found = {place: {kinds[type(value)]}}
    return found


REQUEST = {
    "messages": [{"role": "user", "content": "Colour?"}, {"role": "assistant", "content": "Green. Or blue."}],
    "extra_body": {"documents": [{"doc_id": "1", "text": "It is green. It was blue."}]},
}


def test_citations_end_as_flat_spans_as_the_executor_returns_them() -> None:
    boundaries = {"last_message": "r", "documents": "c"}
    given = spec(json.dumps(RECORDS), CITATIONS).model_copy(update={"sentence_boundaries": boundaries})
    result = process(given, '[{"r": 0, "c": [0]}, {"r": 1, "c": [1, 1]}]', REQUEST)
    derived = places(RECORDS, CITATIONS)
    returned = found_in(result)
    assert set(derived) == set(returned)
    assert all(types <= derived[place].types for place, types in returned.items())
    assert derived["$[].doc"].types == {"string", "null"}
    assert set(places(RECORDS, CITATIONS[:-2])) > set(derived)  # without the projection there is more


def test_a_likelihood_in_a_nest_is_a_number_in_an_object() -> None:
    label = {"type": "string", "enum": ["answerable", "unanswerable"]}
    rules: list[dict[str, Any]] = [
        {"type": "likelihood", "categories_to_values": {"answerable": 1.0, "unanswerable": 0.0}},
        {"type": "nest", "field_name": "answerability_likelihood"},
    ]
    found = places(label, rules)
    assert found["$"].types == {"object"}
    assert found["$.answerability_likelihood"].types == {"number"}
    assert found["$.answerability_likelihood"].values is None
    assert places(label, rules[1:])["$.answerability_likelihood"].values is not None


def test_a_nest_at_a_field_keeps_what_is_beside_it() -> None:
    schema = {
        "type": "object",
        "properties": {"score": {"enum": ["yes", "no"]}, "why": {"type": "string"}},
        "required": ["score"],
    }
    rules = [{"type": "nest", "input_path": ["score"], "field_name": "label"}]
    found = places(schema, rules)
    assert set(found) == {"$", "$.score", "$.score.label", "$.why"}
    assert not found["$.why"].always  # the schema does not require it
    assert found["$.score.label"].always
    assert found["$.score.label"].values == ("yes", "no")


def test_references_and_alternatives() -> None:
    schema = {
        "$defs": {"yes": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}},
        "anyOf": [
            {"$ref": "#/$defs/yes"},
            {"type": "object", "properties": {"a": {"type": "string"}, "b": {}}, "required": ["a", "b"]},
        ],
    }
    found = places(schema, [{"type": "nest", "field_name": "n"}])
    assert found["$.n.a"].types == {"integer", "string"}
    assert found["$.n.a"].always
    assert not found["$.n.b"].always


def test_what_cannot_be_followed_may_be_anything() -> None:
    wrong = places(RECORDS, [{"type": "explode", "target_field": "missing"}])
    assert set(wrong) == {"$"}
    assert wrong["$"].describe() == "anything"
    assert fields(trace(IOSpec()).result)["$"].describe() == "anything"


def test_names_that_are_no_words_are_quoted() -> None:
    schema = {"type": "object", "properties": {"a.b": {"type": "integer"}, "c-d": {}}, "required": ["a.b"]}
    assert set(places(schema, [])) == {"$", "$.'a.b'", "$.c-d"}
