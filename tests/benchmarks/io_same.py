"""Equality of JSON values, for comparing executors."""

import math
from typing import Any


def same(left: Any, right: Any) -> bool:
    """Equal as JSON, numbers to 12 digits; true is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, bool) or isinstance(right, bool) or not isinstance(left, int | float):
        return type(left) is type(right) and left == right
    return isinstance(right, int | float) and math.isclose(left, right, rel_tol=1e-12, abs_tol=1e-12)
