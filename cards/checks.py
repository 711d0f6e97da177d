"""The section about checks: what was checked, with which result, and what was not."""

from collections import Counter
from typing import assert_never

from zoo.cards.markdown import cell, folded, number, table
from zoo.cards.record import CardRecord
from zoo.report import Crashed, Flagged, NotApplicable, Outcome, Passed, Report, Result, Severity, Skipped

_VERSIONS = ("alora-zoo", "torch", "transformers", "peft", "safetensors", "python")


def checks(record: CardRecord) -> str:
    """How it was checked."""
    if record.report is None:
        return (
            "## How it was checked\n\n"
            "**It was not checked.** No validation of these files is recorded: nothing below about how it "
            "acts has been tested."
        )
    report = record.report
    parts = ["## How it was checked", _summary(report), _not_checked(record, report), _findings(report)]
    parts.append(folded(f"All {len(report.results)} checks", _table(report)))
    return "\n\n".join(part for part in parts if part)


def _summary(report: Report) -> str:
    count = Counter(_grade(result.outcome) for result in report.results)
    said = [f"{count[grade]} {grade}" for grade in dict.fromkeys(map(_grade_of, report.results))]
    environment = report.environment
    versions = ", ".join(f"{name} {cell(environment[name])}" for name in _VERSIONS if name in environment)
    where = " ".join(cell(environment[key]) for key in ("device", "dtype") if key in environment)
    verdict = {
        "passed": "passed",
        "failed": "**failed**",
        "incomplete": "is **incomplete**: not everything was checked",
        "crashed": "**broke off**: a check crashed",
    }[report.status()]
    ran = f" ({where}; {versions})" if where or versions else ""
    return (
        f"`zoo validate`{ran} {verdict}. Of {len(report.results)} checks: {', '.join(said)}. "
        f"Checked files: sha256 `{report.digest}`. `zoo explain CODE` says what a check looks at."
    )


def _not_checked(record: CardRecord, report: Report) -> str:
    lines = []
    for result in report.results:
        match result.outcome:
            case Skipped(reason=reason):
                allowed = report.allowed_skips.get(result.code)
                why = f" The author allows this: {cell(allowed)}" if allowed else ""
                lines.append(f"- {result.code}, {cell(result.title)}: {cell(reason)}.{why}")
            case Crashed(error=error):
                lines.append(f"- {result.code}, {cell(result.title)}: the check crashed: {cell(error)}")
            case _:
                pass
    if not record.measured:
        lines.append("- How good its answers are: nobody measured that on held-out samples.")
    if not engines_ran(report):
        lines.append("- Serving engines other than PEFT: none was run with this adapter.")
    return "What was **not** checked:\n\n" + "\n".join(lines) if lines else ""


def engines_ran(report: Report) -> bool:
    """Whether a serving engine was tried, whose checks are those of ZE."""
    return any(
        result.code.startswith("ZE") and isinstance(result.outcome, Passed | Flagged)
        for result in report.results
    )


def _findings(report: Report) -> str:
    lines = [
        f"- {finding.severity.value}, {result.code}: {cell(finding.message)}"
        for result, finding in report.findings()
        if finding.severity is not Severity.INFO
    ]
    return "What was found:\n\n" + "\n".join(lines) if lines else ""


def _table(report: Report) -> str:
    return table(
        ["Check", "What holds when it passes", "Result", "Measured"],
        [[one.code, cell(one.title), _said(one.outcome), _measured(one)] for one in report.results],
    )


def _grade_of(result: Result) -> str:
    return _grade(result.outcome)


def _grade(outcome: Outcome) -> str:
    match outcome:
        case Passed():
            return "passed"
        case Flagged(severity=Severity.ERROR):
            return "failed"
        case Flagged():
            return "passed with remarks"
        case NotApplicable():
            return "not applicable"
        case Skipped():
            return "not checked"
        case Crashed():
            return "crashed"
        case _ as unreachable:
            assert_never(unreachable)


def _said(outcome: Outcome) -> str:
    grade = _grade(outcome)
    match outcome:
        case Skipped(reason=reason) | NotApplicable(reason=reason):
            return f"{grade}: {cell(reason)}"
        case Flagged(severity=Severity.ERROR) | Crashed():
            return f"**{grade}**"
        case _:
            return grade


def _measured(result: Result) -> str:
    if not isinstance(result.outcome, Passed | Flagged):
        return ""
    return ", ".join(
        f"{cell(name)} {number(value)}" for name, value in sorted(result.outcome.measured.items())
    )
