"""Following a reply's shape through the transformations, against the executor on real values."""

import json
from typing import Any

import jsonschema
import pytest

from tests.specs.intrinsics import INTRINSICS, Intrinsic, alternatives, choice
from zoo.errors import ContractError
from zoo.io import process
from zoo.specs.io import IOSpec
from zoo.specs.io_file import read_io
from zoo.specs.io_pipeline import result_schema, trace
from zoo.specs.json_shape import Anything, Scalar, shape_of


@pytest.mark.parametrize("intrinsic", INTRINSICS, ids=lambda one: one.name)
def test_a_contract_in_order_has_no_problem_and_its_results_have_the_traced_schema(
    intrinsic: Intrinsic,
) -> None:
    spec = read_io(intrinsic.path)
    assert not trace(spec).problems
    schema = result_schema(spec)
    assert schema
    for reply in intrinsic.replies:
        text = json.dumps(reply, ensure_ascii=False)
        result = process(spec, choice(text, alternatives(spec.reply_schema)), intrinsic.request)
        jsonschema.validate(result, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"nobody": {"writes": "this"}}, {**schema, "additionalProperties": False})


def spec_of(schema: dict[str, Any] | None, *rules: dict[str, Any], **more: Any) -> IOSpec:
    return IOSpec.model_validate({"response_format": schema, "transformations": list(rules), **more})


