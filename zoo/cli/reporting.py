"""Showing validations as they run, and writing their reports: shared by the commands that validate."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

_QUIET = ("ok", "n/a", "note", "skipped")  # the summary says why something was skipped

if TYPE_CHECKING:
    from zoo.report import Report
    from zoo.validators.validate import Validation


def run_one(validation: "Validation", *, as_json: bool, several: bool) -> "Report":
    """Runs the checks of one adapter; unless JSON was asked for, prints each line as it is known.

    Args:
        validation: opened.
        as_json: print nothing here.
        several: print only what is not in order, under the adapter's name.
    """
    import sys

    from zoo.render.terminal import render_line, render_summary
    from zoo.render.verdict import word

    colour, results = sys.stdout.isatty(), []
    if several and not as_json:
        typer.echo(f"── {validation.subject}")
    for result in validation:
        results.append(result)
        if not as_json and not (several and word(result) in _QUIET):
            typer.echo(render_line(result, colour=colour), nl=False)
    report = validation.report(results)
    if not as_json:
        typer.echo(render_summary(report, colour=colour), nl=False)
    return report


def render_all(reports: Sequence["Report"], *, several: bool) -> str:
    """JSON for stdout: one document, or a list of them when the run was over several adapters."""
    from zoo.render.json import render_all_json, render_json

    return render_all_json(reports) if several else render_json(reports[0])
