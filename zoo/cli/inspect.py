"""`zoo inspect`: what an adapter is, and what it resembles."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli import compose_options as c
from zoo.cli.options import AsJson, Base, Quiet
from zoo.cli.progress import shown

Map = Annotated[
    str,
    typer.Option(metavar="paper|RANK", help="With --safety: paper (default), or a projector of that rank."),
]


def inspect(
    adapter: Annotated[Path, typer.Argument(metavar="PATH", help="Adapter folder, in any format zoo reads.")],
    base: Base = "",
    against: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Compare with every adapter below this folder.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Also draw the spectrum, as PNG.")] = None,
    safety: Annotated[bool, typer.Option("--safety", help="Safe LoRA's measure of every module.")] = False,
    aligned: c.Aligned = "",
    unaligned: c.Unaligned = "",
    safe_map: Map = "",
    safe_modules: c.SafeModules = "",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what an adapter is: kind, size, invocation, spectrum of its update, and what engines do with it.

    Nothing is downloaded for it, unless --base, --aligned or --unaligned names a model on the Hub; of that
    only the parts that are needed are read.
    """
    import json

    from zoo.converters.alignment import AlignedPair
    from zoo.converters.safe_lora import Projection
    from zoo.errors import UsageError
    from zoo.inspection.inspect import inspect as look
    from zoo.inspection.picture import draw

    if plot is not None and not plot.parent.is_dir():
        raise UsageError(f"there is no folder {plot.parent} for the picture", hint="make it, or name another")
    if not safety and (aligned or unaligned or safe_modules or safe_map):
        raise UsageError(
            "--aligned, --unaligned, --safe-map and --safe-modules belong to --safety", hint="add --safety"
        )
    pair = AlignedPair.open(aligned, unaligned) if safety else None
    projection = Projection.parse(safe_map or "paper", select=safe_modules) if safety else None
    with shown(quiet=quiet) as progress:
        found = look(adapter, base=base, against=against, pair=pair, projection=projection, progress=progress)
    if plot is not None:
        if not found.layers:
            raise UsageError(
                f"there is no spectrum to draw: {found.subject.refusal}", hint="leave --plot out"
            )
        draw(plot, found.layers, title=found.subject.name)
    if as_json:
        typer.echo(json.dumps(found.to_document(), indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(found.lines()))
