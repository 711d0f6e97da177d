"""What a validation found: findings, outcomes, results and the report that holds them.

A report is data. Every output format is a pure function of it (`zoo.render`). The five outcomes keep
"not checked" apart from "passed": only `Passed` and `NotApplicable` are good news, and a report without
results is incomplete.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, assert_never

REPORT_FORMAT = 1

# What a check measured; several numbers are one a layer.
Value = float | int | str | tuple[float, ...]


class Severity(enum.Enum):
    """How bad a finding is. Only `ERROR` turns the verdict to no."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Location:
    """Where a finding is.

    Attributes:
        file: path relative to the adapter folder, with `/`.
        line: 1-based; None when the file has no lines or the finding is about all of it.
        pointer: a tensor name, a JSON key, a prompt id; empty when the file says enough.
    """

    file: str
    line: int | None = None
    pointer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong or worth knowing, and what to do about it.

    Attributes:
        message: one sentence that names the thing.
        severity: see `Severity`.
        location: where; None when the finding concerns no single file.
        fix: what to do; empty when the check's page says it all.
    """

    message: str
    severity: Severity = Severity.ERROR
    location: Location | None = None
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """The check ran and found nothing wrong.

    Attributes:
        measured: what was measured, by name with the unit in the name: the evidence behind the word "passed".
    """

    measured: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flagged:
    """The check ran and has something to say; the worst severity among `findings` counts."""

    findings: Sequence[Finding]
    measured: Mapping[str, Value] = field(default_factory=dict)

    @property
    def severity(self) -> Severity:
        """The worst severity among the findings."""
        order = list(Severity)
        return max((finding.severity for finding in self.findings), key=order.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotApplicable:
    """The check has nothing to look at in this adapter."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """The check should have run and did not: the report is incomplete."""

    reason: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crashed:
    """The check itself failed: a defect in zoo, not a verdict on the adapter."""

    error: str
    traceback: str = ""


Outcome = Passed | Flagged | NotApplicable | Skipped | Crashed
Status = Literal["passed", "failed", "incomplete", "crashed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome of one check on one subject.

    Attributes:
        code: the check's stable code.
        title: the check's one-line title.
        outcome: one of the five.
        seconds: wall time the check took.
    """

    code: str
    title: str
    outcome: Outcome
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that one validation run says about one adapter.

    Attributes:
        subject: the adapter's name or path as the user gave it.
        digest: sha256 over the files the run looked at (`zoo.provenance.folder_digest`).
        results: in the order in which the checks ran.
        environment: versions and machine, by name.
        allowed_skips: code to reason, from the author's `zoo.yaml`; such a check may be skipped.
    """

    subject: str
    digest: str
    results: Sequence[Result]
    environment: Mapping[str, str] = field(default_factory=dict)
    allowed_skips: Mapping[str, str] = field(default_factory=dict)

    def status(self) -> Status:
        """The verdict: a crash outranks a failure, which outranks incompleteness."""
        seen = {self._grade(result) for result in self.results}
        if all(isinstance(result.outcome, Skipped) for result in self.results):
            return "incomplete"  # nothing ran, whatever may be skipped
        for status in ("crashed", "failed", "incomplete", "passed"):
            if status in seen:
                return status
        return "incomplete"

    def _grade(self, result: Result) -> Status:
        match result.outcome:
            case Passed() | NotApplicable():
                return "passed"
            case Flagged() as flagged:
                return "failed" if flagged.severity is Severity.ERROR else "passed"
            case Skipped():
                return "passed" if result.code in self.allowed_skips else "incomplete"
            case Crashed():
                return "crashed"
            case _ as unreachable:
                assert_never(unreachable)

    @property
    def exit_code(self) -> int:
        """The process exit code that this report stands for."""
        return {"passed": 0, "failed": 1, "incomplete": 3, "crashed": 4}[self.status()]

    def findings(self) -> Sequence[tuple[Result, Finding]]:
        """Every finding with the result it belongs to, in order."""
        return [
            (result, finding)
            for result in self.results
            if isinstance(result.outcome, Flagged)
            for finding in result.outcome.findings
        ]

    def measured(self) -> dict[str, dict[str, Value]]:
        """What the checks measured, by code."""
        found: dict[str, dict[str, Value]] = {}
        for result in self.results:  # several engines have checks of one code
            if isinstance(result.outcome, Passed | Flagged) and result.outcome.measured:
                found.setdefault(result.code, {}).update(result.outcome.measured)
        return found


def worst_exit_code(codes: Iterable[int]) -> int:
    """The most telling of several runs' exit codes; 3 when there was no run.

    A defect of zoo's hides the verdict, and a no outranks an undecided.
    """
    found = set(codes)
    return next((code for code in (4, 1, 3, 0) if code in found), 3)
