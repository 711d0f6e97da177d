"""A report as SARIF 2.1.0, which code hosts show beside the lines of a pull request.

Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0"; GitHub matches alerts
by ruleId, path and partialFingerprints.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from zoo import __version__
from zoo.render.text import printable
from zoo.render.verdict import headline
from zoo.report import Crashed, Finding, Location, Report, Result, Severity, Skipped

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def render_sarif(*reports: Report) -> str:
    """The reports as one run; skipped and crashed checks are notifications, so that they cannot be missed.

    Several adapters share the run, since code hosts take one a file; each has an invocation of its own.
    """
    rules: dict[str, Result] = {}
    for report in reports:
        for result in report.results:  # several engines and suites have checks of one code
            rules.setdefault(result.code, result)
    places, several = {code: index for index, code in enumerate(rules)}, len(reports) > 1
    run = {
        "tool": {
            "driver": {"name": "zoo", "version": __version__, "rules": [_rule(r) for r in rules.values()]}
        },
        "invocations": [_invocation(report) for report in reports],
        "results": [one for report in reports for one in _results(report, places, several=several)],
        "columnKind": "unicodeCodePoints",
        "properties": {"adapters": [{"name": _name(report), **_properties(report)} for report in reports]}
        if several
        else _properties(reports[0]),
    }
    document = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _invocation(report: Report) -> dict[str, Any]:
    return {
        "executionSuccessful": not any(isinstance(result.outcome, Crashed) for result in report.results),
        "exitCode": report.exit_code,
        "toolExecutionNotifications": _notifications(report.results),
    }


def _properties(report: Report) -> dict[str, Any]:
    return {
        "status": headline(report),
        "digest": report.digest,
        **report.environment,
        "measured": report.measured(),
    }


def _name(report: Report) -> str:
    """The adapter's folder alone: a whole path is this machine's."""
    return printable(PurePosixPath(report.subject.replace("\\", "/")).name)


def _rule(result: Result) -> dict[str, Any]:
    return {
        "id": result.code,
        "shortDescription": {"text": result.title},
        "help": {"text": f"zoo explain {result.code}"},
    }


def _results(report: Report, places: dict[str, int], *, several: bool) -> list[dict[str, Any]]:
    found, seen = [], set()
    for result, finding in report.findings():
        said = printable(_sentence(finding))
        entry = {
            "ruleId": result.code,
            "ruleIndex": places[result.code],
            "level": _LEVELS[finding.severity],
            "message": {"text": f"{_name(report)}: {said}" if several else said},
        }
        if finding.location:
            entry["locations"] = [_location(report.subject, finding.location, several=several)]
        number = 0
        while (fingerprint := _fingerprint(result.code, finding, number)) in seen:
            number += 1
        seen.add(fingerprint)
        entry["partialFingerprints"] = {"zooFinding/v1": fingerprint}
        found.append(entry)
    return found


def _sentence(finding: Finding) -> str:
    return f"{finding.message}. {finding.fix}." if finding.fix else f"{finding.message}."


def _location(subject: str, place: Location, *, several: bool) -> dict[str, Any]:
    """A place below the folder as the user named it; below an unnamed root when that is an absolute path.

    The root is the adapter, or of several the library: their files must not be taken for each other's.
    """
    folder = PurePosixPath(subject.replace("\\", "/"))
    named = PurePosixPath(folder.name if several else "") if folder.is_absolute() else folder
    path = named / place.file
    physical: dict[str, Any] = {"artifactLocation": {"uri": quote(path.as_posix())}}
    if folder.is_absolute():
        physical["artifactLocation"]["uriBaseId"] = "LIBRARY" if several else "ADAPTER"
    if place.line:
        physical["region"] = {"startLine": place.line}
    location: dict[str, Any] = {"physicalLocation": physical}
    if place.pointer:
        location["logicalLocations"] = [{"fullyQualifiedName": printable(place.pointer)}]
    return location


def _fingerprint(code: str, finding: Finding, number: int) -> str:
    """Stable while the finding is about the same thing, whatever numbers its message has."""
    place = finding.location
    identity = [code, place.file if place else "", place.pointer if place else "", number]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]


def _notifications(results: Sequence[Result]) -> list[dict[str, Any]]:
    found = []
    for result in results:
        match result.outcome:
            case Skipped(reason=reason):
                found.append(_notification(result.code, "warning", f"not checked: {reason}"))
            case Crashed(error=error):
                found.append(_notification(result.code, "error", f"the check itself failed: {error}"))
            case _:
                pass
    return found


def _notification(code: str, level: str, text: str) -> dict[str, Any]:
    return {"level": level, "message": {"text": printable(text)}, "associatedRule": {"id": code}}
