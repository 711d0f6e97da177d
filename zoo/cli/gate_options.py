"""Options of `zoo gate`: what is demanded, of which adapters, and who does the work."""

from pathlib import Path
from typing import Annotated

import typer

Paths = Annotated[list[Path] | None, typer.Argument(metavar="PATH...", help="Adapter or library folders.")]
PolicyFile = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="What is demanded; else ./zoo-gate.yaml.")
]
Since = Annotated[
    str, typer.Option("--since", metavar="COMMIT", help="Only adapters that changed since then, as git says.")
]
Workers = Annotated[
    int, typer.Option("--workers", min=0, metavar="N", help="Work in N processes, on Ray; see also --on.")
]
On = Annotated[
    str,
    typer.Option(
        "--on",
        metavar="WHERE",
        help="Where they are: ray (here), ray:ADDRESS (a cluster), jobs:FLAVOUR (Hugging Face Jobs).",
    ),
]
Repo = Annotated[
    str, typer.Option("--repo", metavar="ORG/NAME[@REV]", help="For Jobs: the library on the Hub.")
]
Image = Annotated[
    str,
    typer.Option(
        "--image",
        metavar="IMAGE",
        help="For Jobs: a container image with uv, best by digest; it is given your token.",
    ),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="With workers: check again what a broken-off run has finished.")
]
