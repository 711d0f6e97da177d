"""The verdict in words. It never says "passed" when something was not checked."""

from collections.abc import Sequence
from pathlib import PurePath

from zoo.report import Crashed, Flagged, NotApplicable, Passed, Report, Result, Severity, Skipped

# As `zoo.report.worst_exit_code` ranks them.
WORST_FIRST = ("crashed", "failed", "incomplete", "accepted", "passed")


def verdict(report: Report) -> str:
    """One sentence: the status, what holds, what does not, what was not checked."""
    failed = [r.code for r in report.results if worst(r) is Severity.ERROR]
    crashed = [r.code for r in report.results if isinstance(r.outcome, Crashed)]
    skipped = [r.code for r in report.results if isinstance(r.outcome, Skipped)]
    holding = sum(holds(result) for result in report.results)
    allowed = [code for code in skipped if code in report.allowed_skips]
    unchecked = [code for code in skipped if code not in report.allowed_skips]
    parts = []
    if crashed:
        parts.append(f"a defect in zoo: {_codes(crashed)}")
    if failed:
        parts.append(f"failed: {_codes(failed)}" if crashed else _codes(failed))
    parts.append(f"{holding} {'check holds' if holding == 1 else 'checks hold'}")
    if apart := sum(isinstance(result.outcome, NotApplicable) for result in report.results):
        parts[-1] += f", {apart} not applicable"
    if unchecked:
        parts.append(f"NOT CHECKED: {_codes(unchecked)}")
    if allowed:
        parts.append(f"not checked, as is allowed: {_codes(allowed)}")
    return f"{headline(report)}: {'; '.join(parts)}"


def headline(report: Report) -> str:
    """The status as a word; a pass that rests on allowed skips is called accepted."""
    status = report.status()
    if status == "passed" and any(isinstance(result.outcome, Skipped) for result in report.results):
        return "accepted"
    return status


def overall(reports: Sequence[Report]) -> str:
    """The most telling headline of several adapters."""
    found = {headline(report) for report in reports}
    return next((one for one in WORST_FIRST if one in found), "incomplete")


def tally(reports: Sequence[Report]) -> str:
    """Several adapters in a line: how many came to what, and which did not pass."""
    by_status: dict[str, list[str]] = {}
    for report in reports:
        by_status.setdefault(headline(report), []).append(PurePath(report.subject).name)
    parts = [
        f"{len(names)} {status}" + ("" if status == "passed" else f" ({', '.join(names)})")
        for status, names in sorted(by_status.items(), reverse=True)
    ]
    return f"{len(reports)} adapters: {', '.join(parts)}"


def worst(result: Result) -> Severity | None:
    """The worst severity of a check's findings; None when there are none."""
    return result.outcome.severity if isinstance(result.outcome, Flagged) else None


def holds(result: Result) -> bool:
    """Whether the check ran and found nothing that turns the verdict."""
    return isinstance(result.outcome, Passed) or worst(result) in (
        Severity.INFO,
        Severity.WARNING,
    )


def word(result: Result) -> str:
    """One word for an outcome."""
    match result.outcome:
        case Passed():
            return "ok"
        case Flagged(severity=severity):
            return {Severity.INFO: "note", Severity.WARNING: "warning", Severity.ERROR: "FAILED"}[severity]
        case NotApplicable():
            return "n/a"
        case Skipped():
            return "skipped"
        case Crashed():
            return "CRASHED"


def _codes(codes: list[str]) -> str:
    return ", ".join(codes)
