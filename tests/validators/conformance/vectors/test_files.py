"""The files themselves: their format, that they say the rule, and that they can be made again."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.vectors.draft import Draft
from tests.vectors.drafts import GROUPS
from tests.vectors.make_model import make_all as make_models
from tests.vectors.make_vectors import SEPARATION, flags, make_case, make_group
from zoo.activation import active_mask
from zoo.errors import NotFoundError, SpecError
from zoo.validators.conformance.vectors.case import (
    ADAPTERS,
    FOLDER,
    MODEL,
    SCHEMA,
    Case,
    cases,
    invocation_of,
    read_groups,
    vector_files,
)
from zoo.validators.conformance.vectors.oracle import Oracle
from zoo.validators.conformance.vectors.rules import by_rule

CASES = tuple(cases(read_groups()))
DRAFTS: dict[str, Draft] = {draft.id: draft for group in GROUPS for draft in group.drafts()}


def validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(SCHEMA.read_bytes()))


@pytest.mark.parametrize("path", vector_files(), ids=lambda path: path.stem)
def test_a_file_keeps_the_schema(path: Path) -> None:
    document = json.loads(path.read_bytes())
    validator().validate(document)
    assert document["count"] == len(document["tests"])
    assert document["schema"] == SCHEMA.name


@pytest.mark.parametrize(
    "change",
    [
        {"count": 0},
        {"tests": []},
        {"known": True},
        {"tests": [{"id": "Not Kebab"}]},
        {"tolerance": 0},
    ],
    ids=["no count", "no tests", "an unknown field", "a test that lacks everything", "no tolerance"],
)
def test_the_schema_refuses_what_is_no_file_of_vectors(change: dict[str, Any]) -> None:
    document = json.loads(vector_files()[0].read_bytes())
    assert not validator().is_valid({**document, **change})


def test_ids_are_unique_and_every_group_is_read() -> None:
    assert len({case.id for case in CASES}) == len(CASES) == len(DRAFTS)
    assert [group.name for group in read_groups()] == sorted(group.name for group in GROUPS)


def test_what_is_no_file_of_vectors_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="holds no vectors"):
        read_groups(tmp_path)
    (tmp_path / "x.json").write_text('{"tests": [{}]}')
    with pytest.raises(SpecError, match=r"x\.json is not a file of vectors"):
        read_groups(tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_vector_says_the_rule_and_nothing_that_contradicts_itself(case: Case) -> None:
    for row, plan in zip(case.rows, by_rule(case), strict=True):
        start = row.active_from
        said = [start is not None and at >= start for at in range(len(row.ids))]
        assert row.invocation == invocation_of(row.adapter)
        if row.adapter:
            assert said[: row.prompt] == active_mask(row.ids[: row.prompt], row.invocation)
        assert [one is not None for one in plan] == said
        positions = [one.position for one in row.expected]
        assert positions == sorted(positions)
        assert positions[-1] == len(row.ids) - 1
        assert {0, 1, 2, 100, 319} <= row.expected[-1].log_probs.keys()
    assert case.flags == set(flags(DRAFTS[case.id]))
    assert len({row.prompt for row in case.rows}) == 1 or case.padding
    assert not case.calls or sum(case.calls) == case.width
    assert case.separation > SEPARATION > 100 * case.tolerance


def test_every_boundary_of_a_prompt_is_there() -> None:
    splits = [case for case in CASES if len(case.calls) == 2 and case.id.startswith("two-calls-at-")]
    length = splits[0].width
    assert [case.calls for case in splits] == [(at, length - at) for at in range(1, length)]
    assert all(case.rows == splits[0].rows for case in splits)  # the same prompt, and the same numbers


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_a_file_can_be_made_again(group: Any) -> None:
    """From the drafts and the shipped model: all the same but for rounding of the last of ten decimals."""
    made = json.loads(json.dumps(make_group(group, Oracle())))
    shipped = json.loads((FOLDER / f"{group.name}.json").read_bytes())
    assert close(made, shipped)
    shipped["tests"][0]["rows"][0]["expected"][0]["log_probs"]["0"] += 1e-8
    assert not close(made, shipped)


def close(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-9
    return bool(one == other)


def test_a_vector_that_could_not_tell_is_refused() -> None:
    """The model with an adapter that does nothing: one token more or less changes no number."""

    class Blunt(Oracle):
        @property
        def updates(self) -> Any:
            return {}

    with pytest.raises(ValueError, match=r"one token early or late is seen only as 0\.000"):
        make_case(DRAFTS["once-in-the-middle"], Blunt())


def test_the_model_and_the_adapters_can_be_made_again(tmp_path: Path) -> None:
    make_models(tmp_path)
    shipped = sorted(path for folder in (MODEL, *ADAPTERS.values()) for path in folder.iterdir())
    made = sorted(path for folder in tmp_path.iterdir() for path in folder.iterdir())
    assert [path.relative_to(FOLDER) for path in shipped] == [path.relative_to(tmp_path) for path in made]
    for one, other in zip(shipped, made, strict=True):
        if one.name == "config.json":  # it names the transformers version that wrote it
            continue
        assert one.read_bytes() == other.read_bytes(), one.name


def test_what_is_shipped_is_small_and_usable() -> None:
    from transformers import AutoTokenizer

    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(sizes) < 700_000
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    assert tuple(tokenizer.encode("<|im_start|>check\n", add_special_tokens=False)) == invocation_of("a")
