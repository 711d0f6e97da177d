"""What a check measured, as the number that a test compares."""

from zoo.report import Value


def number(value: Value) -> float:
    """The value, which has to be one number and not words."""
    assert isinstance(value, int | float), value
    return float(value)
