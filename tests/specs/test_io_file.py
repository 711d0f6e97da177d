"""Loading an `io.yaml`: every dialect, and every fault with its code, line and column."""

import json
import time
from pathlib import Path

import pytest
import yaml

from tests.specs.intrinsics import INTRINSICS
from zoo.adapter import AdapterRepo
from zoo.errors import NotFoundError, SpecError
from zoo.specs.io import IOSpec, Likelihood
from zoo.specs.io_file import IODocument, parse_io, read_io
from zoo.specs.yaml_tree import MAX_BYTES


def load(text: str) -> IODocument:
    return parse_io(text.encode(), name="io.yaml")


def refused(text: str | bytes) -> SpecError:
    with pytest.raises(SpecError) as caught:
        parse_io(text.encode() if isinstance(text, str) else text, name="io.yaml")
    return caught.value


@pytest.mark.parametrize("intrinsic", INTRINSICS, ids=lambda one: one.name)
def test_a_known_intrinsic_loads_and_says_what_the_file_says(intrinsic: object) -> None:
    path: Path = intrinsic.path  # type: ignore[attr-defined]
    spec = read_io(path)
    plain = yaml.safe_load(path.read_text())
    assert spec.instruction == plain.get("instruction")
    assert len(spec.transformations) == len(plain["transformations"] or ())
    assert spec.reply_schema is not None
    written = plain["response_format"]
    if written is not None:
        assert spec.reply_schema == (json.loads(written) if isinstance(written, str) else written)


def test_nulls_and_older_spellings_mean_what_they_meant() -> None:
    found = load(
        "model: ~\nresponse_format: ~\ntransformations:\n"
        "- {type: likelihood, categories_to_values: {0: 0.1, 1: 1}, input_path: [], output_name: ~}\n"
        "- {type: decode_sentences, source: last_turn, input_path: [r], output_names: {begin: b}}\n"
        "parameters: ~\ninstruction: ~\nsentence_boundaries: false\nlogprobs_workaround: ~\n"
        "docs_as_message: ~\n"
    )
    assert [note.code for note in found.notes] == ["ZO012"] * 3
    assert found.spec.sentence_boundaries == {}
    assert found.spec.parameters == {}
    first = found.spec.transformations[0]
    assert isinstance(first, Likelihood)
    assert list(first.categories_to_values) == [0, 1]
    assert load("transformations: ~\n").spec == IOSpec()


@pytest.mark.parametrize(
    "parameters",
    [
        'extra_body: {guided_json: {type: boolean}}',
        'extra_body: {guided_json: \'{"type": "boolean"}\'}',
        'extra_body: {structured_outputs: {json: {type: boolean}}}',
        'guided_json: {type: boolean}',
        'response_format: {type: json_schema, json_schema: {strict: true, schema: {type: boolean}}}',
    ],
)  # fmt: skip
def test_the_replys_schema_is_found_wherever_servers_have_had_it(parameters: str) -> None:
    assert load(f"parameters:\n  {parameters}\n").spec.reply_schema == {"type": "boolean"}
    assert load("response_format: {type: string}\nparameters:\n  " + parameters).spec.reply_schema == {
        "type": "string"
    }


def test_categories_keep_their_type() -> None:
    for text, category in (("true", True), ("1", 1), ('"1"', "1"), ('"true"', "true"), ('"yes"', "yes")):
        rule = "{type: likelihood, input_path: [], categories_to_values: {" + text + ": 1.0}}"
        step = load(f"transformations:\n- {rule}\n").spec.transformations[0]
        assert isinstance(step, Likelihood)
        (found,) = step.categories_to_values
        assert found == category
        assert type(found) is type(category)


