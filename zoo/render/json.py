"""The versioned JSON form of a report; every other format could be made from it."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from zoo.errors import SpecError
from zoo.report import (
    REPORT_FORMAT,
    Crashed,
    Finding,
    Flagged,
    Location,
    NotApplicable,
    Outcome,
    Passed,
    Report,
    Result,
    Severity,
    Skipped,
)

_CODE = re.compile(r"Z[A-Z]\d{3}")
_KINDS: Mapping[str, type[Outcome]] = {
    "passed": Passed,
    "flagged": Flagged,
    "not_applicable": NotApplicable,
    "skipped": Skipped,
    "crashed": Crashed,
}


def render_json(report: Report) -> str:
    """The report as indented JSON with a newline at the end; byte-stable for the same report."""
    return json.dumps(to_document(report), indent=2, ensure_ascii=False) + "\n"


def render_all_json(reports: Sequence[Report]) -> str:
    """Several adapters' reports as one list."""
    return json.dumps([to_document(report) for report in reports], indent=2, ensure_ascii=False) + "\n"


def to_document(report: Report) -> dict[str, Any]:
    """The report as plain data. `from_document(to_document(r)) == r`."""
    return {
        "format": REPORT_FORMAT,
        "subject": report.subject,
        "digest": report.digest,
        "status": report.status(),
        "environment": dict(report.environment),
        "allowed_skips": dict(report.allowed_skips),
        "results": [_result(result) for result in report.results],
    }


def from_document(document: Mapping[str, Any]) -> Report:
    """A report from its JSON form.

    Raises:
        SpecError: not a report, or of a format this version does not read.
    """
    if document.get("format") != REPORT_FORMAT:
        raise SpecError(
            f"not a zoo report of format {REPORT_FORMAT}", hint="zoo validate … --output report.json"
        )
    try:
        report = Report(
            subject=document["subject"],
            digest=document["digest"],
            environment=dict(document["environment"]),
            allowed_skips=dict(document["allowed_skips"]),
            results=[
                Result(
                    code=entry["code"],
                    title=entry["title"],
                    seconds=entry["seconds"],
                    outcome=_read_outcome(entry["outcome"]),
                )
                for entry in document["results"]
            ],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpecError(f"the report is damaged: {type(error).__name__} at {error}") from None
    if not _well_typed(report):
        raise SpecError("the report is damaged: a value is of another kind than it should be")
    return report


def _well_typed(report: Report) -> bool:
    """Whether what a stranger wrote is what every renderer relies on."""
    texts = [report.subject, report.digest]
    texts += [
        part for pairs in (report.environment, report.allowed_skips) for one in pairs.items() for part in one
    ]
    for result in report.results:
        if not (_CODE.fullmatch(str(result.code)) and _real(result.seconds)):
            return False
        texts.append(result.title)
        match result.outcome:
            case Flagged(findings=findings, measured=measured):
                if not findings or not _measurements(measured):
                    return False
                for one in findings:
                    texts += [one.message, one.fix]
                    if place := one.location:
                        texts += [place.file, place.pointer]
                        if not (place.line is None or isinstance(place.line, int)):
                            return False
            case Passed(measured=measured):
                if not _measurements(measured):
                    return False
            case Skipped(reason=reason, hint=hint):
                texts += [reason, hint]
            case NotApplicable(reason=reason):
                texts.append(reason)
            case Crashed(error=error, traceback=traceback):
                texts += [error, traceback]
    return all(isinstance(text, str) for text in texts)


def _measurements(found: object) -> bool:
    return isinstance(found, Mapping) and all(
        isinstance(name, str) and (_real(value) or isinstance(value, str) or _reals(value))
        for name, value in found.items()
    )


def _reals(value: object) -> bool:
    return isinstance(value, tuple) and all(map(_real, value))


def _real(value: object) -> bool:
    return isinstance(value, int | float)


def _result(result: Result) -> dict[str, Any]:
    return {
        "code": result.code,
        "title": result.title,
        "seconds": round(result.seconds, 3),
        "outcome": _outcome(result.outcome),
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    kind = next(name for name, cls in _KINDS.items() if isinstance(outcome, cls))
    match outcome:
        case Passed(measured=measured):
            return {"kind": kind, "measured": dict(measured)}
        case Flagged(findings=findings, measured=measured):
            return {"kind": kind, "findings": [_finding(f) for f in findings], "measured": dict(measured)}
        case NotApplicable(reason=reason):
            return {"kind": kind, "reason": reason}
        case Skipped(reason=reason, hint=hint):
            return {"kind": kind, "reason": reason, "hint": hint}
        case Crashed(error=error, traceback=traceback):
            return {"kind": kind, "error": error, "traceback": traceback}


def _finding(finding: Finding) -> dict[str, Any]:
    place = finding.location
    return {
        "message": finding.message,
        "severity": finding.severity.value,
        "fix": finding.fix,
        "location": {"file": place.file, "line": place.line, "pointer": place.pointer} if place else None,
    }


def _read_outcome(document: Mapping[str, Any]) -> Outcome:
    fields = {key: value for key, value in document.items() if key != "kind"}
    if "measured" in fields:
        fields["measured"] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields["measured"].items()
        }
    if "findings" in fields:
        fields["findings"] = [
            Finding(
                message=entry["message"],
                severity=Severity(entry["severity"]),
                fix=entry["fix"],
                location=Location(**entry["location"]) if entry["location"] else None,
            )
            for entry in fields["findings"]
        ]
    return _KINDS[document["kind"]](**fields)
