"""What breaks and what does not; the drift that published specs really had, among others."""

from collections.abc import Mapping
from typing import Any

import pytest

from zoo.contracts.comparison import Comparison
from zoo.contracts.contract import contract_of
from zoo.errors import RefusedError, SpecError
from zoo.specs.adapter_config import AdapterConfig
from zoo.specs.io import IOSpec
from zoo.specs.release import BaseRef, InvocationSpec, Message, Position, ReleaseSpec

YES_NO = {
    "type": "object",
    "properties": {"score": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["score"],
}
LIKELY = {
    "type": "likelihood",
    "input_path": ["score"],
    "categories_to_values": {"yes": 1.0, "no": 0.0},
}
CHECK: Mapping[str, Any] = {
    "response_format": YES_NO,
    "instruction": "Does it meet this: {requirement}?",
    "transformations": [LIKELY, {"type": "nest", "field_name": "requirement_check"}],
}
COMMIT = "a" * 40
IDS = [1, 5875, 198]


def release(**stated: Any) -> ReleaseSpec:
    return ReleaseSpec(
        **{
            "name": "check",
            "version": "1.0.0",
            "base": BaseRef(id="org/base", revision=COMMIT),
            "invocation": InvocationSpec(text="<|im_start|>check\n"),
            **stated,
        }
    )


def compare(
    new_io: Mapping[str, Any] | None,
    *,
    old_io: Mapping[str, Any] | None = CHECK,
    old: Mapping[str, Any] | None = None,
    new: Mapping[str, Any] | None = None,
    ids: tuple[list[int], list[int]] = (IDS, IDS),
) -> Comparison:
    def one(
        io: Mapping[str, Any] | None, stated: Mapping[str, Any], invocation: list[int], where: str
    ) -> Any:
        config = AdapterConfig(peft_type="LORA", alora_invocation_tokens=invocation)
        spec = None if io is None else IOSpec.model_validate(io)
        return contract_of(spec, release(**stated), config, where=where)

    return Comparison.of(one(old_io, old or {}, ids[0], "OLD"), one(new_io, new or {}, ids[1], "NEW"))


def schema(**properties: Any) -> dict[str, Any]:
    inner = {"type": "object", "properties": properties, "required": list(properties)}
    return {**CHECK, "response_format": inner, "transformations": []}


def test_the_same_contract_is_identical() -> None:
    same = compare(CHECK)
    assert same.verdict == "identical"
    assert same.changes == []
    same.check()


# Drift that published specs had; each broke callers who had no warning.
DRIFT = {
    "requirement check: flat key to nested": (
        {
            **CHECK,
            "transformations": [LIKELY, {"type": "project", "retained_fields": {"score": "likelihood"}}],
        },
        CHECK,
    ),
    "answerability: number to label": (
        {
            "response_format": {"enum": ["answerable", "unanswerable"]},
            "transformations": [
                {"type": "likelihood", "categories_to_values": {"answerable": 1.0, "unanswerable": 0.0}},
                {"type": "nest", "field_name": "answerability"},
            ],
        },
        {
            "response_format": {"enum": ["answerable", "unanswerable"]},
            "transformations": [{"type": "nest", "field_name": "answerability"}],
        },
    ),
    "policy guardrails: label to score": (
        schema(label={"enum": ["Yes", "No", "Ambiguous"]}),
        schema(score={"enum": ["Yes", "No", "Ambiguous"]}),
    ),
}


@pytest.mark.parametrize(("old", "new"), DRIFT.values(), ids=DRIFT)
def test_published_drift_is_breaking(old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    assert compare(new, old_io=old).verdict == "breaking"
    assert compare(old, old_io=old).verdict == "identical"


TEXT, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}
LABEL = {"enum": ["a", "b"]}
RESULTS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"a": TEXT}, {"a": TEXT, "b": TEXT}, "compatible"),
    ({"a": TEXT, "b": TEXT}, {"a": TEXT}, "breaking"),
    ({"a": TEXT}, {"a": INTEGER}, "breaking"),
    ({"a": NUMBER}, {"a": INTEGER}, "compatible"),
    ({"a": INTEGER}, {"a": NUMBER}, "breaking"),
    ({"a": TEXT}, {"a": {"type": ["string", "null"]}}, "breaking"),
    ({"a": {"type": ["string", "null"]}}, {"a": TEXT}, "compatible"),
    ({"a": LABEL}, {"a": {"enum": ["a", "b", "c"]}}, "breaking"),
    ({"a": LABEL}, {"a": {"enum": ["a"]}}, "compatible"),
    ({"a": LABEL}, {"a": {"enum": ["b", "a"]}}, "compatible"),  # the reply's schema is sent as it is
    ({"a": LABEL}, {"a": TEXT}, "breaking"),
    ({"a": TEXT}, {"a": LABEL}, "compatible"),
    ({"a": {"enum": [1]}}, {"a": {"enum": [True]}}, "breaking"),
    ({"a": {"type": "number", "minimum": 0}}, {"a": {"type": "number", "minimum": -1}}, "breaking"),
    ({"a": {"type": "integer", "minimum": 0, "maximum": 4}}, {"a": {"enum": [0, 1, 2]}}, "compatible"),
    ({"a": {"enum": [0, 1, 2]}}, {"a": {"type": "integer", "minimum": 0, "maximum": 4}}, "breaking"),
    ({"a": {"type": "number", "minimum": 0}}, {"a": NUMBER}, "breaking"),
    ({"a": NUMBER}, {"a": {"type": "number", "minimum": 0, "maximum": 1}}, "compatible"),
    ({"a": {}}, {"a": TEXT}, "compatible"),
    ({"a": TEXT}, {"a": {}}, "breaking"),
    ({"a": {"type": "array", "items": TEXT}}, {"a": {"type": "array", "items": INTEGER}}, "breaking"),
]


