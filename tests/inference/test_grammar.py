import json
import random
from typing import Any

import jsonschema
import pytest
import torch

from zoo.errors import ContractError
from zoo.inference.grammar import MAX_SCHEMA_BYTES, Grammars, SchemaConstraint
from zoo.models import BaseModel
from zoo.prompts import Prompter

END = 2
SCHEMAS: dict[str, dict[str, Any]] = {
    "enum": {"type": "string", "enum": ["answerable", "unanswerable", 'a "quoted" one', "é 😀"]},
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "minimum": 0, "maximum": 9},
    "number": {"type": "number", "minimum": 0, "maximum": 1},
    "nested": {
        "type": "object",
        "properties": {
            "outer": {
                "type": "object",
                "properties": {"score": {"enum": ["yes", "no"]}, "why": {"type": "string", "maxLength": 12}},
                "required": ["score", "why"],
                "additionalProperties": False,
            }
        },
        "required": ["outer"],
        "additionalProperties": False,
    },
    "list": {
        "type": "array",
        "minItems": 1,
        "maxItems": 3,
        "items": {
            "type": "object",
            "properties": {
                "r": {"type": "integer", "minimum": 0, "maximum": 20},
                "c": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0, "maximum": 5},
                    "maxItems": 2,
                },
            },
            "required": ["r", "c"],
            "additionalProperties": False,
        },
    },
    "reference": {
        "$defs": {"f": {"enum": ["faithful", "NA", None]}},
        "anyOf": [{"$ref": "#/$defs/f"}, {"type": "array", "items": {"$ref": "#/$defs/f"}, "maxItems": 2}],
    },
}


@pytest.fixture(scope="module")
def prompter(tiny_base: BaseModel) -> Prompter:
    return Prompter(tiny_base)


@pytest.fixture(scope="module")
def grammars(prompter: Prompter) -> Grammars:
    return Grammars(prompter.tokenizer, vocabulary=prompter.base.vocabulary, end_ids=[END])


def walk(constraint: SchemaConstraint, seed: int) -> list[int]:
    """Any tokens that are allowed, the end not preferred; at most 400."""
    draw, ids = random.Random(seed), list[int]()
    while not constraint.finished and len(ids) < 400:
        allowed = constraint.allowed().nonzero().flatten().tolist()
        chosen = draw.choice(allowed)
        if chosen == END:
            break
        ids.append(chosen)
        constraint.advance(chosen)
    return ids


@pytest.mark.parametrize("free", [False, True], ids=["fixed", "free"])
@pytest.mark.parametrize("name", SCHEMAS)
def test_whatever_is_decoded_keeps_to_the_schema(
    grammars: Grammars, prompter: Prompter, name: str, free: bool
) -> None:
    seen = set()
    for seed in range(25):
        text = prompter.decode(walk(grammars.constraint(SCHEMAS[name], free_blanks=free), seed))
        value = json.loads(text)
        jsonschema.validate(value, SCHEMAS[name])
        seen.add(json.dumps(value))
        if not free and name not in ("number", "nested", "enum"):  # a text may be escaped in several ways
            assert text == json.dumps(value)
    assert len(seen) > 1


def test_the_end_is_allowed_where_the_json_is_complete_and_nowhere_else(
    grammars: Grammars, prompter: Prompter
) -> None:
    constraint = grammars.constraint(SCHEMAS["integer"])
    assert not constraint.allowed()[END]
    constraint.advance(prompter.encode("7")[0])
    assert constraint.finished or constraint.allowed()[END]
    with pytest.raises(ValueError, match="not allowed"):
        grammars.constraint(SCHEMAS["integer"]).advance(prompter.encode("x")[0])


def test_only_what_the_schema_leaves_open_is_a_choice(grammars: Grammars, prompter: Prompter) -> None:
    constraint, choices = grammars.constraint(SCHEMAS["nested"]), 0
    for id in prompter.encode('{"outer": {"score": "yes", "why": "'):
        allowed = constraint.allowed()
        choices += int(allowed.count_nonzero()) > 1
        if not allowed[id]:
            break
        constraint.advance(id)
    assert choices <= 2
    free = grammars.constraint(SCHEMAS["nested"], free_blanks=True)
    free.advance(prompter.encode("{")[0])
    assert int(free.allowed().count_nonzero()) > 1


def test_free_blanks_do_not_go_on_for_ever(grammars: Grammars, prompter: Prompter) -> None:
    constraint = grammars.constraint(SCHEMAS["nested"], free_blanks=True)
    constraint.advance(prompter.encode("{")[0])
    blank, blanks = prompter.encode(" ")[0], 0
    assert constraint.allowed()[blank]
    while constraint.allowed()[blank]:
        constraint.advance(blank)
        blanks += 1
        assert blanks < 20


def test_a_mask_is_as_long_as_the_logits(prompter: Prompter) -> None:
    known = prompter.tokenizer.get_vocab_size()
    for vocabulary in (known - 5, known, known + 57):
        found = Grammars(prompter.tokenizer, vocabulary=vocabulary, end_ids=[END])
        allowed = found.constraint(SCHEMAS["boolean"]).allowed()
        assert (allowed.dtype, allowed.shape) == (torch.bool, (vocabulary,))
        assert not allowed[known:].any()
        assert allowed.any()


def test_constraints_of_one_schema_do_not_disturb_each_other(grammars: Grammars, prompter: Prompter) -> None:
    first, second = (grammars.constraint(SCHEMAS["boolean"]) for _ in range(2))
    before = second.allowed()
    first.advance(int(first.allowed().nonzero()[0]))
    assert torch.equal(second.allowed(), before)
    assert not torch.equal(first.allowed(), before) or first.finished


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strng"},
        {"$ref": "#/nowhere"},
        {"type": "string", "pattern": "(?=x)"},
        {"allOf": [{"type": "integer"}, {"type": "string"}]},
        {"type": "string", "enum": ["x" * MAX_SCHEMA_BYTES]},
        json.loads('{"type": "array", "items": ' * 200 + "{}" + "}" * 200),
    ],
    ids=["type", "reference", "look-around", "impossible", "too large", "too deep"],
)
def test_a_schema_that_cannot_be_decoded_to_is_refused(grammars: Grammars, schema: dict[str, Any]) -> None:
    with pytest.raises(ContractError) as caught:
        walk(grammars.constraint(schema), 0)
    assert caught.value.code == "ZO160"
    assert len(caught.value.message) < 400


def test_a_schema_that_becomes_too_complex_on_the_way_is_told(grammars: Grammars) -> None:
    class Broken:
        """What the library does then: it allows the end alone, and says so only when it is asked."""

        def compute_bitmask(self) -> bytes:
            return bytes([1 << END]) + bytes(49)

        def is_error(self) -> bool:
            return True

        def get_error(self) -> str:
            return "lexer error:\n too many expressions constructed"

    broken: Any = Broken()
    with pytest.raises(ContractError, match="too many expressions") as caught:
        SchemaConstraint(broken, vocabulary=400, notes=()).allowed()
    assert caught.value.code == "ZO160"


def test_keywords_that_do_not_steer_are_named(grammars: Grammars) -> None:
    listed = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    assert "uniqueItems" in grammars.constraint(listed).notes[0]
    assert not grammars.constraint(SCHEMAS["list"]).notes


def test_a_token_is_spelt_by_its_bytes(grammars: Grammars, prompter: Prompter) -> None:
    for text in (" yes é", "😀", "<|im_start|>"):
        assert b"".join(map(grammars.spelt, prompter.encode(text))) == text.encode()
