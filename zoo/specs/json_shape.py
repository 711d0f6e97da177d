"""Shapes: what is known of a value before there is one, read from a JSON Schema.

A shape keeps what the transformations of an `io.yaml` depend on: fields, elements, types, the values of an
enumeration, and where in the reply a value comes from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zoo.specs.json_schema import SchemaFaultError, resolve

MAX_RANGE = 1_000
SCALARS = ("string", "integer", "number", "boolean", "null")
Literal = str | int | float | bool | None
Origin = tuple[str | int | None, ...]  # None stands for any index


@dataclass(frozen=True, slots=True, kw_only=True)
class Anything:
    """Nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalar:
    """A string, a number, a boolean or null.

    Attributes:
        types: JSON types.
        values: every possible value, or None when they are not enumerated.
        origin: where in the reply it stands; None when it has been moved.
        literal: it is the reply's own text, whose tokens have probabilities.
        least: no value is smaller; None when not said.
    """

    types: frozenset[str]
    values: tuple[Literal, ...] | None = None
    origin: Origin | None = None
    literal: bool = False
    least: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An object.

    Attributes:
        fields: by name.
        optional: names of fields that may be absent.
    """

    fields: Mapping[str, "Shape"]
    optional: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """A list.

    Attributes:
        item: of every element behind the fixed ones.
        fixed: of the first elements.
        least: it has at least so many elements.
        distinct: its elements differ, each from all others.
    """

    item: "Shape"
    fixed: tuple["Shape", ...] = ()
    least: int = 0
    distinct: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Either:
    """One of several."""

    options: tuple["Shape", ...]


Shape = Anything | Scalar | Record | Array | Either


def shape_of(schema: Mapping[str, Any] | None) -> Shape:
    """The shape of what a schema describes.

    Args:
        schema: a JSON Schema that `check_schema` accepts, or None when there is none.
    """
    if schema is None:
        return Anything()
    try:
        return _shape(schema, schema, ())
    except (SchemaFaultError, RecursionError):  # a schema that no file reader has judged
        return Anything()


def _shape(root: Mapping[str, Any], schema: Any, origin: Origin) -> Shape:
    if not isinstance(schema, Mapping):
        return Anything()
    schema = merged_schema(root, schema)
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list):
            rest = {key: value for key, value in schema.items() if key != word}
            return either(
                [_shape(root, _joined(rest, merged_schema(root, option)), origin) for option in schema[word]]
            )
    if "const" in schema:
        return _enumerated([schema["const"]], schema, origin)
    if isinstance(schema.get("enum"), list):
        return _enumerated(schema["enum"], schema, origin)
    return _typed(root, schema, origin)


def _typed(root: Mapping[str, Any], schema: Mapping[str, Any], origin: Origin) -> Shape:
    types = schema.get("type")
    names = [types] if isinstance(types, str) else list(types or ())
    if not names:
        names = ["object"] if "properties" in schema else ["array"] if "items" in schema else []
    if not names:
        return Anything()
    simple = [name for name in names if name in SCALARS]
    options: list[Shape] = [_scalar(simple, schema, origin)] if simple else []
    if "object" in names:
        options.append(_record(root, schema, origin))
    if "array" in names:
        options.append(_array(root, schema, origin))
    return either(options)


def merged_schema(root: Mapping[str, Any], schema: Any) -> Mapping[str, Any]:
    """A schema with its reference and its `allOf` written out."""
    if not isinstance(schema, Mapping):
        return {}
    merged = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
    if "$ref" in schema:
        merged = dict(_joined(merged_schema(root, resolve(root, schema["$ref"])), merged))
    for part in schema.get("allOf", ()):
        merged = dict(_joined(merged, merged_schema(root, part)))
    return merged


def _joined(one: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any]:
    """Both at once: fields of both, and of the rest the second's."""
    joined = {**one, **other}
    if "properties" in one and "properties" in other:
        joined["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        joined["required"] = [*one["required"], *other["required"]]
    if "enum" in one and "enum" in other:
        joined["enum"] = [value for value in one["enum"] if value in other["enum"]]
    return joined


def json_type(value: object) -> str:
    """The JSON Schema type of a value."""
    if value is None:
        return "null"
    kinds: Sequence[tuple[type, str]] = (
        (bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"),
    )  # fmt: skip
    return next((name for kind, name in kinds if isinstance(value, kind)), "object")


def _enumerated(values: Sequence[Any], schema: Mapping[str, Any], origin: Origin) -> Shape:
    types = schema.get("type")
    allowed = {types} if isinstance(types, str) else set(types or (*SCALARS, "object", "array"))
    if "number" in allowed:
        allowed.add("integer")
    kept = [value for value in values if json_type(value) in allowed]
    if not kept or any(json_type(value) not in SCALARS for value in kept):
        return Anything()
    numbers = [value for value in kept if json_type(value) in ("integer", "number")]
    return Scalar(
        types=frozenset(json_type(value) for value in kept),
        values=tuple(kept),
        origin=origin,
        literal=True,
        least=min(numbers) if numbers else None,
    )


def _scalar(types: Sequence[str], schema: Mapping[str, Any], origin: Origin) -> Scalar:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is None and isinstance(schema.get("exclusiveMinimum"), int):
        least = schema["exclusiveMinimum"] + 1
    values: tuple[Literal, ...] | None = None
    if list(types) == ["boolean"]:
        values = (True, False)
    elif list(types) == ["integer"] and isinstance(least, int) and isinstance(most, int):
        values = tuple(range(least, most + 1)) if most - least < MAX_RANGE else None
    return Scalar(types=frozenset(types), values=values or None, origin=origin, literal=True, least=least)


def _record(root: Mapping[str, Any], schema: Mapping[str, Any], origin: Origin) -> Shape:
    if not isinstance(schema.get("properties"), Mapping):
        return Anything()
    fields = {name: _shape(root, child, (*origin, name)) for name, child in schema["properties"].items()}
    required = set(schema.get("required") or ())
    return Record(fields=fields, optional=frozenset(fields.keys() - required))


def _array(root: Mapping[str, Any], schema: Mapping[str, Any], origin: Origin) -> Shape:
    items = schema.get("items")
    fixed = items if isinstance(items, list) else schema.get("prefixItems", [])
    rest = None if isinstance(items, list) else items
    least = schema.get("minItems", 0)
    return Array(
        item=_shape(root, rest, (*origin, None)) if rest is not None else Anything(),
        fixed=tuple(_shape(root, child, (*origin, index)) for index, child in enumerate(fixed)),
        least=least if isinstance(least, int) else 0,
    )


def either(options: Sequence[Shape]) -> Shape:
    """One of the options, which are joined where they are alike."""
    flat: list[Shape] = []
    for option in options:
        for one in option.options if isinstance(option, Either) else (option,):
            if one not in flat:
                flat.append(one)
    if not flat or Anything() in flat:
        return Anything()
    return flat[0] if len(flat) == 1 else Either(options=tuple(flat))


def moved(shape: Shape) -> Shape:
    """The same, no longer where the reply has it."""
    match shape:
        case Scalar():
            return replace(shape, origin=None)
        case Record():
            return replace(shape, fields={name: moved(child) for name, child in shape.fields.items()})
        case Array():
            return replace(shape, item=moved(shape.item), fixed=tuple(moved(child) for child in shape.fixed))
        case Either():
            return either([moved(option) for option in shape.options])
        case Anything():
            return shape


def schema_of(shape: Shape) -> dict[str, Any]:
    """A JSON Schema of a shape."""
    match shape:
        case Scalar(values=None):
            types = sorted(shape.types)
            return {"type": types[0] if len(types) == 1 else types}
        case Scalar():
            types = sorted(shape.types)
            return {"type": types[0] if len(types) == 1 else types, "enum": list(shape.values or ())}
        case Record():
            return {
                "type": "object",
                "properties": {name: schema_of(child) for name, child in shape.fields.items()},
                "required": [name for name in shape.fields if name not in shape.optional],
            }
        case Array():
            fixed = {"prefixItems": [schema_of(child) for child in shape.fixed]} if shape.fixed else {}
            return {"type": "array", **fixed, "items": schema_of(shape.item), "minItems": shape.least}
        case Either():
            return {"anyOf": [schema_of(option) for option in shape.options]}
        case Anything():
            return {}