@pytest.mark.parametrize(("old", "new", "verdict"), RESULTS, ids=[f"{o} -> {n}" for o, n, _ in RESULTS])
def test_results_may_become_narrower_only(old: dict[str, Any], new: dict[str, Any], verdict: str) -> None:
    assert compare(schema(**new), old_io=schema(**old)).verdict == verdict


def test_a_field_that_may_be_missing_now_is_breaking_and_the_other_way_is_not() -> None:
    whole = schema(a=TEXT)
    loose = {**whole, "response_format": {**whole["response_format"], "required": []}}
    assert compare(loose, old_io=whole).verdict == "breaking"
    assert compare(whole, old_io=loose).verdict == "compatible"


def test_a_removed_object_is_one_change() -> None:
    inner = {"type": "object", "properties": {"x": TEXT, "y": TEXT}}
    found = [one for one in compare(schema(a=TEXT), old_io=schema(a=TEXT, b=inner)).changes if one.breaking]
    assert [(one.place, one.what) for one in found] == [("$.b", "removed")]


def test_another_number_for_a_category_is_breaking() -> None:
    other = {**LIKELY, "categories_to_values": {"yes": 0.9, "no": 0.0}}
    found = compare({**CHECK, "transformations": [other, CHECK["transformations"][1]]})
    assert found.verdict == "breaking"
    assert [(c.part, c.place, c.old, c.new) for c in found.changes if c.breaking] == [
        ("categories", 'score: "yes"', "1", "0.9")
    ]


def test_inputs_may_become_fewer_demands_only() -> None:
    more = compare({**CHECK, "instruction": "{requirement} {language}?"})
    assert [(c.part, c.place) for c in more.changes if c.breaking] == [("input", "language")]
    fewer = compare({**CHECK, "instruction": "Is it good?"})
    assert [(c.part, c.place) for c in fewer.changes if c.breaking] == [("input", "requirement")]
    same = compare({**CHECK, "instruction": "Please: {requirement}. {last_message} {{}}"})
    assert same.verdict == "compatible"


def test_sentence_sources_and_the_last_message() -> None:
    records = schema(r=INTEGER)
    rule = {
        "type": "decode_sentences",
        "source": "last_message",
        "input_path": ["r"],
        "output_names": {"text": "t"},
    }
    was = {**records, "transformations": [rule]}
    now = {**records, "transformations": [{**rule, "source": ["last_message", "documents"]}]}
    found = compare(now, old_io=was)
    assert [(c.part, c.place) for c in found.changes if c.breaking] == [("input", "documents")]
    assert compare(was, old_io=now).verdict == "compatible"

    def ends(role: str) -> dict[str, Any]:
        return {"samples": [[Message(role="user", content="Hm?")], [Message(role=role, content="Hm.")]][-1:]}

    assert compare(CHECK, old=ends("user"), new=ends("assistant")).verdict == "breaking"
    assert compare(CHECK, old=ends("user"), new=ends("user")).verdict == "identical"


