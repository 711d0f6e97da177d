"""`zoo init`: a new adapter project."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import AsJson, Base, DryRun
from zoo.errors import UsageError


def init(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The intrinsic's name.")] = "",
    kind: Annotated[str, typer.Option("--kind", help="What it is to be; --list shows the kinds.")] = "",
    base: Base = "",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The project's folder; ./NAME when left out.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Print the kinds and stop.")] = False,
    render: Annotated[
        Path | None,
        typer.Option(
            "--render", metavar="DIR", help="Make data/train.jsonl of that project anew from its requests."
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make a new adapter project: contract, sample data, workflow. Nothing that exists is overwritten.

    Example: zoo init relevance --kind context_relevance
    """
    import json
    from typing import Any

    from zoo.scaffolds.kinds import KINDS, kind_named
    from zoo.scaffolds.project import TRAINING, render_project, scaffold

    document: dict[str, Any]
    if list_:
        lines = [f"{known.name:<24} {known.does}" for known in KINDS]
        document = {"format": 1, "kinds": [{"name": known.name, "does": known.does} for known in KINDS]}
    elif render is not None:
        samples = render_project(render, dry_run=dry_run)
        said = "would write  " if dry_run else "written      "
        lines = [f"{said}{render / TRAINING}, {samples} samples"]
        document = {"format": 1, "file": str(render / TRAINING), "samples": samples, "written": not dry_run}
    elif not name or not kind:
        raise UsageError("a name and a kind are needed", hint="zoo init NAME --kind KIND; see --list")
    else:
        project = scaffold(name, kind_named(kind), out or Path(name), base=base, dry_run=dry_run)
        lines = project.lines(written=not dry_run)
        document = {**project.document(), "written": not dry_run}
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False) if as_json else "\n".join(lines))
