"""Faults that authors make in a reply's schema; see `faults`."""

# mypy: disable-error-code="misc"
# a default binds the loop's value to a lambda, whose type mypy then does not infer

from collections.abc import Iterator

from tests.specs.fault_places import Change, Data, edit, misspelt, rekeyed, schemas_of, without


def schema_field_renamed(data: Data) -> Iterator[Change]:
    for path, node in schemas_of(data):
        for name in node.get("properties") or {}:
            yield name, rekeyed((*path, "properties"), name, name + "_")


def schema_field_optional(data: Data) -> Iterator[Change]:
    for path, node in schemas_of(data):
        for name in node.get("required") or ():
            yield name, edit((*path, "required"), lambda names, name=name: [n for n in names if n != name])


def schema_value_misspelt(data: Data) -> Iterator[Change]:
    for path, node in schemas_of(data):
        for value in node.get("enum") or ():
            new = misspelt(value) if isinstance(value, str) else value + 100
            yield (
                str(value),
                edit(
                    (*path, "enum"), lambda values, v=value, n=new: [n if one == v else one for one in values]
                ),
            )


def schema_value_added(data: Data) -> Iterator[Change]:
    for path, node in schemas_of(data):
        if node.get("enum"):
            new = "neither" if isinstance(node["enum"][0], str) else 77
            yield path[-1], edit((*path, "enum"), lambda values, n=new: [*values, n])


def schema_value_dropped(data: Data) -> Iterator[Change]:
    for path, node in schemas_of(data):
        for value in node.get("enum") or ():
            yield (
                str(value),
                edit((*path, "enum"), lambda values, v=value: [one for one in values if one != v]),
            )


def schema_of_another_type(data: Data) -> Iterator[Change]:
    others = {
        "string": "integer",
        "integer": "string",
        "array": "object",
        "object": "array",
        "boolean": "string",
    }
    for path, node in schemas_of(data):
        if node.get("type") in others:
            yield ".".join(path[1:]) or "top", edit((*path, "type"), lambda kind: others[kind])


def schema_number(data: Data) -> Iterator[Change]:
    for path, node in schemas_of(data):
        if node.get("type") == "integer":
            yield path[-1], edit((*path, "type"), lambda _: ["integer", "null"])


def schema_without_enum(data: Data) -> Iterator[Change]:
    for path, node in schemas_of(data):
        if "enum" in node:
            yield path[-1], without(path, "enum")


def schema_is_none(data: Data) -> Iterator[Change]:
    for path, node in schemas_of(data):
        if "type" in node:
            yield ".".join(path[1:]) or "top", edit((*path, "type"), lambda kind: misspelt(kind))


def reference_broken(data: Data) -> Iterator[Change]:
    schema = data.get("response_format")
    if isinstance(schema, dict) and "$ref" in (schema.get("items") or {}):
        for target in ("#/$defs/Nobody", "https://example.org/schema.json", "#"):
            yield target, edit(("response_format", "items", "$ref"), lambda _, target=target: target)