def record(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


NUMBER = {"type": "integer", "minimum": 0}
LIST = {"type": "array", "items": record(r=NUMBER, c={"type": "array", "items": NUMBER})}
CITED = [{"r": 0, "c": [0]}]
SCORE = record(score={"type": "string", "enum": ["yes", "no"]})
LIKELY = {"type": "likelihood", "input_path": ["score"], "categories_to_values": {"yes": 1.0, "no": 0.0}}
SPANS = {"type": "array", "items": record(g={"type": "string"}, b=NUMBER, e=NUMBER)}
MERGE = {"type": "merge_spans", "group_fields": ["g"], "begin_field": "b", "end_field": "e"}

# what is wrong: schema, transformations, a reply that the schema allows, and a word of the message
WRONG: dict[str, tuple[dict[str, Any], list[dict[str, Any]], Any, str]] = {
    "a misspelt field": (
        SCORE,
        [{**LIKELY, "input_path": ["scor"]}],
        {"score": "yes"},
        "did you mean 'score'",
    ),
    "a path through a literal": (
        SCORE,
        [{**LIKELY, "input_path": ["score", "x"]}],
        {"score": "no"},
        "goes on",
    ),
    "a wildcard in a literal": (
        SCORE,
        [{**LIKELY, "input_path": ["score", None]}],
        {"score": "no"},
        "wildcard",
    ),
    "an element that may be absent": (
        LIST,
        [{"type": "nest", "input_path": [0], "field_name": "x"}],
        [],
        "element 0",
    ),
    "a field that may be absent": (
        {"type": "object", "properties": {"score": {"enum": ["yes", "no"]}}},
        [LIKELY],
        {},
        "required",
    ),
    "a value without a number": (
        SCORE,
        [{**LIKELY, "categories_to_values": {"yes": 1.0}}],
        {"score": "no"},
        "'no'",
    ),
    "a number of another type": (
        record(score={"enum": ["1", "2"]}),
        [{**LIKELY, "categories_to_values": {1: 0.0, 2: 1.0}}],
        {"score": "1"},
        "integer",
    ),
    "likelihood of what was computed": (SCORE, [LIKELY, LIKELY], {"score": "yes"}, "no tokens"),
    "likelihood of an object": (SCORE, [{**LIKELY, "input_path": []}], {"score": "yes"}, "an object"),
    "explode of a number": (LIST, [{"type": "explode", "target_field": "r"}], CITED, "not a list"),
    "explode of an object": (
        SCORE,
        [{"type": "explode", "target_field": "score"}],
        {"score": "yes"},
        "no list",
    ),
    "explode twice": (LIST, [{"type": "explode", "target_field": "c"}] * 2, CITED, "integer"),
    "a kept field that is not there": (LIST, [{"type": "project", "retained_fields": ["x"]}], CITED, "'x'"),
    "two fields of one name": (
        LIST,
        [{"type": "project", "retained_fields": {"r": "a", "c": "a"}}],
        CITED,
        "one name",
    ),
    "a key that is not there": (LIST, [{"type": "drop_duplicates", "target_fields": ["x"]}], CITED, "'x'"),
    "merging other fields away": (
        {"type": "array", "items": record(g={"type": "string"}, b=NUMBER, e=NUMBER, x=NUMBER)},
        [{"type": "drop_duplicates", "target_fields": ["b"]}, MERGE],
        [{"g": "a", "b": 0, "e": 1, "x": 2}],
        "project",
    ),
    "merging equal records": (SPANS, [MERGE], [{"g": "a", "b": 0, "e": 1}] * 2, "drop_duplicates"),
    "merging words": (
        {"type": "array", "items": record(g={"type": "string"}, b={"type": "string"}, e=NUMBER)},
        [{"type": "drop_duplicates", "target_fields": ["b"]}, MERGE],
        [{"g": "a", "b": "0", "e": 1}],
        "string",
    ),
    "decoding a word": (
        record(r={"type": "string"}),
        [
            {
                "type": "decode_sentences",
                "source": "documents",
                "input_path": ["r"],
                "output_names": {"text": "t"},
            }
        ],
        {"r": "0"},
        "integer",
    ),
    "decoding the whole reply": (
        NUMBER,
        [{"type": "decode_sentences", "source": "documents", "output_names": {"text": "t"}}],
        0,
        "field",
    ),
    "overwriting a field": (
        record(r=NUMBER, t=NUMBER),
        [
            {
                "type": "decode_sentences",
                "source": "documents",
                "input_path": ["r"],
                "output_names": {"text": "t"},
            }
        ],
        {"r": 0, "t": 1},
        "overwrite",
    ),
    "one kind of several": (
        {"anyOf": [SCORE, record(other=NUMBER)]},
        [LIKELY],
        {"other": 1},
        "score",
    ),
}
REQUEST = {
    "messages": [{"role": "user", "content": "Is it? It is."}],
    "extra_body": {"documents": [{"doc_id": "0", "text": "It is so. It was so."}]},
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_beforehand_and_fails_in_the_executor(name: str) -> None:
    schema, rules, reply, word = WRONG[name]
    spec = spec_of(schema, *rules, sentence_boundaries={"documents": "c"})
    problems = [problem for problem in trace(spec).problems if problem.certain]
    assert problems
    assert any(word in problem.message for problem in problems)
    jsonschema.validate(reply, schema)
    with pytest.raises(ContractError):
        process(spec, choice(json.dumps(reply), ["yes", "no", "1", "2"]), REQUEST)


DOUBTFUL: dict[str, IOSpec] = {
    "no schema": spec_of(None, LIKELY),
    "moved before likelihood": spec_of(
        SCORE,
        {"type": "project", "retained_fields": {"score": "s"}},
        {**LIKELY, "input_path": ["s"]},
    ),
    "negative sentence": spec_of(
        record(r={"type": "integer"}),
        {
            "type": "decode_sentences",
            "source": "documents",
            "input_path": ["r"],
            "output_names": {"text": "t"},
        },
    ),
    "one number for all": spec_of(SCORE, {**LIKELY, "categories_to_values": {"yes": 1.0, "no": 1.0}}),
    "wildcard over fields": spec_of(SCORE, {**LIKELY, "input_path": [None]}),
    "nested twice": spec_of(SCORE, *[{"type": "nest", "field_name": "x"}] * 2),
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_what_is_doubtful_is_a_warning(name: str) -> None:
    (problem,) = trace(DOUBTFUL[name]).problems
    assert not problem.certain


def test_shapes_follow_references_and_combinations() -> None:
    schema = {
        "$defs": {"A": {"type": "object", "properties": {"x": {"const": 1}}, "required": ["x"]}},
        "allOf": [
            {"$ref": "#/$defs/A"},
            {"properties": {"y": {"type": ["string", "null"]}}, "required": ["y"]},
        ],
    }
    shape = shape_of(schema)
    assert shape == shape_of(
        {
            "type": "object",
            "properties": {"x": {"enum": [1]}, "y": {"type": ["null", "string"]}},
            "required": ["x", "y"],
        }
    )
    assert shape_of({"type": "integer", "minimum": 0, "maximum": 9}) == Scalar(
        types=frozenset({"integer"}), values=tuple(range(10)), origin=(), literal=True, least=0
    )
    assert shape_of({}) == Anything()
    assert shape_of({"$ref": "#/nowhere"}) == Anything()
    assert shape_of({"$defs": {"A": {"items": {"$ref": "#/$defs/A"}}}, "$ref": "#/$defs/A"}) == Anything()
