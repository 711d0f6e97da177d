"""References in a `flow.yaml`: `step.key.0.key`, a place in the request or in an earlier step's result."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_PARTS = 16
PATTERN = r"^[a-z][a-z0-9_]{0,63}(\.([A-Za-z0-9_-]{1,100}|\*)){0,16}$"
REQUEST = "request"
DATA = "data"
EVERY = "*"


class AbsentError(LookupError):
    """A reference names what is not there; `path` is the part that could still be followed."""

    def __init__(self, path: Sequence[str]) -> None:
        """Remembers how far the path could be followed."""
        super().__init__(".".join(path))
        self.path = tuple(path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Where a value is.

    Attributes:
        head: `request`, `data`, or a step's id.
        path: keys and indices below it, as written; `*` stands for every element of a list.
    """

    head: str
    path: tuple[str, ...] = ()

    def __str__(self) -> str:
        """As it is written in a file."""
        return ".".join((self.head, *self.path))

    @property
    def wild(self) -> bool:
        """Whether it names several values."""
        return EVERY in self.path

    def find(self, value: Any) -> Any:
        """Follows the path from the head's value; with `*` a list of what is there, in order.

        Raises:
            AbsentError: a key or an index is not there.
        """
        return _follow(value, self.path, (self.head,))


def parse_reference(text: str) -> Reference:
    """Reads a reference.

    Raises:
        ValueError: it has not the form of one.
    """
    if not re.match(PATTERN, text):
        raise ValueError(
            f"{text[:80]!r} is not a reference: a step's id or `request`, then keys, with dots between"
        )
    head, *path = text.split(".")
    return Reference(head=head, path=tuple(path))


def _follow(value: Any, path: tuple[str, ...], walked: tuple[str, ...]) -> Any:
    for index, part in enumerate(path):
        match value:
            case list() if part == EVERY:
                rest, here = path[index + 1 :], (*walked, *path[: index + 1])
                return [_follow(element, rest, here) for element in value]
            case Mapping() if part in value:
                value = value[part]
            case list() if part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            case _:
                raise AbsentError((*walked, *path[: index + 1]))
    return value
