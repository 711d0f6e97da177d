"""The options that say what is in a release's `zoo.yaml`."""

from pathlib import Path
from typing import Annotated

import typer

Name = Annotated[str, typer.Option(help="Release name; OUT's own when left out.")]
Version = Annotated[str, typer.Option("--version", help="Semantic version; 0.1.0 when left out.")]
License = Annotated[str, typer.Option("--license", help="SPDX identifier; apache-2.0 when left out.")]
Description = Annotated[str, typer.Option(help="One or two sentences for the card.")]
Project = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Take from its zoo.yaml what is not given here, render prompts by its io.yaml, and put both and "
        "NOTES.md into OUT.",
    ),
]
Io = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="An io.yaml alone: render prompts and judge answers as zoo run does."),
]
