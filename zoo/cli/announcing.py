"""What a gate says of one adapter as soon as it is known."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from zoo.report import Report


def announce(report: "Report", *, as_json: bool) -> None:
    """One adapter of a gate: a line with its verdict and why, and what GitHub Actions shows."""
    import os

    from zoo.render.github import render_github
    from zoo.render.markdown import render_markdown
    from zoo.render.verdict import headline, verdict

    if not as_json:
        status = headline(report)
        typer.echo(f"{status:<10}  {report.subject}: {verdict(report).removeprefix(f'{status}: ')}")
    if os.environ.get("GITHUB_ACTIONS") == "true":
        path = Path(report.subject)
        here = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
        typer.echo(render_github(report, root=here.as_posix()), nl=False, err=as_json)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as stream:
            stream.write(render_markdown(report))
