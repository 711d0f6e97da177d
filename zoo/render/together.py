"""The reports of several adapters as one: what the run came to, and where each adapter's own report is."""

from collections import Counter
from collections.abc import Sequence
from urllib.parse import quote

from zoo.render.html import page
from zoo.render.json import render_all_json
from zoo.render.junit import render_junit
from zoo.render.markdown import escape, table
from zoo.render.sarif import render_sarif
from zoo.render.text import printable
from zoo.render.verdict import WORST_FIRST, headline, overall, tally, verdict
from zoo.report import Report

# How the page's style calls what a verdict comes to.
_TONES = {
    "crashed": "CRASHED",
    "failed": "FAILED",
    "incomplete": "skipped",
    "accepted": "skipped",
    "passed": "ok",
}


def render_together(reports: Sequence[Report], suffix: str, places: Sequence[str]) -> str:
    """One document over several adapters.

    JSON is the list of reports, JUnit a suite each, SARIF one run over all; Markdown and HTML are a table,
    what is wrong first, that leads to each adapter's own report.

    Args:
        reports: one an adapter.
        suffix: of the file, in lower case; see `zoo.render.suffix.renderers`.
        places: names of the adapters' own reports of this format, which lie beside the file.

    Raises:
        ValueError: no such format.
    """
    match suffix:
        case ".json":
            return render_all_json(reports)
        case ".xml":
            return render_junit(*reports)
        case ".sarif":
            return render_sarif(*reports)
        case ".md":
            return _markdown(reports, places)
        case ".html":
            return _html(reports, places)
        case _:
            raise ValueError(f"no format for the suffix {suffix!r}")


def _rows(reports: Sequence[Report], places: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """Adapter, verdict, why, and where its own report is; the worst first, else in the order of the run."""
    rows = [
        (printable(report.subject), headline(report), printable(_why(report)), quote(place))
        for report, place in zip(reports, places, strict=True)
    ]
    return sorted(rows, key=lambda row: WORST_FIRST.index(row[1]))


def _why(report: Report) -> str:
    return verdict(report).removeprefix(f"{headline(report)}: ")


def _markdown(reports: Sequence[Report], places: Sequence[str]) -> str:
    rows = [
        [f"[{escape(name)}]({place})", status, escape(why)]
        for name, status, why, place in _rows(reports, places)
    ]
    head = f"## zoo: {overall(reports)}\n\n{escape(printable(tally(reports)))}\n\n"
    return head + table(["adapter", "verdict", "why"], rows) + "\n"


def _html(reports: Sequence[Report], places: Sequence[str]) -> str:
    counts = Counter(headline(report) for report in reports)
    return page(
        "library.html.j2",
        status=overall(reports),
        total=len(reports),
        counts=[(counts[status], status) for status in WORST_FIRST if counts[status]],
        rows=[(*row, _TONES[row[1]]) for row in _rows(reports, places)],
    )
