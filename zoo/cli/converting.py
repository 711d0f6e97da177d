"""Carrying a planned conversion out, and showing what came of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from zoo.cli.progress import shown

if TYPE_CHECKING:
    from zoo.converters.changes import Changes
    from zoo.converters.plan import ConversionPlan


def carry_out(
    plan: "ConversionPlan",
    out: Path | None,
    changes: "Changes",
    *,
    as_json: bool,
    quiet: bool,
    io: Path | None,
    samples: int,
    **how: Any,
) -> None:
    """Prints the plan, converts unless there is no target, and prints what came out.

    Args:
        plan: what shall be done.
        out: the folder to make; None for the plan alone.
        changes: to make to the folded weights.
        as_json: print one JSON document and nothing else.
        quiet: no progress on stderr.
        io: the adapter's `io.yaml`, or None.
        samples: to make, where data are made.
        **how: further arguments of `zoo.conversion.apply`.
    """
    import json

    from zoo.conversion import apply, check_recovery
    from zoo.training.contract import Contract
    from zoo.training.invention.invention import InventionSettings

    changes.check(plan.ranks[-1])
    how["contract"] = Contract.read(io) if io else None
    how["invention"] = InventionSettings(samples=samples)
    asked = ("recover", "settings", "contract", "requests")
    check_recovery(plan, **{name: how.get(name) for name in asked})
    document: dict[str, Any] = {"plan": {**plan.to_document(), "changes": changes.lines()}}
    if not as_json:
        _show([*plan.lines(), *(f"change      {line}" for line in changes.lines())])
    if out is not None:
        with shown(quiet=quiet) as progress:
            done = apply(plan, out, changes=changes, progress=progress, **how)
        document = done.to_document()
        if not as_json:
            _show(done.lines())
    if as_json:
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def _show(lines: Sequence[str]) -> None:
    """Prints lines that may quote a stranger's file."""
    from zoo.render.text import printable

    typer.echo("\n".join(map(printable, lines)))
