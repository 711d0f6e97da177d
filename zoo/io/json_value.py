"""Plain JSON values out of whatever a caller handed in, copied and bounded."""

import math
from collections.abc import Mapping
from typing import Any

from zoo.errors import ContractError

MAX_DEPTH = 64
MAX_NODES = 200_000
MAX_CHARACTERS = 4_000_000
MAX_BITS = 64

Path = tuple[str | int, ...]


class Budget:
    """What may still be read or made in one call.

    Attributes:
        nodes: values, of whatever kind.
        characters: of all strings together.
    """

    __slots__ = ("characters", "nodes")

    def __init__(self, *, nodes: int = MAX_NODES, characters: int = MAX_CHARACTERS) -> None:
        self.nodes = nodes
        self.characters = characters

    def spend(self, path: Path, *, nodes: int = 0, characters: int = 0) -> None:
        """Takes off what is used at `path`.

        Raises:
            ContractError: ZO102, there is not that much left.
        """
        self.nodes -= nodes
        self.characters -= characters
        if self.nodes < 0 or self.characters < 0:
            raise ContractError(
                f"more than {MAX_NODES:,} values or {MAX_CHARACTERS:,} characters",
                path=path,
                hint="split the work into several requests",
                code="ZO102",
            )


def copied(value: Any, path: Path, budget: Budget, depth: int = 0) -> Any:
    """A copy of `value` that is plain JSON: dict, list, str, int, float, bool and None only.

    Args:
        value: any mapping, list or tuple of such, with strings as keys.
        path: where it stands, for errors.
        budget: what it may use up.
        depth: of `value` in what is copied.

    Raises:
        ContractError: ZO101, it is no JSON value; ZO102, it is too large or too deep.
    """
    budget.spend(path, nodes=1)
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return text(value, path, budget)
    if depth > MAX_DEPTH:
        raise ContractError(f"nested deeper than {MAX_DEPTH} levels", path=path, code="ZO102")
    if isinstance(value, Mapping):
        return _copied_object(value, path, budget, depth + 1)
    if isinstance(value, list | tuple):
        return [_below(item, index, path, budget, depth + 1) for index, item in enumerate(value)]
    return _number(value, path)


def _copied_object(value: Mapping[Any, Any], path: Path, budget: Budget, depth: int) -> dict[str, Any]:
    copy: dict[str, Any] = {}
    for key, item in list(value.items()):
        if type(key) is not str or not key.isascii():
            key = text(key, path, budget)
        copy[key] = _below(item, key, path, budget, depth)
    return copy


def _below(value: Any, part: str | int, path: Path, budget: Budget, depth: int) -> Any:
    """A copy of what is in an object or list; short for what most of it is, ASCII text."""
    if type(value) is str and value.isascii():
        budget.nodes -= 1
        budget.characters -= len(value)
        if budget.nodes >= 0 <= budget.characters:
            return value
    return copied(value, (*path, part), budget, depth)


def text(value: Any, path: Path, budget: Budget) -> str:
    """`value` as a string that can be written as UTF-8.

    Raises:
        ContractError: ZO101, it is no string or has half a surrogate pair; ZO102, it is too long.
    """
    if not isinstance(value, str):
        raise ContractError(f"{_kind(value)} where text belongs", path=path, code="ZO101")
    budget.spend(path, characters=len(value))
    if not value.isascii():
        _check_encodable(value, path)
    return value if type(value) is str else str.__str__(value)


def _check_encodable(value: str, path: Path) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ContractError(
            f"text with half a surrogate pair at character {error.start}", path=path, code="ZO101"
        ) from None


def _number(value: Any, path: Path) -> int | float:
    if isinstance(value, int):
        if value.bit_length() > MAX_BITS:
            raise ContractError(f"an integer of {value.bit_length()} bits", path=path, code="ZO101")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ContractError(f"{value} is no JSON number", path=path, code="ZO101")
        return float(value)
    raise ContractError(f"{_kind(value)} is no JSON value", path=path, code="ZO101")


def _kind(value: Any) -> str:
    return "null" if value is None else f"a value of type {type(value).__name__}"
