"""A report as Markdown: for a job summary, a pull request, a card."""

from collections.abc import Sequence

from zoo.render.figures import Figure, figures, interval
from zoo.render.text import printable
from zoo.render.verdict import verdict, word
from zoo.report import Crashed, Flagged, NotApplicable, Passed, Report, Result, Skipped

_MARKS = {
    "ok": "✅",
    "note": "✅",
    "warning": "⚠️",
    "FAILED": "❌",
    "n/a": "—",
    "skipped": "⏭️",
    "CRASHED": "💥",
}


def render_markdown(report: Report) -> str:
    """The verdict, what to do, what was not checked, and every check with what it measured."""
    head, _, rest = verdict(report).partition(":")
    blocks = [f"## zoo validate: {code_span(report.subject)}", f"**{head}**:{escape(rest)}"]
    if findings := _findings(report):
        blocks += ["### Findings", findings]
    if unchecked := _unchecked(report):
        blocks += ["### Not checked", unchecked]
    blocks += ["### Checks", _checks(report.results), _environment(report)]
    return "\n\n".join(blocks) + "\n"


def _findings(report: Report) -> str:
    rows = []
    for result, finding in report.findings():
        place = finding.location
        line = f":{place.line}" if place and place.line else ""
        where = code_span(f"{place.file}{line}") if place else ""
        rows.append(
            [result.code, finding.severity.value, escape(finding.message), where, escape(finding.fix)]
        )
    rows += [
        [result.code, "crash", escape(result.outcome.error), "", "report it: a defect in zoo"]
        for result in report.results
        if isinstance(result.outcome, Crashed)
    ]
    return table(["code", "severity", "what", "where", "fix"], rows) if rows else ""


def _unchecked(report: Report) -> str:
    rows = []
    for result in report.results:
        if isinstance(result.outcome, Skipped):
            allowed = escape(report.allowed_skips.get(result.code, ""))
            rows.append([result.code, escape(result.title), escape(result.outcome.reason), allowed])
    return table(["code", "what would hold", "why not checked", "allowed because"], rows) if rows else ""


def _checks(results: Sequence[Result]) -> str:
    rows = [
        [_MARKS[word(r)], r.code, escape(r.title), word(r), _measured(r), f"{r.seconds:.2f}"] for r in results
    ]
    return table(["", "code", "what holds", "outcome", "measured", "seconds"], rows)


def _measured(result: Result) -> str:
    match result.outcome:
        case Passed(measured=measured) | Flagged(measured=measured):
            return ", ".join(f"{escape(one.name)} = {_figure(one)}" for one in figures(measured))
        case NotApplicable(reason=reason):
            return escape(reason)
        case _:
            return ""


def _figure(figure: Figure) -> str:
    return escape(interval(figure)) or _number(figure.value)


def _number(value: float | int | str) -> str:
    return (
        f"{value:.6g}"
        if isinstance(value, float)
        else code_span(value)
        if isinstance(value, str)
        else f"{value:,}"
    )


def _environment(report: Report) -> str:
    versions = ", ".join(f"{escape(name)} {escape(value)}" for name, value in report.environment.items())
    return f"Files {code_span(report.digest[:16] or 'unknown')}; {versions or 'environment unknown'}."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def escape(text: str) -> str:
    """Plain text that Markdown and HTML leave alone, on one line."""
    shown = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for character in "\\`*_[]|~#@":
        shown = shown.replace(character, f"\\{character}")
    return shown


def code_span(text: str) -> str:
    """The text as code on one line; a back quote or a pipe in it cannot end the span or the cell."""
    shown = printable(text).replace("|", "\\|")
    return f"`` {shown} ``" if "`" in shown else f"`{shown}`"
