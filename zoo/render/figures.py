"""Measured values as people read them: a value and the two ends of its interval are one figure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from zoo.report import Flagged, Passed, Report, Result, Value

LOW, HIGH = "_low", "_high"
_SIGNED = ("difference", "above_trivial")  # gains, which may be below zero


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured value.

    Attributes:
        name: as it was measured.
        value: number or text.
        low: lower end of its 95 % interval; None where it has none.
        high: upper end.
        layers: one number a layer, which `value` then sums up in words.
    """

    name: str
    value: float | int | str
    low: float | None = None
    high: float | None = None
    layers: tuple[float, ...] = ()

    @property
    def signed(self) -> bool:
        """Whether it is a gain or a loss, between -1 and 1."""
        return self.name.endswith(_SIGNED)

    def ends(self) -> tuple[float, float] | None:
        """The interval, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    def bar(self) -> tuple[float, float, float] | None:
        """Where value, lower and upper end are on a line from 0 to 100; None where it has no interval."""
        ends = self.ends()
        if ends is None or isinstance(self.value, str):
            return None
        places = [self.value, *ends]
        if self.signed:
            places = [(place + 1) / 2 for place in places]
        value, low, high = (100 * min(1.0, max(0.0, place)) for place in places)
        return value, low, high


def figures(measured: Mapping[str, Value]) -> list[Figure]:
    """The measured values, the ends of an interval beside what they belong to."""
    found = []
    for name, value in measured.items():
        if isinstance(value, tuple):
            found.append(Figure(name=name, value=in_words(value), layers=value))
            continue
        low, high = measured.get(f"{name}{LOW}"), measured.get(f"{name}{HIGH}")
        if isinstance(low, int | float) and isinstance(high, int | float):
            found.append(Figure(name=name, value=value, low=low, high=high))
        elif not _is_end(name, measured):
            found.append(Figure(name=name, value=value))
    return found


def interval(figure: Figure) -> str:
    """A value with its interval, for people; empty where it has none."""
    ends = figure.ends()
    if ends is None or isinstance(figure.value, str):
        return ""
    sign = "+" if figure.signed else ""
    low, high = (f"{end:{sign}.3f}" for end in ends)
    return f"{figure.value:{sign}.3f} [{low}, {high}]"


def evaluations(report: Report) -> Iterator[tuple[Result, list[Figure]]]:
    """The results that measured something with an interval."""
    for result in report.results:
        if isinstance(result.outcome, Passed | Flagged):
            found = figures(result.outcome.measured)
            if any(one.ends() for one in found):
                yield result, found


def in_words(layers: tuple[float, ...]) -> str:
    """What one number a layer comes to."""
    if not any(layers):
        return f"0 in each of {len(layers)} layers"
    top = max(range(len(layers)), key=layers.__getitem__)
    return f"up to {layers[top]:.3g}, in layer {top} of {len(layers)}"


def _is_end(name: str, measured: Mapping[str, Value]) -> bool:
    for end, other in ((LOW, HIGH), (HIGH, LOW)):
        whole = name.removesuffix(end)
        if whole != name and whole in measured and f"{whole}{other}" in measured:
            return isinstance(measured[f"{whole}{other}"], int | float)
    return False
