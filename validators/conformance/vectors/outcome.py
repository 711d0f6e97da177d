"""What came of running vectors on an engine."""

from collections.abc import Iterator
from dataclasses import dataclass

from zoo.validators.conformance.vectors.case import Case


@dataclass(frozen=True, slots=True, kw_only=True)
class Agrees:
    """The engine answered as the vector says.

    Attributes:
        worst: largest difference of a stated log-probability, in nats.
        compared: how many of the stated positions the engine told.
        stated: how many there are.
        news: which known deviation did not show; empty when none was due.
    """

    worst: float
    compared: int
    stated: int
    news: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailsAsKnown:
    """The engine answered otherwise, and as one of its known deviations predicts.

    Attributes:
        worst: largest difference to what is right, in nats; infinite for a refusal.
        predicted: largest difference to the prediction, in nats.
        note: the deviation.
        source: where it is known from.
    """

    worst: float
    predicted: float
    note: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailsAnew:
    """The engine answered otherwise, and no known deviation explains it.

    Attributes:
        worst: largest difference to what is right, in nats; infinite when the answer is no number.
        where: the row, position and token of it.
    """

    worst: float
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotApplicable:
    """Not run: the engine has no way to do what the vector needs."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """Run, and no answer that can be compared: the engine failed, or told too little."""

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """Something broke that is neither the engine's word nor its answer."""

    error: str
    traceback: str


Outcome = Agrees | FailsAsKnown | FailsAnew | NotApplicable | Unanswered | Crashed


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorResult:
    """One vector's outcome."""

    group: str
    case: Case
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorReport:
    """All vectors of a run on one engine.

    Attributes:
        engine: its name.
        versions: which of its versions the known deviations describe.
        results: a vector each, in the order of the files.
    """

    engine: str
    versions: str
    results: tuple[VectorResult, ...]

    def of(self, *kinds: type[Outcome]) -> Iterator[VectorResult]:
        """The results whose outcome is of one of these kinds."""
        return (result for result in self.results if isinstance(result.outcome, kinds))

    def ids(self, *kinds: type[Outcome]) -> list[str]:
        """The ids of the vectors whose outcome is of one of these kinds."""
        return [result.case.id for result in self.of(*kinds)]

    def news(self) -> list[str]:
        """The ids of the vectors at which a known deviation was due and did not show."""
        return [
            result.case.id
            for result in self.results
            if isinstance(result.outcome, Agrees) and result.outcome.news
        ]

    def status(self) -> str:
        """One word: `crashed`, `fails`, `incomplete` (nothing was run, or no answer came), `known`, `agrees`.

        `known` is: every failure is as known, and nothing else is wrong.
        """
        if self.ids(Crashed):
            return "crashed"
        if self.ids(FailsAnew):
            return "fails"
        if self.ids(Unanswered) or not self.ids(Agrees, FailsAsKnown):
            return "incomplete"
        return "known" if self.ids(FailsAsKnown) else "agrees"

    def exit_code(self, *, strict: bool = False) -> int:
        """0 fine, 1 fails, 3 incomplete, 4 a defect in zoo.

        Args:
            strict: a known failure is a failure, and a known deviation that is gone is one too.
        """
        if strict and (self.status() == "known" or (self.status() == "agrees" and self.news())):
            return 1
        return {"crashed": 4, "fails": 1, "incomplete": 3}.get(self.status(), 0)
