"""What a check says, without the secrets and signs that it may quote from the files it looked at."""

from collections.abc import Mapping
from dataclasses import replace

from zoo.credentials import redacted
from zoo.render.text import printable
from zoo.report import Crashed, Finding, Flagged, Location, NotApplicable, Outcome, Passed, Skipped, Value

Measured = Mapping[str, Value]


def redact(outcome: Outcome) -> Outcome:
    """The outcome with tokens and keys cut off in every text, and what does not print spelt out."""
    match outcome:
        case Passed():
            return replace(outcome, measured=_measured(outcome.measured))
        case Flagged():
            found = [_finding(finding) for finding in outcome.findings]
            return replace(outcome, findings=found, measured=_measured(outcome.measured))
        case NotApplicable():
            return replace(outcome, reason=_text(outcome.reason))
        case Skipped():
            return replace(outcome, reason=_text(outcome.reason), hint=_text(outcome.hint))
        case Crashed():
            return replace(outcome, error=_text(outcome.error), traceback=redacted(outcome.traceback))


def _finding(finding: Finding) -> Finding:
    place = finding.location
    if place is not None:
        place = Location(file=_text(place.file), line=place.line, pointer=_text(place.pointer))
    return replace(finding, message=_text(finding.message), fix=_text(finding.fix), location=place)


def _measured(measured: Measured) -> Measured:
    return {name: _text(value) if isinstance(value, str) else value for name, value in measured.items()}


def _text(text: str) -> str:
    return printable(redacted(text))  # a file's name can even be bytes that are no text
