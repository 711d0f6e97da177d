"""The shipped JSON Schema is the model's, and agrees with it on real files and on broken ones."""

import json

import jsonschema
import pytest
import yaml

from tests.specs.intrinsics import INTRINSICS, Intrinsic
from tests.specs.mutants import mutants
from zoo.errors import SpecError
from zoo.specs.io_file import parse_io
from zoo.specs.published import DIALECT, DOCUMENTS, SHIPPED, document_schema, dump_schema, schema_text


def test_the_shipped_schema_is_the_models() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == dump_schema("io"), "run: python -m zoo.specs.published"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_schema_is_one_and_says_its_version(name: str) -> None:
    schema = json.loads(schema_text(name))  # type: ignore[arg-type]
    assert schema["$schema"] == DIALECT
    assert schema["$id"] == f"urn:alora-zoo:{name}:1"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_fields_are_explained_where_an_editor_shows_it() -> None:
    schema = document_schema("io")
    assert "Attributes" not in json.dumps(schema)
    assert all(part["description"] for part in schema["properties"].values())


@pytest.mark.parametrize("intrinsic", INTRINSICS, ids=lambda one: one.name)
def test_a_known_intrinsic_is_valid(intrinsic: Intrinsic) -> None:
    if intrinsic.name == "certainty_digits":  # its output_name is of an older generation
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(_read(intrinsic.text), document_schema("io"))
        return
    jsonschema.validate(_read(intrinsic.text), document_schema("io"))


def test_what_the_schema_refuses_loading_refuses_too() -> None:
    """Not the other way round: loading also looks at what a schema cannot say."""
    validator = jsonschema.Draft202012Validator(document_schema("io"))
    refused = 0
    for intrinsic in INTRINSICS[:3]:
        for mutant in mutants(intrinsic):
            try:
                content = _read(mutant.text)
            except yaml.YAMLError:
                continue
            if validator.is_valid(content):
                continue
            refused += 1
            with pytest.raises(SpecError):
                parse_io(mutant.text.encode(), name="io.yaml")
    assert refused > 40


def _read(text: str) -> object:
    """As a JSON Schema validator gets it: every key is a string."""
    return json.loads(json.dumps(yaml.safe_load(text), default=str))