LIKELY = "transformations:\n- type: likelihood\n  input_path: []\n  categories_to_values:\n"
FAULTS: dict[str, tuple[str | bytes, str, str]] = {
    "not YAML": ("model: [x\n", "ZO001", "2:1"),
    "a tab": ("model: x\n\tname: y\n", "ZO001", "2:1"),
    "not UTF-8": (b"model: x\nname: \xff\n", "ZO001", "2:1"),
    "a control character": ("model: x\nname: \x01\n", "ZO001", "2:1"),
    "empty": ("# nothing\n", "ZO001", "1:1"),
    "a list": ("- model\n", "ZO001", "1:1"),
    "two documents": ("model: x\n---\nmodel: y\n", "ZO001", "2:1"),
    "too large": (b"#" * (MAX_BYTES + 1), "ZO002", "1:1"),
    "too deep": ("parameters: " + "[" * 60 + "]" * 60, "ZO002", "1:53"),
    "too many": ("parameters: {a: [" + "1," * 30_000 + "]}", "ZO002", ""),
    "JSON too deep": ("response_format: |\n  " + '{"not": ' * 60 + "{}" + "}" * 60, "ZO002", ""),
    "a key twice": ("model: x\nname: y\nmodel: z\n", "ZO003", "3:1"),
    "an equal key": (LIKELY + "    1: 0.1\n    true: 0.2\n", "ZO003", "6:5"),
    "a JSON key twice": ('response_format: |\n  {"type": "string",\n   "type": "null"}\n', "ZO003", "3:4"),
    "an alias": ("model: &a x\nname: *a\n", "ZO004", "1:8"),
    "a tag": ("name: !!python/object:os.system x\n", "ZO004", "1:7"),
    "a merge": ("parameters:\n  <<: {a: 1}\n", "ZO004", "2:3"),
    "a date": ("name: 2026-01-01\n", "ZO005", "1:7"),
    "not a number": ("parameters: {temperature: .nan}\n", "ZO005", "1:27"),
    "NaN in JSON": ('response_format: |\n  {"minimum":\n   NaN}\n', "ZO005", "3:4"),
    "a number of thousands of digits": ("parameters: {a: " + "9" * 5000 + "}\n", "ZO005", "1:17"),
    "a key that is a number": ("response_format: {properties: {1: {}}}\n", "ZO005", "1:32"),
    "a misspelt field": ("model: x\nresponse_fromat: ~\n", "ZO006", "2:1"),
    "a misspelt parameter": ("transformations:\n- type: nest\n  feild_name: x\n", "ZO006", "3:3"),
    "a missing parameter": ("transformations:\n- type: nest\n  input_path: []\n", "ZO006", "2:3"),
    "an unknown kind": ("transformations:\n- type: nets\n", "ZO006", "2:3"),
    "a number in quotes": (LIKELY + '    "yes": "1.0"\n', "ZO006", "5:5"),
    "a number that is a boolean": (LIKELY + '    "yes": true\n', "ZO006", "5:5"),
    "an index below 0": (
        "transformations:\n- {type: nest, input_path: [-1], field_name: x}\n", "ZO006", "2:29",
    ),
    "not JSON": ('response_format: |\n  {\n    "type": "string",\n  }\n', "ZO007", "4:3"),
    "a schema that is a list": ('response_format: |\n  ["string"]\n', "ZO008", "1:1"),
    "no JSON Schema": ('response_format: |\n  {\n    "type": "strin"\n  }\n', "ZO008", "3:5"),
    "no JSON Schema inside": ("response_format:\n  properties:\n    a: {minLength: -1}\n", "ZO008", "3:9"),
    "an unknown draft": ("response_format: {$schema: 'https://example.org/mine'}\n", "ZO008", "1:19"),
    "a remote reference": ("response_format: {$ref: 'https://example.org/s.json'}\n", "ZO009", "1:19"),
    "a reference to nothing": ("response_format: {items: {$ref: '#/$defs/Nobody'}}\n", "ZO009", "1:27"),
    "a circle": ("response_format: {items: {$ref: '#'}}\n", "ZO009", "1:27"),
    "an unquoted yes": (LIKELY + "    yes: 1.0\n    no: 0.0\n", "ZO010", "5:5"),
    "an unquoted No in a schema": ("response_format:\n  enum:\n  - Yes\n  - No\n", "ZO010", "3:5"),
    "an unquoted on as a field": ("response_format:\n  properties:\n    on: {}\n", "ZO010", "3:5"),
    "a pattern that backtracks": ("response_format: {type: string, pattern: '^(a+)+$'}\n", "ZO011", "1:33"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_refused_with_its_code_and_place(name: str) -> None:
    text, code, place = FAULTS[name]
    begin = time.process_time()
    error = refused(text)
    assert time.process_time() - begin < 5
    assert error.code == code
    assert str(error).startswith(f"{code}: io.yaml:{place}")
    line, column = error.message.split(":")[1:3]
    assert int(line) >= 1
    assert int(column) >= 1
    assert len(error.message) < 500


def test_a_reference_bomb_is_refused_at_once() -> None:
    defs: dict[str, object] = {"D0": {"type": "string"}}
    for level in range(1, 60):
        defs[f"D{level}"] = {"allOf": [{"$ref": f"#/$defs/D{level - 1}"}] * 2}
    begin = time.process_time()
    error = refused("response_format: |\n  " + json.dumps({"$defs": defs, "$ref": "#/$defs/D59"}))
    assert error.code == "ZO009"
    assert time.process_time() - begin < 2


def test_a_misspelling_names_its_neighbour() -> None:
    assert "response_format" in refused("respons_format: ~\n").hint
    assert "field_name" in refused("transformations:\n- {type: nest, field_nam: x}\n").hint


def test_a_switch_may_be_spelt_no_and_is_pointed_out() -> None:
    found = load("response_format: {type: object, additionalProperties: no}\n")
    assert [note.code for note in found.notes] == ["ZO010"]
    assert found.spec.response_format == {"type": "object", "additionalProperties": False}


def test_places_reach_into_a_schema_that_is_text() -> None:
    found = load('model: ~\nresponse_format: |\n  {\n    "enum": ["a",\n      "b"]\n  }\n')
    assert found.place(("response_format", "enum", 1)) == (5, 7)
    assert found.place(("response_format", "enum")) == (4, 5)
    assert found.place(("response_format", "nowhere")) == (2, 1)
    assert found.place(("transformations", 3)) == (1, 1)


def test_a_repository_without_a_contract_has_none(tmp_path: Path) -> None:
    repo = AdapterRepo(root=tmp_path, name="x")
    assert repo.io_spec is None
    assert repo.io_document is None
    (tmp_path / "io.yaml").write_text("name: x\n")
    again = AdapterRepo(root=tmp_path, name="x")
    assert again.io_spec is not None
    assert again.io_spec.name == "x"
    with pytest.raises(NotFoundError):
        read_io(tmp_path / "none.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(SpecError) as caught:
        read_io(tmp_path / "large.yaml")
    assert caught.value.code == "ZO002"
