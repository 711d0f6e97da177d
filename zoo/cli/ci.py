"""`zoo ci`: ready files for continuous integration."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Kind = Annotated[
    Literal["library", "hub", "hooks"],
    typer.Argument(
        metavar="KIND",
        help="library (a repository of adapters), hub (an adapter on the Hub), hooks (pre-commit).",
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="[FOLDER]", help="The repository's top.")]


def ci(kind: Kind, folder: Folder = Path()) -> None:
    """Write the workflow, action or hooks that gate adapters; nothing that differs is overwritten.

    What is demanded stands in zoo-gate.yaml (zoo schema gate). The files name this version of zoo.

    Example: zoo ci library
    """
    from zoo.ci.ready import Ready

    for path in Ready.of(kind).write(folder):
        typer.echo(f"written      {path}")
