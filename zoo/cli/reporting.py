"""Showing validations as they run, and writing their reports: shared by the commands that validate."""

from collections.abc import Iterable, Sequence
from pathlib import Path
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
    import json

    from zoo.render.json import render_json, to_document

    if not several:
        return render_json(reports[0])
    return json.dumps([to_document(report) for report in reports], indent=2, ensure_ascii=False) + "\n"


def tally(reports: Sequence["Report"]) -> str:
    """One line over several adapters: how many came to what, and which did not pass."""
    by_status: dict[str, list[str]] = {}
    for report in reports:
        by_status.setdefault(report.status(), []).append(Path(report.subject).name)
    parts = [
        f"{len(names)} {status}" + ("" if status == "passed" else f" ({', '.join(names)})")
        for status, names in sorted(by_status.items(), reverse=True)
    ]
    return f"\n── {len(reports)} adapters: {', '.join(parts)}\n"


def output_paths(outputs: Iterable[Path], folder: Path, *, several: bool) -> list[Path]:
    """Where one adapter's reports go: the given files; with several adapters `report.NAME.json`."""
    if not several:
        return list(outputs)
    name = "-".join(part for part in folder.parts[-3:] if part not in ("/", "..", "."))
    return [path.with_name(f"{path.stem}.{name}{path.suffix}") for path in outputs]
