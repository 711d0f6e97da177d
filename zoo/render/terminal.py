"""A report for people at a terminal: a line a check as it finishes, then what to do about it."""

from zoo.render.text import printable
from zoo.render.verdict import headline, verdict, word
from zoo.report import Crashed, Finding, Report, Result, Severity, Skipped

# ANSI colours: they carry nothing that the words do not say.
_COLOURS = {"ok": 32, "note": 36, "warning": 33, "FAILED": 31, "n/a": 2, "skipped": 33, "CRASHED": 35,
            "passed": 32, "accepted": 33, "failed": 31, "incomplete": 33, "crashed": 35}  # fmt: skip


def render_terminal(report: Report, *, colour: bool = False) -> str:
    """The whole report: every line that was streamed, then the summary."""
    lines = [render_line(result, colour=colour) for result in report.results]
    return "".join(lines) + render_summary(report, colour=colour)


def render_line(result: Result, *, colour: bool = False) -> str:
    """One check's line, with a line break."""
    shown = word(result)
    padded = _paint(f"{shown:<7}", shown, colour)
    seconds = f"  {result.seconds:.1f} s" if result.seconds >= 0.1 else ""
    return f"{padded}  {result.code}  {result.title}{seconds}\n"


def render_summary(report: Report, *, colour: bool = False) -> str:
    """Findings with place, fix and code; what was not checked and why; the verdict."""
    blocks = [_finding(result, finding, colour) for result, finding in report.findings()]
    for result in report.results:
        if isinstance(result.outcome, Crashed):
            error = printable(result.outcome.error)
            blocks.append(f"{_paint('CRASHED', 'CRASHED', colour)} {result.code}: {error}\n")
    if unchecked := _unchecked(report):
        blocks.append(unchecked)
    status = headline(report)
    sentence = printable(verdict(report))
    blocks.append(_paint(status, status, colour) + sentence.removeprefix(status) + "\n")
    return "\n" + "\n".join(blocks)


def _finding(result: Result, finding: Finding, colour: bool) -> str:
    kind = {Severity.INFO: "note", Severity.WARNING: "warning", Severity.ERROR: "FAILED"}[finding.severity]
    lines = [f"{_paint(kind, kind, colour)} {result.code}: {printable(finding.message)}"]
    if place := finding.location:
        line = f":{place.line}" if place.line else ""
        pointer = f"  {place.pointer}" if place.pointer else ""
        lines.append(printable(f"  at {place.file}{line}{pointer}"))
    if finding.fix:
        lines.append(f"  → {printable(finding.fix)}")
    lines.append(f"  → zoo explain {result.code}")
    return "\n".join(lines) + "\n"


def _unchecked(report: Report) -> str:
    """The skipped checks, those with one reason together."""
    groups: dict[tuple[str, str], list[str]] = {}
    for result in report.results:
        if isinstance(result.outcome, Skipped):
            allowed = report.allowed_skips.get(result.code)
            reason = (
                f"{result.outcome.reason} (allowed in zoo.yaml: {allowed})"
                if allowed
                else result.outcome.reason
            )
            groups.setdefault((reason, result.outcome.hint), []).append(result.code)
    lines = []
    for (reason, hint), codes in groups.items():
        lines.append(f"not checked {', '.join(codes)}: {printable(reason)}")
        if hint:
            lines.append(f"  → {printable(hint)}")
    return "".join(f"{line}\n" for line in lines)


def _paint(text: str, name: str, colour: bool) -> str:
    return f"\033[{_COLOURS[name]}m{text}\033[0m" if colour else text
