"""What a command says at its end, and a gate of each adapter as soon as it is known."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

if TYPE_CHECKING:
    from zoo.report import Report

# GitHub shows nothing of a step's summary that is larger; the last part is kept for a line an adapter.
# Source: docs.github.com, "Workflow commands", job summaries.
SUMMARY_BYTES, LINES_BYTES = 1 << 20, 128 << 10


class Told(Protocol):
    """What comes of a command."""

    def to_document(self) -> dict[str, Any]:
        """As JSON."""

    def lines(self) -> Sequence[str]:
        """For people."""


def tell(done: Told, *, as_json: bool) -> None:
    """What came of a command, on stdout; of several processes the first one says it."""
    import json

    from zoo.training.peers import silent_process

    if not silent_process():
        typer.echo(json.dumps(done.to_document(), indent=2) if as_json else "\n".join(done.lines()))


def announce(report: "Report", *, as_json: bool) -> None:
    """One adapter of a gate: a line with its verdict and why, and what GitHub Actions shows."""
    import os

    from zoo.render.github import render_github
    from zoo.render.verdict import headline, verdict

    if not as_json:
        status = headline(report)
        typer.echo(f"{status:<10}  {report.subject}: {verdict(report).removeprefix(f'{status}: ')}")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        typer.echo(render_github(report, root=_from_the_top(report.subject)), nl=False, err=as_json)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        _summarise(report, Path(summary))


def _from_the_top(subject: str) -> str:
    """An adapter's folder as annotations name it: from the repository's top, wherever the gate runs."""
    import os

    top = Path(os.environ.get("GITHUB_WORKSPACE") or Path.cwd()).resolve()
    path = Path(subject).resolve()
    return (path.relative_to(top) if path.is_relative_to(top) else Path(subject)).as_posix()


def _summarise(report: "Report", summary: Path) -> None:
    """Adds a report to the job summary, or its verdict alone once the summary is nearly full."""
    from zoo.render.markdown import code_span, escape, render_markdown
    from zoo.render.verdict import verdict

    said, full = render_markdown(report), summary.stat().st_size if summary.is_file() else 0
    if full + len(said.encode()) > SUMMARY_BYTES - LINES_BYTES:
        said = f"\n{code_span(report.subject)} {escape(verdict(report))}\n"
    if full + len(said.encode()) <= SUMMARY_BYTES:
        with summary.open("a", encoding="utf-8") as stream:
            stream.write(said)
