"""What is where in the data of an `io.yaml`, and changes at a place."""

# mypy: disable-error-code="misc"

from collections.abc import Callable
from typing import Any

Data = dict[str, Any]
Change = tuple[str, Callable[[Data], None]]


def rules_of(data: Data, *kinds: str) -> list[tuple[int, Data]]:
    rules = data.get("transformations") or []
    return [(index, rule) for index, rule in enumerate(rules) if not kinds or rule["type"] in kinds]


def schemas_of(data: Data) -> list[tuple[tuple[str, ...], Data]]:
    """The reply's schema and all subschemas, by path from the file's top."""
    found: list[tuple[tuple[str, ...], Data]] = []

    def visit(path: tuple[str, ...], node: Any) -> None:
        if not isinstance(node, dict):
            return
        found.append((path, node))
        for name, child in (node.get("properties") or {}).items():
            visit((*path, "properties", name), child)
        for name, child in (node.get("$defs") or {}).items():
            visit((*path, "$defs", name), child)
        visit((*path, "items"), node.get("items"))

    start: tuple[str, ...] = ("response_format",)
    if data.get("response_format") is None:
        start = ("parameters", "response_format", "json_schema", "schema")
    visit(start, at(data, start))
    return found


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for part in path:
        if data is None:
            return None
        data = data[part] if isinstance(data, list) else data.get(part)
    return data


def edit(path: tuple[Any, ...], make: Callable[[Any], Any]) -> Callable[[Data], None]:
    def change(data: Data) -> None:
        parent = at(data, path[:-1])
        parent[path[-1]] = make(parent.get(path[-1]) if isinstance(parent, dict) else parent[path[-1]])

    return change


def rekeyed(path: tuple[Any, ...], old: Any, new: Any) -> Callable[[Data], None]:
    """A key spelt otherwise, in its place."""
    return edit(path, lambda mapping: {new if key == old else key: value for key, value in mapping.items()})


def without(path: tuple[Any, ...], key: Any) -> Callable[[Data], None]:
    return edit(path, lambda mapping: {k: v for k, v in mapping.items() if k != key})


def misspelt(word: str) -> str:
    return word[:-1] + ("x" if word[-1:] != "x" else "y")
