"""JSON Schemas that somebody else wrote: whether they are ones, and cheap to use.

A reply is judged by the schema of a downloaded file, so a schema may not make that judgement expensive: its
references are local and lead to no circle, they do not multiply, and its regular expressions cannot
backtrack without bound.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from zoo.specs.json_pattern import PatternError, check_pattern
from zoo.specs.yaml_tree import Path, walk

MAX_SCHEMA_NODES = 5_000
MAX_EXPANDED = 20_000  # subschemas, each counted as often as references reach it
UNSUPPORTED = ("$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$anchor")
DRAFTS = frozenset({
    *(f"http://json-schema.org/draft-0{number}/schema" for number in (4, 6, 7)),
    *(f"https://json-schema.org/draft/{name}/schema" for name in ("2019-09", "2020-12")),
})  # fmt: skip
BELONGS = {
    "properties": "object", "required": "object", "additionalProperties": "object", "items": "array",
    "prefixItems": "array", "minItems": "array", "maxItems": "array", "uniqueItems": "array",
    "pattern": "string", "minLength": "string", "maxLength": "string",
}  # fmt: skip
IN_PLACE = ("allOf", "anyOf", "oneOf")
SUBSCHEMAS = ("additionalProperties", "items", "contains", "not", "if", "then", "else", "propertyNames",
              "unevaluatedItems", "unevaluatedProperties", "additionalItems")  # fmt: skip
SUBSCHEMA_LISTS = (*IN_PLACE, "prefixItems", "items")
SUBSCHEMA_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


class SchemaFaultError(ValueError):
    """A schema that is refused.

    Attributes:
        path: of the fault within the schema.
        code: ZO008, ZO009 or ZO011.
    """

    def __init__(self, message: str, path: Path, code: str) -> None:
        """Makes an error."""
        super().__init__(message)
        self.path, self.code = path, code


def check_schema(schema: Mapping[str, Any]) -> None:
    """Refuses what is no JSON Schema, or an expensive one.

    Raises:
        SchemaFaultError: ZO008 no JSON Schema; ZO009 a reference; ZO011 a pattern.
    """
    for count, (path, value) in enumerate(walk(schema)):
        if count > MAX_SCHEMA_NODES:
            raise SchemaFaultError(f"has more than {MAX_SCHEMA_NODES:,} values", path, "ZO008")
        if isinstance(value, str) and path[-1:] == ("pattern",):
            _cheap(value, path)
        elif isinstance(value, Mapping) and path[-1:] == ("patternProperties",):
            for pattern in value:
                _cheap(str(pattern), (*path, pattern))
    _meta(schema)
    for path, node in subschemas(schema):
        for word in UNSUPPORTED:
            if word in node:
                raise SchemaFaultError(f"{word} is not supported", (*path, word), "ZO009")
        if path and "$id" in node:
            raise SchemaFaultError("$id is allowed at the top only", (*path, "$id"), "ZO009")
        if "$ref" in node:
            resolve(schema, node["$ref"], (*path, "$ref"))
    _expanded(schema, schema, (), {}, [])
    _usable(schema)


def _meta(schema: Mapping[str, Any]) -> None:
    import jsonschema_rs

    named = schema.get("$schema")
    if named is not None and str(named).rstrip("#") not in DRAFTS:  # it would be looked for in the network
        raise SchemaFaultError(
            f"{str(named)[:80]!r} is no published JSON Schema draft", ("$schema",), "ZO008"
        )
    try:
        jsonschema_rs.meta.validate(dict(schema))
    except jsonschema_rs.ValidationError as error:
        path = tuple(error.instance_path)
        said = error.message if len(error.message) <= 200 else error.message[:200] + " …"
        raise SchemaFaultError(f"is no JSON Schema: {said}", path, "ZO008") from None


def _usable(schema: Mapping[str, Any]) -> None:
    """The validator takes it: Rust's regular expressions are not quite Python's."""
    import jsonschema_rs

    try:
        jsonschema_rs.validator_for(dict(schema), offline=True)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        said = str(error).partition("\n")[0][:200]
        raise SchemaFaultError(f"cannot be used: {said}", (), "ZO008") from None


def resolve(root: Mapping[str, Any], reference: Any, path: Path = ()) -> Any:
    """The subschema that a local reference names.

    Raises:
        SchemaFaultError: ZO009, it is not local or names nothing.
    """
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise SchemaFaultError(f"the reference {str(reference)[:80]!r} is not local (#/…)", path, "ZO009")
    found: Any = root
    for part in reference.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and key.isdigit() and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, Mapping) and key in found:
            found = found[key]
        else:
            raise SchemaFaultError(f"the reference {reference[:80]!r} names nothing", path, "ZO009")
    if not isinstance(found, Mapping | bool):
        raise SchemaFaultError(f"the reference {reference[:80]!r} names no schema", path, "ZO009")
    return found


def subschemas(schema: Any, path: Path = ()) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """A schema and all in it, references not followed."""
    if not isinstance(schema, Mapping):
        return
    yield path, schema
    for step, child in _children(schema):
        yield from subschemas(child, (*path, *step))


def _children(schema: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    for word in SUBSCHEMAS:
        if isinstance(schema.get(word), Mapping):
            yield (word,), schema[word]
    for word in SUBSCHEMA_LISTS:
        if isinstance(schema.get(word), list):
            yield from (((word, index), child) for index, child in enumerate(schema[word]))
    for word in SUBSCHEMA_MAPS:
        if isinstance(schema.get(word), Mapping):
            yield from (((word, name), child) for name, child in schema[word].items())


def oddities(schema: Mapping[str, Any]) -> Iterator[tuple[Path, str, bool]]:
    """What is valid as a schema and yet cannot be meant.

    Yields:
        Its path, one sentence, and whether no value at all can satisfy the schema there.
    """
    for path, node in subschemas(schema):
        fields = node.get("properties")
        missing = [name for name in node.get("required", ()) if name not in (fields or {})]
        if isinstance(fields, Mapping) and missing:
            closed = node.get("additionalProperties") is False
            yield (*path, "required"), f"required names {missing[0]!r}, which is no property", closed
        kinds = [node["type"]] if isinstance(node.get("type"), str) else node.get("type", [])
        for word, wanted in BELONGS.items():
            if kinds and word in node and wanted not in kinds:
                yield (*path, word), f"{word} says nothing about {' or '.join(kinds)}s", False
        if node.get("enum") == []:
            yield (*path, "enum"), "the enum is empty", True
        values, kind = node.get("enum"), node.get("type")
        if values and isinstance(kind, str) and not any(_is(value, kind) for value in values):
            yield (*path, "enum"), f"none of the enum's values is of the type {kind}", True


def _is(value: Any, kind: str) -> bool:
    import jsonschema_rs

    return bool(jsonschema_rs.is_valid({"type": kind}, value))


def _expanded(
    root: Mapping[str, Any], schema: Any, path: Path, known: dict[int, int], open_: list[int]
) -> int:
    """How many subschemas a reply may be judged by; `$defs` count where they are used."""
    if not isinstance(schema, Mapping):
        return 1
    if id(schema) in open_:
        raise SchemaFaultError("refers to itself in a circle", path, "ZO009")
    if id(schema) not in known:
        open_.append(id(schema))
        total = 1
        if "$ref" in schema:
            total += _expanded(root, resolve(root, schema["$ref"]), (*path, "$ref"), known, open_)
        for step, child in _children(schema):
            if step[0] not in ("$defs", "definitions"):
                total += _expanded(root, child, (*path, *step), known, open_)
        open_.pop()
        if total > MAX_EXPANDED:
            raise SchemaFaultError(
                f"its references multiply to more than {MAX_EXPANDED:,} schemas", path, "ZO009"
            )
        known[id(schema)] = total
    return known[id(schema)]


def _cheap(pattern: str, path: Path) -> None:
    try:
        check_pattern(pattern)
    except PatternError as error:
        raise SchemaFaultError(str(error), path, "ZO011") from None
