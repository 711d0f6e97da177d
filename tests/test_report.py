import pytest

from zoo.report import (
    Crashed,
    Finding,
    Flagged,
    NotApplicable,
    Outcome,
    Passed,
    Report,
    Result,
    Severity,
    Skipped,
)


def flag(*severities: Severity) -> Flagged:
    return Flagged(findings=[Finding(message="m", severity=severity) for severity in severities])


def report(*outcomes: Outcome, allowed: dict[str, str] | None = None) -> Report:
    results = [Result(code=f"ZX{i:03d}", title="t", outcome=outcome) for i, outcome in enumerate(outcomes)]
    return Report(subject="s", digest="d", results=results, allowed_skips=allowed or {})


@pytest.mark.parametrize(
    ("outcomes", "status", "exit_code"),
    [
        ([], "incomplete", 3),
        ([Passed()], "passed", 0),
        ([Passed(), NotApplicable(reason="r")], "passed", 0),
        ([Passed(), flag(Severity.WARNING, Severity.INFO)], "passed", 0),
        ([Passed(), Skipped(reason="r")], "incomplete", 3),
        ([Skipped(reason="r"), flag(Severity.ERROR)], "failed", 1),
        ([flag(Severity.WARNING, Severity.ERROR)], "failed", 1),
        ([flag(Severity.ERROR), Crashed(error="e")], "crashed", 4),
        ([Crashed(error="e"), Passed()], "crashed", 4),
    ],
)
def test_the_verdict(outcomes: list[Outcome], status: str, exit_code: int) -> None:
    found = report(*outcomes)
    assert (found.status(), found.exit_code) == (status, exit_code)


def test_an_allowed_skip_is_good_news_and_an_allowed_failure_is_not() -> None:
    assert report(Passed(), Skipped(reason="r"), allowed={"ZX001": "why"}).status() == "passed"
    assert report(Passed(), Skipped(reason="r"), allowed={"ZX000": "why"}).status() == "incomplete"
    assert report(flag(Severity.ERROR), allowed={"ZX000": "why"}).status() == "failed"
    assert report(Crashed(error="e"), allowed={"ZX000": "why"}).status() == "crashed"


def test_nothing_but_allowed_skips_is_not_passed() -> None:
    assert report(Skipped(reason="r"), allowed={"ZX000": "why"}).status() == "incomplete"


def test_the_worst_severity_counts_in_any_order() -> None:
    for order in ([Severity.INFO, Severity.ERROR], [Severity.ERROR, Severity.INFO]):
        assert flag(*order).severity is Severity.ERROR


def test_findings_and_measurements_keep_their_check() -> None:
    found = report(
        Passed(measured={"tokens": 3}), flag(Severity.ERROR, Severity.INFO), Passed(), Skipped(reason="r")
    )
    assert [(result.code, finding.severity) for result, finding in found.findings()] == [
        ("ZX001", Severity.ERROR),
        ("ZX001", Severity.INFO),
    ]
    assert found.measured() == {"ZX000": {"tokens": 3}}
