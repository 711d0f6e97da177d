"""A report as JUnit XML, which every CI system shows: a test case a check."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.render.figures import figures, interval
from zoo.render.text import printable
from zoo.render.verdict import headline
from zoo.report import (
    Crashed,
    Finding,
    Flagged,
    NotApplicable,
    Passed,
    Report,
    Result,
    Severity,
    Skipped,
    Value,
)

if TYPE_CHECKING:
    from junitparser import Failure, TestCase, TestSuite


def render_junit(*reports: Report) -> str:
    """Each report as one test suite.

    A finding of severity error is a failure with the code as its type; warnings and notes go to the case's
    output. What was skipped, and what does not apply, is skipped; a crash is an error.
    """
    from junitparser import JUnitXml

    document = JUnitXml("zoo validate")
    for report in reports:
        document.add_testsuite(_suite(report))
    text: str = document.tostring().decode("utf-8")  # type: ignore[no-untyped-call]
    return text.rstrip("\n") + "\n"


def _suite(report: Report) -> "TestSuite":
    from junitparser import TestSuite

    suite = TestSuite(printable(report.subject))
    suite.add_property("status", headline(report))
    suite.add_property("digest", report.digest)
    for name, value in report.environment.items():
        suite.add_property(printable(name), printable(value))
    for result in report.results:
        suite.add_testcase(_case(result))
    return suite


def _case(result: Result) -> "TestCase":
    from junitparser import Error, TestCase
    from junitparser import Skipped as SkippedCase

    case = TestCase(
        f"{result.code} {result.title}", classname=f"zoo.{result.code}", time=round(result.seconds, 3)
    )
    match result.outcome:
        case Passed(measured=measured):
            _write(case, _measured(measured))
        case Flagged(findings=findings, measured=measured):
            failures = [finding for finding in findings if finding.severity is Severity.ERROR]
            case.result = [_failure(result.code, finding) for finding in failures]
            rest = [finding for finding in findings if finding.severity is not Severity.ERROR]
            said = [f"{finding.severity.value}: {printable(finding.message)}" for finding in rest]
            _write(case, [*said, *_measured(measured)])
        case NotApplicable(reason=reason):
            case.result = [SkippedCase(printable(f"not applicable: {reason}"))]
        case Skipped(reason=reason):
            case.result = [SkippedCase(printable(f"NOT CHECKED: {reason}"))]
        case Crashed(error=error):
            case.result = [Error(printable(error), result.code)]
    return case


def _measured(measured: Mapping[str, Value]) -> list[str]:
    return [f"{one.name} = {interval(one) or printable(str(one.value))}" for one in figures(measured)]


def _write(case: "TestCase", said: Sequence[str]) -> None:
    if said:
        case.system_out = "\n".join(said)


def _failure(code: str, finding: Finding) -> "Failure":
    from junitparser import Failure

    failure = Failure(printable(finding.message), code)
    place = finding.location
    where = (
        f"at {place.file}{f':{place.line}' if place.line else ''} {place.pointer}".rstrip() if place else ""
    )
    failure.text = printable(" ".join(part for part in (where, finding.fix) if part))
    return failure
