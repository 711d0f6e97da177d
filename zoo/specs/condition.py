"""The conditions of a `flow.yaml`: a step's result compared with a literal, and nothing more.

`answerable.label == "answerable"`, `check.score >= 0.5`, `kind.label in ["a", "b"]`. The literal is JSON.
There is no `and`, no arithmetic and no call, so nothing is evaluated but six comparisons and a membership.
"""

import json
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from zoo.specs.reference import Reference, parse_reference

MAX_CHARACTERS = 2000
ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
OPERATORS = ("==", "!=", "<=", ">=", "<", ">", "in")
_FORM = re.compile(
    r"\s*(?P<reference>[^\s=!<>]+)\s*(?P<operator>==|!=|<=|>=|<|>|\bin\b)\s*(?P<literal>.+)", re.DOTALL
)
_LIKE = 'write it like answerable.label == "answerable", with a JSON literal on the right'


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One comparison.

    Attributes:
        reference: the value on the left.
        operator: one of `OPERATORS`.
        literal: what it is compared with: a string, number, boolean or null; a list of them for `in`.
    """

    reference: Reference
    operator: str
    literal: Any

    def __str__(self) -> str:
        """As it is written in a file."""
        return f"{self.reference} {self.operator} {json.dumps(self.literal, ensure_ascii=False)}"

    @property
    def literals(self) -> list[Any]:
        """What the value is compared with, one by one."""
        return list(self.literal) if self.operator == "in" else [self.literal]

    def holds(self, value: Any) -> bool:
        """Whether it holds for a value.

        Raises:
            TypeError: an order was asked of what is not a number.
        """
        if self.operator in ORDERED:
            if not is_number(value):
                raise TypeError(
                    f"{self.reference} is {json.dumps(value)[:80]}, and {self.operator} orders numbers"
                )
            return ORDERED[self.operator](value, self.literal)
        found = any(same(value, literal) for literal in self.literals)
        return found if self.operator != "!=" else not found


def is_number(value: Any) -> bool:
    """Whether it is a number in JSON's sense, where true is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(value: Any, literal: Any) -> bool:
    """Equality in JSON's sense: 1 equals 1.0, and true does not."""
    return bool(value == literal) and isinstance(value, bool) == isinstance(literal, bool)


def parse_condition(text: str) -> Condition:
    """Reads a condition.

    Raises:
        ValueError: it has not the form of one.
    """
    match = _FORM.fullmatch(text)
    if len(text) > MAX_CHARACTERS or match is None:
        raise ValueError(f"{text[:80]!r} is not a condition: {_LIKE}")
    sign = match["operator"]
    literal = _literal(match["literal"].strip())
    if sign == "in" and not (isinstance(literal, list) and literal):
        raise ValueError(f"{text[:80]!r}: `in` wants a list that is not empty")
    if sign in ORDERED and not is_number(literal):
        raise ValueError(f"{text[:80]!r}: {sign} orders numbers")
    if any(isinstance(value, list | dict) for value in (literal if sign == "in" else [literal])):
        raise ValueError(f"{text[:80]!r} compares with a list or an object; compare with what is in it")
    reference = parse_reference(match["reference"])
    if reference.wild:
        raise ValueError(f"{text[:80]!r}: a condition is about one value, and * names several")
    return Condition(reference=reference, operator=sign, literal=literal)


def _literal(text: str) -> Any:
    def no_constant(name: str) -> NoReturn:
        raise ValueError(name)

    try:
        return json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError):
        raise ValueError(f"{text[:80]!r} is not a JSON literal: {_LIKE}") from None
