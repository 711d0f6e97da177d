"""`zoo init`: a new adapter project."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import Base
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
) -> None:
    """Make a new adapter project: contract, sample data, workflow. Nothing that exists is overwritten.

    Example: zoo init relevance --kind context_relevance
    """
    from zoo.scaffolds.kinds import KINDS, kind_named
    from zoo.scaffolds.project import TRAINING, render_project, scaffold

    if list_:
        for known in KINDS:
            typer.echo(f"{known.name:<24} {known.does}")
    elif render is not None:
        typer.echo(f"written      {render / TRAINING}, {render_project(render)} samples")
    elif not name or not kind:
        raise UsageError("a name and a kind are needed", hint="zoo init NAME --kind KIND; see --list")
    else:
        project = scaffold(name, kind_named(kind), out or Path(name), base=base)
        typer.echo("\n".join(project.lines()))
