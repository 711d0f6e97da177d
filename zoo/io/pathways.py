"""Paths of a contract in a value: which places they mean, reading and replacing what is there."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zoo.errors import ContractError
from zoo.io.json_value import Path
from zoo.io.reply_text import Leaf


def places_of(value: Any, pattern: Sequence[str | int | None]) -> list[Path]:
    """Every path that a pattern means in a value; null stands for all elements or fields.

    An empty list or object has no elements, so a pattern that goes through it means none there; that is no
    error.

    Raises:
        ContractError: ZO123, a key or index is not there, or the path goes into a literal.
    """
    return [path for path, _ in _walk(value, tuple(pattern), ())]


def replaced(value: Any, path: Path, make: Callable[[Any], Any]) -> Any:
    """`value` with what is at `path` replaced, in place."""
    if not path:
        return make(value)
    parent = value
    for part in path[:-1]:
        parent = parent[part]
    parent[path[-1]] = make(parent[path[-1]])
    return value


def value_at(value: Any, path: Path) -> Any:
    """What is at `path`, a path that `places_of` gave."""
    for part in path:
        value = value[part]
    return value


def _walk(value: Any, pattern: tuple[str | int | None, ...], path: Path) -> Iterator[tuple[Path, Any]]:
    if not pattern:
        yield path, value
        return
    part, rest = pattern[0], pattern[1:]
    if part is None:
        for key, item in _children(value, path):
            yield from _walk(item, rest, (*path, key))
        return
    if isinstance(value, dict):
        there = isinstance(part, str) and part in value
    else:
        there = isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value)
    if not there:
        raise ContractError(
            f"the contract transforms {part!r} here, and {_shown(value)} has none",
            path=path,
            hint="input_path must fit the reply's schema and the transformations before it",
            code="ZO123",
        )
    yield from _walk(value[part], rest, (*path, part))


def _children(value: Any, path: Path) -> list[tuple[str | int, Any]]:
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, list):
        return list(enumerate(value))
    raise ContractError(
        f"the contract transforms every element here, and {_shown(value)} has none",
        path=path,
        hint="input_path must fit the reply's schema and the transformations before it",
        code="ZO123",
    )


def _shown(value: Any) -> str:
    said = value.value if isinstance(value, Leaf) else value
    if isinstance(said, dict):
        return "an object with " + (", ".join(map(repr, list(said)[:8])) or "no keys")
    if isinstance(said, list):
        return f"a list of {len(said)}"
    return "null" if said is None else f"a {type(said).__name__}"
