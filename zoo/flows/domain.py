"""Which values a result may have, as far as conditions can tell them apart.

Comparisons with literals split all values into few classes; one witness of each class is enough to decide
whether conditions can hold together.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from zoo.contracts.fields import Field
from zoo.specs.condition import Condition, is_number

NUMERIC = frozenset({"number", "integer"})


def type_of(value: object) -> str:
    """The JSON type of a literal."""
    match value:
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case None:
            return "null"
        case _:
            return "string"


def fits(kind: str, types: frozenset[str]) -> bool:
    """Whether a value of a JSON type may stand where `types` are allowed; any numbers compare."""
    return not types or kind in types or (kind in NUMERIC and bool(types & NUMERIC))


def witnesses(field: Field, conditions: Iterable[Condition]) -> list[Any]:
    """One value of each class that the conditions tell apart and the field allows.

    Args:
        field: what is known of the values.
        conditions: about this field.
    """
    if field.values is not None:
        return list(field.values)
    literals = [literal for condition in conditions for literal in condition.literals]
    found: list[Any] = []
    if fits("number", field.types):
        found += _numbers(field, [literal for literal in literals if is_number(literal)])
    for kind, others in (("string", [_fresh(literals)]), ("boolean", [True, False]), ("null", [None])):
        if fits(kind, field.types):
            found += [literal for literal in literals if type_of(literal) == kind] + others
    return found


def possible(values: Sequence[Any], conditions: Iterable[Condition]) -> list[Any]:
    """Those of the values for which all conditions hold; an order asked of no number does not hold."""
    return [value for value in values if all(_holds(condition, value) for condition in conditions)]


def _holds(condition: Condition, value: Any) -> bool:
    try:
        return condition.holds(value)
    except TypeError:
        return False


def _numbers(field: Field, literals: list[float]) -> list[float]:
    """The literals, a number between each two, one beyond each end, and the field's own bounds."""
    low = float("-inf") if field.least is None else field.least
    points = sorted({*map(float, literals), *([] if field.least is None else [low])}) or [0.0]
    between = [(low + high) / 2 for low, high in pairwise(points)]
    candidates = [points[0] - 1, *points, *between, points[-1] + 1]
    inside = [number for number in candidates if number >= low]
    if "number" not in field.types and field.types:
        inside = [
            number for number in {*map(round, inside), *points} if number == int(number) and number >= low
        ]
    return inside


def _fresh(literals: Iterable[Any]) -> str:
    """A string that is none of the literals."""
    return max((literal for literal in literals if isinstance(literal, str)), key=len, default="") + "_"
