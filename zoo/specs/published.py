"""The JSON Schemas of the files that people write, for editors and for other programs.

The one of `io.yaml` is shipped as a file beside this module, so that it can be read without Python; it is
made from the model by `python -m zoo.specs.published`.
"""

import json
import re
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel

DocumentName = Literal["io", "release", "flow", "gate"]
DOCUMENTS: tuple[DocumentName, ...] = get_args(DocumentName)
FILES: dict[DocumentName, str] = {
    "io": "io.yaml",
    "release": "zoo.yaml",
    "flow": "flow.yaml",
    "gate": "zoo-gate.yaml",
}
DIALECT = "https://json-schema.org/draft/2020-12/schema"
SHIPPED = Path(__file__).with_name("io.schema.json")


def document_schema(name: DocumentName) -> dict[str, Any]:
    """The JSON Schema of one kind of file, made from its model."""
    from zoo.specs.flow import FLOW_FORMAT, FlowSpec
    from zoo.specs.io import IO_FORMAT, IOSpec
    from zoo.specs.policy import Policy
    from zoo.specs.release import ReleaseSpec

    models: dict[DocumentName, tuple[type[BaseModel], int]] = {
        "io": (IOSpec, IO_FORMAT),
        "release": (ReleaseSpec, 1),
        "flow": (FlowSpec, FLOW_FORMAT),
        "gate": (Policy, 1),
    }
    model, version = models[name]
    schema = model.model_json_schema(mode="validation")
    schema.pop("title", None)
    for part in (schema, *schema.get("$defs", {}).values()):
        _explain(part)
    head: dict[str, Any] = {
        "$schema": DIALECT,
        "$id": f"urn:alora-zoo:{name}:{version}",
        "title": f"{FILES[name]} of an alora-zoo release, format {version}",
    }
    return head | schema


def _explain(schema: dict[str, Any]) -> None:
    """Moves what a class's docstring says of each field to the field, where an editor shows it."""
    said, _, listed = schema.get("description", "").partition("\n\nAttributes:\n")
    if said:
        schema["description"] = said
    for name, text in re.findall(r"^    (\w+): ((?:.+\n?(?:      +.+\n?)*))", listed, re.MULTILINE):
        if name in schema.get("properties", {}):
            schema["properties"][name]["description"] = " ".join(text.split())


def schema_text(name: DocumentName) -> str:
    """The JSON text of a schema; for `io` the shipped file's."""
    if name == "io":
        return SHIPPED.read_text(encoding="utf-8")
    return dump_schema(name)


def dump_schema(name: DocumentName) -> str:
    """The JSON text of a schema, made afresh."""
    return json.dumps(document_schema(name), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SHIPPED.write_text(dump_schema("io"), encoding="utf-8")
