"""Options that several commands share, spelt once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

PositionName = Literal["after_prompt", "generation_prompt", "in_message"]
Adapter = Annotated[
    Path, typer.Argument(metavar="PATH", help="Adapter folder, or a library folder with one adapter.")
]
Base = Annotated[
    str,
    typer.Option(
        "--base",
        metavar="BASE",
        help="Base model: org/name[@revision] on the Hub, a folder, or smollm2-135m-instruct (embedded).",
    ),
]
Device = Annotated[str, typer.Option("--device", help="Torch device: cpu, cuda, cuda:1, …")]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"], typer.Option("--dtype", help="Dtype of the base weights.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
EvalData = Annotated[
    Path | None, typer.Option(metavar="DATA", help="Measure on this, not on a part of the data.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and change nothing.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
