"""JSON inside a file of another format: its value, and where each part of it stands."""

import json
import re
from typing import Any

from zoo.specs.yaml_tree import MAX_DEPTH, MAX_NODES, Path

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')


class JsonTextError(ValueError):
    """A text that is not JSON within bounds.

    Attributes:
        offset: character at which it goes wrong.
        code: ZO002, ZO003, ZO005 or ZO007.
    """

    def __init__(self, message: str, offset: int, code: str) -> None:
        """Makes an error."""
        super().__init__(message)
        self.offset, self.code = offset, code


def read_json_text(text: str) -> tuple[Any, dict[Path, int]]:
    """Parses JSON.

    Returns:
        The value, and the character offset of each key and list element by path.

    Raises:
        JsonTextError: not JSON, out of bounds, a key twice, or a number that is not finite.
    """
    try:
        value = json.loads(text, parse_constant=_not_finite)
    except json.JSONDecodeError as error:
        raise JsonTextError(error.msg, error.pos, "ZO007") from None
    except _NotFiniteError as error:
        raise JsonTextError(f"{error} is not JSON", max(text.find(str(error)), 0), "ZO005") from None
    except (RecursionError, ValueError) as error:  # ValueError: a number of more than 4,300 digits
        message = "is nested too deep" if isinstance(error, RecursionError) else str(error)[:80]
        raise JsonTextError(message, 0, "ZO002") from None
    return value, _places(text)


class _NotFiniteError(Exception):
    pass


def _not_finite(word: str) -> None:
    raise _NotFiniteError(word)


def _places(text: str) -> dict[Path, int]:
    """Offsets by path, from the tokens of a text that is known to be JSON."""
    places: dict[Path, int] = {}
    stack: list[tuple[Path, bool]] = []  # path of each open container, and whether it is a list
    path: Path = ()
    index: list[int] = []
    key_next = False
    for count, match in enumerate(_TOKEN.finditer(text)):
        token, offset = match.group(), match.start()
        if count > 4 * MAX_NODES or len(stack) > MAX_DEPTH:
            raise JsonTextError(f"is nested more than {MAX_DEPTH} deep, or too large", offset, "ZO002")
        if token in ("]", "}"):
            stack.pop()
            index.pop()
            key_next = False
        elif token == ",":
            if stack[-1][1]:
                index[-1] += 1
            key_next = not stack[-1][1]
        elif token == ":":
            key_next = False
        elif key_next:
            path = (*stack[-1][0], json.loads(token))
            if path in places:
                raise JsonTextError(f"the key {token[:60]} stands twice", offset, "ZO003")
            places[path] = offset
        else:
            if stack and stack[-1][1]:
                path = (*stack[-1][0], index[-1])
            places.setdefault(path if stack else (), offset)
            if token in ("[", "{"):
                stack.append((path if stack else (), token == "["))
                index.append(0)
                key_next = token == "{"
    return places
