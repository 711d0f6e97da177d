"""The shortest JSON text that a schema allows, as far as it can be told."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from zoo.specs.json_shape import merged_schema

MAX_ENUM_TEXTS = 1_000
MAX_CHARACTERS = 100_000


def shortest_reply(schema: Mapping[str, Any]) -> str | None:
    """A shortest reply, or None when the schema does not let it be found (a pattern, a format, a `not`).

    Args:
        schema: a JSON Schema that `zoo.specs.json_schema.check_schema` accepts.

    Returns:
        JSON without white space; it is valid against the schema.
    """
    import jsonschema_rs

    text = _shortest(schema, schema)
    if text is None or len(text) > MAX_CHARACTERS:
        return None
    validator = jsonschema_rs.validator_for(dict(schema), offline=True)
    return text if validator.is_valid(json.loads(text)) else None


def whole_replies(schema: Mapping[str, Any]) -> list[str] | None:
    """Every reply, when the schema enumerates them, as Python's `json` writes them; else None."""
    merged = merged_schema(schema, schema)
    if isinstance(merged.get("enum"), list) and len(merged["enum"]) <= MAX_ENUM_TEXTS:
        return [_text(value, spaced=True) for value in merged["enum"]]
    fields = merged.get("properties")
    if (
        not isinstance(fields, Mapping)
        or len(fields) != 1
        or list(merged.get("required", ())) != list(fields)
    ):
        return None
    ((name, child),) = fields.items()
    inner = merged_schema(schema, child)
    if not isinstance(inner.get("enum"), list) or len(inner["enum"]) > MAX_ENUM_TEXTS:
        return None
    return [_text({name: value}, spaced=True) for value in inner["enum"]]


def _text(value: Any, *, spaced: bool = False) -> str:
    return json.dumps(value, ensure_ascii=False, separators=None if spaced else (",", ":"))


def _shortest(root: Mapping[str, Any], schema: Any) -> str | None:
    if schema is False:
        return None
    schema = merged_schema(root, schema)
    if "const" in schema:
        return _text(schema["const"])
    if isinstance(schema.get("enum"), list):
        return _least(_text(value) for value in schema["enum"])
    for word in ("anyOf", "oneOf"):
        if isinstance(schema.get(word), list):
            return _least(_shortest(root, option) for option in schema[word])
    types = schema.get(
        "type", "object" if "properties" in schema else "array" if "items" in schema else "integer"
    )
    return _least(_of(root, schema, name) for name in ([types] if isinstance(types, str) else types))


def _of(root: Mapping[str, Any], schema: Mapping[str, Any], name: str) -> str | None:
    match name:
        case "object":
            required = dict.fromkeys(schema.get("required", ()))
            fields = {key: _shortest(root, schema.get("properties", {}).get(key, {})) for key in required}
            if None in fields.values():
                return None
            return "{" + ",".join(f"{_text(key)}:{value}" for key, value in fields.items()) + "}"
        case "array":
            fixed = [_shortest(root, child) for child in schema.get("prefixItems", ())]
            least = int(schema.get("minItems", 0))
            rest = _shortest(root, schema.get("items", {})) if least > len(fixed) else "0"
            elements = fixed[:least] + [rest] * min(max(least - len(fixed), 0), MAX_CHARACTERS)
            return None if None in elements else "[" + ",".join(one or "" for one in elements) + "]"
        case "string":
            least = schema.get("minLength", 0)
            return _text("a" * min(int(least), MAX_CHARACTERS))
        case "integer" | "number":
            least = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
            most = schema.get("maximum", 0)
            return _text(0 if least <= 0 <= most or (least <= 0 and "maximum" not in schema) else
                         least if least > 0 else most)  # fmt: skip
        case "boolean":
            return "true"
        case "null":
            return "null"
        case _:
            return None


def _least(texts: Iterable[str | None]) -> str | None:
    found = [text for text in texts if text is not None]
    return min(found, key=len) if found else None