RELEASES: list[tuple[dict[str, Any], str]] = [
    ({"invocation": InvocationSpec(text="<|im_start|>other\n")}, "invocation"),
    (
        {"invocation": InvocationSpec(text="<|im_start|>check\n", position=Position.IN_MESSAGE)},
        "invocation",
    ),
    ({"base": BaseRef(id="org/other", revision=COMMIT)}, "base"),
    ({"base": BaseRef(id="org/base", revision="b" * 40)}, "base"),
    ({"name": "checker"}, "name"),
]


@pytest.mark.parametrize(("stated", "part"), RELEASES)
def test_what_the_adapter_is_reached_by_is_part_of_it(stated: dict[str, Any], part: str) -> None:
    found = compare(CHECK, new=stated)
    assert {one.part for one in found.changes if one.breaking} == {part}


def test_other_ids_are_breaking() -> None:
    assert compare(CHECK, ids=(IDS, [1, 2])).verdict == "breaking"


def test_an_io_yaml_may_come_and_may_not_go() -> None:
    assert compare(CHECK, old_io=None).verdict == "compatible"
    assert compare(None).verdict == "breaking"


def test_a_prompt_that_changed_is_compatible() -> None:
    found = compare({**CHECK, "parameters": {"max_completion_tokens": 8}, "docs_as_message": "string"})
    assert found.verdict == "compatible"
    assert {(one.part, one.place) for one in found.changes} == {
        ("request", "parameters"),
        ("request", "docs_as_message"),
    }


def test_wrong_braces_are_refused() -> None:
    with pytest.raises(SpecError, match="instruction"):
        compare({**CHECK, "instruction": "{"})


VERSIONS = [
    ("1.0.0", "2.0.0", "1.1.0", "ZO200"),
    ("0.1.0", "0.2.0", "0.1.1", "ZO200"),
    ("0.1.0", "1.0.0", "0.1.0", "ZO200"),
    ("1.2.3", "2.0.0-rc.1", "1.3.0-rc.1", "ZO200"),
    ("2.0.0-rc.1", "2.0.0", "2.1.0", "ZO200"),
    ("2.0.0-rc.1", "2.0.0-rc.2", "2.0.0-rc.1", "ZO200"),
    ("2.0.0", "3.0.0", "1.0.0", "ZO200"),
]


@pytest.mark.parametrize(("old", "enough", "short", "code"), VERSIONS)
def test_a_breaking_change_wants_a_version_that_says_so(old: str, enough: str, short: str, code: str) -> None:
    compare(None, old={"version": old}, new={"version": enough}).check()
    with pytest.raises(RefusedError) as refused:
        compare(None, old={"version": old}, new={"version": short}).check()
    assert refused.value.code == code


def test_a_compatible_change_wants_a_higher_version() -> None:
    more = {**CHECK, "parameters": {"temperature": 0}}
    compare(more, old={"version": "1.0.0"}, new={"version": "1.0.1"}).check()
    with pytest.raises(RefusedError, match=r"1\.0\.1 or higher") as refused:
        compare(more, old={"version": "1.0.0"}, new={"version": "1.0.0+build.2"}).check()
    assert refused.value.code == "ZO201"
    compare(CHECK, old={"version": "1.0.0"}, new={"version": "0.9.0"}).check()  # nothing changed


def test_the_hint_names_a_version_that_is_enough() -> None:
    for old, least in [("1.4.2", "2.0.0"), ("0.3.1", "0.4.0"), ("2.0.0-rc.1", "2.0.0")]:
        with pytest.raises(RefusedError) as refused:
            compare(None, old={"version": old}, new={"version": old}).check()
        assert f"to {least} or higher" in refused.value.hint
        compare(None, old={"version": old}, new={"version": least}).check()
