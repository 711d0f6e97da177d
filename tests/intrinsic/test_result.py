from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from zoo.intrinsic.result import result_model

RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "response_text": {"type": "string"},
        "begin": {"type": "integer"},
        "score": {"type": "number"},
        "faithful": {"enum": ["yes", "no", None]},
        "document_id": {"type": ["string", "null"]},
        "note": {"type": "string"},
    },
    "required": ["response_text", "begin", "score", "faithful", "document_id"],
    "additionalProperties": False,
}
GOOD: dict[str, Any] = {
    "response_text": "a", "begin": 0, "score": 1, "faithful": "no", "document_id": None,
}  # fmt: skip


def test_an_object_has_a_field_a_property() -> None:
    model = result_model(RECORD, "hallucination-detection")
    assert model.__name__ == "HallucinationDetection"
    found: Any = model.model_validate(GOOD)
    assert (found.response_text, found.begin, found.score, found.faithful) == ("a", 0, 1.0, "no")
    assert (found.document_id, found.note) == (None, None)
    with pytest.raises(ValidationError):
        found.begin = 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"begin": "many"},
        {"begin": 0.5},
        {"faithful": "maybe"},
        {"document_id": 3},
        {"response_text": None},
        {"unknown": 1},
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        result_model(RECORD, "x").model_validate(GOOD | wrong)


@pytest.mark.parametrize("key", GOOD)
def test_what_is_required_must_be_there(key: str) -> None:
    with pytest.raises(ValidationError):
        result_model(RECORD, "x").model_validate({k: v for k, v in GOOD.items() if k != key})


@pytest.mark.parametrize(
    ("schema", "value", "wrong"),
    [
        ({"type": "number"}, 0.25, "x"),
        ({"type": "string", "enum": ["a", "b"]}, "b", "c"),
        ({"enum": [1, 2, True]}, 2, 3),
        ({"type": "boolean"}, True, "perhaps"),
        ({"type": "array", "items": {"type": "integer"}}, [1, 2], ["a"]),
        ({"anyOf": [{"type": "null"}, {"type": "number"}]}, None, "x"),
        ({"const": "only"}, "only", "other"),
        ({"type": ["integer", "string"]}, "a", [1]),
    ],
)
def test_other_results_are_root_models(schema: dict[str, Any], value: Any, wrong: Any) -> None:
    model = result_model(schema, "certainty")
    assert model.__name__ == "Certainty"
    found: Any = model.model_validate(value)
    assert found.root == value
    assert found.model_dump() == value
    with pytest.raises(ValidationError):
        model.model_validate(wrong)


def test_lists_of_records_hold_models() -> None:
    model = result_model({"type": "array", "items": RECORD}, "citations")
    found: Any = model.model_validate([GOOD, GOOD])
    second: Any = found.root[1]
    assert isinstance(second, BaseModel)
    assert found.root[0].begin == 0


def test_names_that_no_field_can_have_keep_them_as_aliases() -> None:
    names = ["class", "json", "model_config", "_hidden", "1st", "a-b", "a b", "é", "copy", "", "model_dump"]
    schema = {"type": "object", "properties": {n: {"type": "integer"} for n in names}, "required": names}
    model = result_model(schema, "odd")
    value = {name: number for number, name in enumerate(names)}
    found = model.model_validate(value)
    assert found.model_dump(by_alias=True) == value
    assert getattr(found, "class_") == 0  # noqa: B009 - as a caller would see it
    assert {"json_", "a_b", "a_b_", "é"} <= set(model.model_fields)


def test_no_schema_and_no_end_of_depth_allow_anything() -> None:
    model = result_model({}, "free")
    assert model.model_validate({"a": [1]}).model_dump() == {"a": [1]}
    deep: dict[str, Any] = {"type": "integer"}
    for _ in range(40):
        deep = {"type": "array", "items": deep}
    value: Any = 1
    for _ in range(40):
        value = [value]
    assert result_model(deep, "deep").model_validate(value).model_dump() == value


def test_further_properties_stay_where_they_are_allowed() -> None:
    model = result_model({"type": "object", "properties": {"a": {"type": "integer"}}}, "open")
    assert model.model_validate({"a": 1, "b": 2}).model_dump() == {"a": 1, "b": 2}
