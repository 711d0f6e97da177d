"""A report with everything in it: every outcome, every severity, hostile text."""

from zoo.report import (
    Crashed,
    Finding,
    Flagged,
    Location,
    NotApplicable,
    Passed,
    Report,
    Result,
    Severity,
    Skipped,
)

HOSTILE = "a|b `c` <script> \x1b[31m \x00 \u202e *d* [e](f)"

FULL = Report(
    subject="adapters/check",
    digest="0123456789abcdef" * 4,
    environment={"python": "3.11.7", "peft": "0.21.2"},
    allowed_skips={"ZX006": "nobody has a GPU"},
    results=[
        Result(
            code="ZX001",
            title="All is well",
            outcome=Passed(measured={"numbers": 1234567, "share": 0.25, "text": "a`b"}),
            seconds=1.25,
        ),
        Result(
            code="ZX002",
            title="Nothing is wrong",
            outcome=Flagged(
                findings=[
                    Finding(
                        message="the bias is 'all'",
                        location=Location(file="adapter_config.json", line=7, pointer="bias"),
                        fix="train again",
                    ),
                    Finding(message=HOSTILE, location=Location(file="a b/ü.md", pointer=HOSTILE)),
                    Finding(message="worth knowing", severity=Severity.INFO),
                ],
                measured={"modules": 3},
            ),
        ),
        Result(
            code="ZX003",
            title="Nothing is odd",
            outcome=Flagged(findings=[Finding(message="odd", severity=Severity.WARNING, fix="look")]),
        ),
        Result(code="ZX004", title="It applies", outcome=NotApplicable(reason="there is none")),
        Result(code="ZX005", title="It ran", outcome=Skipped(reason="no network", hint="go online")),
        Result(code="ZX006", title="It ran on a GPU", outcome=Skipped(reason="no GPU")),
        Result(code="ZX007", title="It works", outcome=Crashed(error="KeyError: 'x'", traceback="…")),
    ],
)


def with_results(*wanted: str, allowed: dict[str, str] | None = None) -> Report:
    """The full report cut down to some of its results."""
    return Report(
        subject=FULL.subject,
        digest=FULL.digest,
        environment=FULL.environment,
        allowed_skips=FULL.allowed_skips if allowed is None else allowed,
        results=[result for result in FULL.results if result.code in wanted],
    )
