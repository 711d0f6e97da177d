"""Options of `zoo convert` that compose adapters or change their weights, and what its paths mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

Paths = Annotated[
    list[Path],
    typer.Argument(metavar="SRC... OUT", help="Adapter, or a library with one; and the folder to make."),
]
Concat = Annotated[
    bool, typer.Option("--concat", help="Add up the updates of several SRC, exactly; ranks add up too.")
]
Weights = Annotated[str, typer.Option(metavar="W,W,…", help="With --concat: a factor for each SRC.")]
Truncate = Annotated[
    str, typer.Option(metavar="RANK|ENERGY", help="Lower the rank: 8, or 0.99 of the energy; says the error.")
]
Grow = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="RANK", help="Raise the rank, exactly; of a full-rank source: where --recover begins."
    ),
]
ProjectSafe = Annotated[
    str, typer.Option(metavar="paper|RANK", help="Safe LoRA: the paper's map, or a projector of that rank.")
]
Aligned = Annotated[str, typer.Option(metavar="MODEL", help="Safe LoRA: the aligned model, read in parts.")]
Unaligned = Annotated[str, typer.Option(metavar="MODEL", help="Safe LoRA: what it was before alignment.")]
SafeModules = Annotated[
    str, typer.Option(metavar="COSINE|N", help="Safe LoRA: modules up to this cosine (0.5), or the N lowest.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where a conversion reads and writes.

    Attributes:
        source: the adapter.
        also: further ones, to be added.
        out: the folder to make; None in a dry run without one.
    """

    source: Path
    also: tuple[Path, ...]
    out: Path | None


def places(paths: Sequence[Path], *, concat: bool, dry_run: bool) -> Places:
    """Tells sources and target apart: the last path is the target, unless a dry run adds up and it is full.

    Raises:
        UsageError: several sources without `--concat`, or no target, or one that is not empty.
    """
    from zoo.errors import UsageError
    from zoo.staging import check_target

    last = paths[-1]
    full = last.is_dir() and any(last.iterdir())
    whole = len(paths) == 1 or (dry_run and concat and full)
    sources, out = (paths, None) if whole else (paths[:-1], last)
    if out is None and not dry_run:
        raise UsageError("no output folder", hint=f"zoo convert {last} OUT, or --dry-run for the plan")
    if (len(sources) > 1) is not concat:
        which = "several adapters are added up with --concat" if not concat else "--concat needs two adapters"
        raise UsageError(which, hint="zoo convert A B OUT --concat")
    if out is not None:
        check_target(out)
    return Places(source=sources[0], also=tuple(sources[1:]), out=out)
