from zoo.render.github import render_github
from zoo.report import Crashed, Finding, Flagged, Location, Passed, Report, Result, Severity, Skipped


def report(*outcomes: object, **settings: object) -> Report:
    results = [
        Result(code=f"ZX{n:03}", title="a title", outcome=outcome)  # type: ignore[arg-type]
        for n, outcome in enumerate(outcomes)
    ]
    return Report(subject="a", digest="", results=results, **settings)  # type: ignore[arg-type]


def test_findings_become_annotations_on_files_with_escapes() -> None:
    finding = Finding(
        message="50% wrong,\nreally",
        severity=Severity.WARNING,
        location=Location(file="zoo.yaml", line=3),
        fix="mend it",
    )

    text = render_github(report(Flagged(findings=[finding])), root="adapters/a,b")

    assert text == (
        "::warning title=ZX000 a title,file=adapters/a%2Cb/zoo.yaml,line=3::50%25 wrong,%0Areally. mend it\n"
    )


def test_what_was_not_checked_is_said_and_an_allowed_skip_is_not() -> None:
    given = report(Skipped(reason="no base"), Crashed(error="boom"), Passed())

    assert render_github(given).splitlines() == [
        "::warning title=ZX000 a title::not checked: no base",
        "::error title=ZX001 a title::the check itself failed: boom",
    ]
    assert render_github(report(Skipped(reason="no base"), allowed_skips={"ZX000": "known"})) == ""
