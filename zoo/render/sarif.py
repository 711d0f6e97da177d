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


def render_sarif(report: Report) -> str:
    """The report as one run; skipped and crashed checks are notifications, so that they cannot be missed."""
    rules = {result.code: index for index, result in enumerate(report.results)}
    crashed = any(isinstance(result.outcome, Crashed) for result in report.results)
    run = {
        "tool": {
            "driver": {"name": "zoo", "version": __version__, "rules": [_rule(r) for r in report.results]}
        },
        "invocations": [
            {
                "executionSuccessful": not crashed,
                "exitCode": report.exit_code,
                "toolExecutionNotifications": _notifications(report.results),
            }
        ],
        "results": _results(report, rules),
        "columnKind": "unicodeCodePoints",
        "properties": {
            "status": headline(report),
            "digest": report.digest,
            **report.environment,
            "measured": report.measured(),
        },
    }
    document = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _rule(result: Result) -> dict[str, Any]:
    return {
        "id": result.code,
        "shortDescription": {"text": result.title},
        "help": {"text": f"zoo explain {result.code}"},
    }


def _results(report: Report, rules: dict[str, int]) -> list[dict[str, Any]]:
    found, seen = [], set()
    for result, finding in report.findings():
        entry = {
            "ruleId": result.code,
            "ruleIndex": rules[result.code],
            "level": _LEVELS[finding.severity],
            "message": {"text": printable(_sentence(finding))},
        }
        if finding.location:
            entry["locations"] = [_location(report.subject, finding.location)]
        number = 0
        while (fingerprint := _fingerprint(result.code, finding, number)) in seen:
            number += 1
        seen.add(fingerprint)
        entry["partialFingerprints"] = {"zooFinding/v1": fingerprint}
        found.append(entry)
    return found


def _sentence(finding: Finding) -> str:
    return f"{finding.message}. {finding.fix}." if finding.fix else f"{finding.message}."


def _location(subject: str, place: Location) -> dict[str, Any]:
    """A place below the folder as the user named it; below an unnamed root when that is an absolute path."""
    folder = PurePosixPath(subject.replace("\\", "/"))
    path = PurePosixPath(place.file) if folder.is_absolute() else folder / place.file
    physical: dict[str, Any] = {"artifactLocation": {"uri": quote(path.as_posix())}}
    if folder.is_absolute():
        physical["artifactLocation"]["uriBaseId"] = "ADAPTER"
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
