"""`zoo gate`: the verdict over one adapter or a whole library, for CI."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import AsJson, Base, Device, Dtype, Quiet


def gate(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Adapter or library folders.")],
    base: Base = "",
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Validate every adapter under PATH... and end with one verdict.

    On GitHub Actions findings become annotations and the job summary gets the reports. A check that could
    not run makes the gate undecided (exit 3), never green, unless zoo.yaml allows that skip with a reason.
    """
    import json
    import os

    from zoo.ci.gate import Gate
    from zoo.ci.gate import gate as run_gate
    from zoo.cli.progress import shown
    from zoo.render.github import render_github
    from zoo.render.json import to_document
    from zoo.render.markdown import render_markdown

    reports = []
    with shown(quiet=quiet) as progress:
        for report in run_gate(paths, base=base, device=device, dtype=dtype, progress=progress):
            reports.append(report)
            if not as_json:
                typer.echo(f"{report.status():<10}  {report.subject}")
            if os.environ.get("GITHUB_ACTIONS") == "true":
                typer.echo(render_github(report, root=_from_here(report.subject)), nl=False, err=as_json)
            if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
                with Path(summary).open("a", encoding="utf-8") as stream:
                    stream.write(render_markdown(report))
    if as_json:
        typer.echo(json.dumps([to_document(report) for report in reports], indent=2, ensure_ascii=False))
    raise typer.Exit(Gate(reports=reports).exit_code)


def _from_here(subject: str) -> str:
    path = Path(subject)
    return path.relative_to(Path.cwd()).as_posix() if path.is_relative_to(Path.cwd()) else path.as_posix()
