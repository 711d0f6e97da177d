"""A pydantic model of an intrinsic's result, built from its JSON Schema."""

import keyword
import re
from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model

MAX_DEPTH = 12
_PLAIN: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "null": None,
}


class _Open(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def result_model(schema: Mapping[str, Any], name: str) -> type[BaseModel]:
    """The model of a result.

    Objects become models with a field a property; whatever else a result is becomes a `RootModel`, whose
    value is `.root`. A property whose name cannot be a field's gets another (`json` becomes `json_`), and
    keeps its own in what is dumped by alias.

    Args:
        schema: without references, as `zoo.contracts.result.result_schema` gives it.
        name: the intrinsic's; the class is named like it.
    """
    title = _title(name) or "Result"
    found = _type(schema, title, 0)
    if isinstance(found, type) and issubclass(found, BaseModel):
        return found
    root: Any = RootModel
    model: type[BaseModel] = create_model(title, __base__=root[found])
    return model


def _type(schema: Any, title: str, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH:
        return Any
    if "const" in schema:
        return _literal([schema["const"]])
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return _literal(schema["enum"])
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list) and schema[word]:
            kinds = [_type(one, f"{title}{n or ''}", depth + 1) for n, one in enumerate(schema[word])]
            return _union(kinds)
    stated = schema.get("type")
    if stated is None:
        stated = "object" if "properties" in schema else "array" if "items" in schema else None
    if isinstance(stated, list):
        return _union([_type({**schema, "type": one}, title, depth + 1) for one in stated])
    if stated == "array":
        items: Any = _type(schema.get("items"), f"{title}Item", depth + 1)
        return list[items]
    if stated == "object":
        return _object(schema, title, depth)
    return _PLAIN.get(stated, Any) if isinstance(stated, str) else Any


def _object(schema: Mapping[str, Any], title: str, depth: int) -> Any:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        return dict[str, Any]
    required = schema.get("required", [])
    fields: dict[str, Any] = {}
    for key, inner in properties.items():
        kind = _type(inner, title + _title(key), depth + 1)
        name = _field_name(key, fields)
        alias = key if name != key else None
        if key in required:
            fields[name] = (kind, Field(alias=alias))
        else:
            fields[name] = (_union([kind, None]), Field(default=None, alias=alias))
    base = _Closed if schema.get("additionalProperties") is False else _Open
    model: type[BaseModel] = create_model(title, __base__=base, **fields)
    return model


def _field_name(key: str, taken: Mapping[str, Any]) -> str:
    """A name that pydantic and Python take, like the key where that is one."""
    name = re.sub(r"\W", "_", key).lstrip("_") or "field"
    if name[0].isdigit() or name.startswith("model_"):  # pydantic keeps the latter for itself
        name = f"field_{name}"
    while keyword.iskeyword(name) or hasattr(BaseModel, name) or name in taken:
        name += "_"
    return name


def _literal(values: list[Any]) -> Any:
    kinds: list[Any] = [_only(value) for value in values]
    return _union(kinds)


def _only(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return Literal[value]
    return type(value)  # a float, list or object cannot stand in a Literal


def _union(kinds: list[Any]) -> Any:
    return Any if any(kind is Any for kind in kinds) else reduce(or_, kinds)


def _title(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"\W|_", name) if part)
