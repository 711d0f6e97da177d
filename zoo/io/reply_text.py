"""The JSON in a reply's text, with or without where each literal stands."""

import json
import math
import re
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, NoReturn

from zoo.errors import ContractError
from zoo.io.json_value import MAX_DEPTH

MAX_REPLY = 1_000_000

Literal = str | int | float | bool | None
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r]*")
_WORD = re.compile(r"[-+.0-9a-zA-Z]+")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A literal and where it stands.

    Attributes:
        value: what it says.
        begin: offset of its first character in the reply's text, quote included.
        end: offset behind its last character.
    """

    value: Literal
    begin: int
    end: int


def parsed(text: str) -> Any:
    """The JSON value that a reply's text is.

    Raises:
        ContractError: ZO102, it is too long or too deep; ZO120, it is not JSON, says NaN or Infinity, or
            gives one key two values.
    """
    if len(text) > MAX_REPLY:
        raise ContractError(f"a reply of more than {MAX_REPLY:,} characters", code="ZO102")
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _check_depth(text)
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite)
    except ValueError as error:  # also an integer with more digits than Python converts
        raise ContractError(
            f"the reply is not JSON: {error}",
            hint="generate with the contract's schema as a constraint, and let the reply end",
            code="ZO120",
        ) from None
    if not text.isascii() or "\\u" in text:
        _check_encodable(value)
    return value


def placed(text: str) -> Any:
    """The same value with every literal as a Leaf; `text` is what `parsed` has accepted."""
    return _Reader(text).value(_skipped(text, 0))[0]


def without_places(value: Any) -> Any:
    """The value with every Leaf replaced by what it says."""
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_places(item) for item in value]
    return value.value if isinstance(value, Leaf) else value


class _Reader:
    """Reads JSON that is known to be right."""

    def __init__(self, text: str) -> None:
        self.text = text

    def value(self, at: int) -> tuple[Any, int]:
        match self.text[at]:
            case "{":
                return self.object(at)
            case "[":
                return self.array(at)
            case '"':
                said, end = scanstring(self.text, at + 1)
                return Leaf(said, at, end), end
            case _:
                pass
        word = _WORD.match(self.text, at)
        end = word.end() if word else at + 1
        return Leaf(json.loads(self.text[at:end]), at, end), end

    def object(self, at: int) -> tuple[dict[str, Any], int]:
        said: dict[str, Any] = {}
        at = _skipped(self.text, at + 1)
        while self.text[at] != "}":
            key, at = scanstring(self.text, _skipped(self.text, at) + 1)
            said[key], at = self.value(_skipped(self.text, _skipped(self.text, at) + 1))
            at = self._next(at)
        return said, at + 1

    def array(self, at: int) -> tuple[list[Any], int]:
        said = []
        at = _skipped(self.text, at + 1)
        while self.text[at] != "]":
            value, at = self.value(at)
            said.append(value)
            at = self._next(at)
        return said, at + 1

    def _next(self, at: int) -> int:
        at = _skipped(self.text, at)
        return _skipped(self.text, at + 1) if self.text[at] == "," else at


def _skipped(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has two values for one key")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {digits[:40]} is out of range")
    return value


def _check_depth(text: str) -> None:
    depth = 0
    for bracket in _BRACKET.finditer(text):
        found = bracket.group()
        depth += (found in "[{") - (found in "]}")
        if depth > MAX_DEPTH:
            raise ContractError(f"the reply is nested deeper than {MAX_DEPTH} levels", code="ZO102")


def _check_encodable(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ContractError("the reply has half a surrogate pair", code="ZO120") from None
