"""`zoo convert`: any LoRA checkpoint into an aLoRA release folder."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from zoo.cli.options import AsJson, Base, Device, DryRun, Dtype, EvalData, PositionName, Quiet
from zoo.cli.progress import shown


def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Adapter folder, or a library with one.")],
    out: Annotated[Path | None, typer.Argument(metavar="OUT", help="Release folder to make.")] = None,
    base: Base = "",
    invocation: Annotated[
        str, typer.Option(metavar="TEXT", help=r"What activates it; \n is a newline.")
    ] = "",
    position: Annotated[
        PositionName | None, typer.Option(help="Where the invocation stands; found out when left out.")
    ] = None,
    name: Annotated[str, typer.Option(help="Release name; the source's own when left out.")] = "",
    version: Annotated[str, typer.Option("--version", help="Semantic version.")] = "0.1.0",
    license_: Annotated[str, typer.Option("--license", help="SPDX identifier.")] = "apache-2.0",
    description: Annotated[str, typer.Option(help="One or two sentences for the card.")] = "",
    legacy_boundary: Annotated[
        Literal["exclusive", "inclusive"],
        typer.Option(help="alora 0.x: act behind the first token, or at it."),
    ] = "exclusive",
    initial: Annotated[Path | None, typer.Option(help="Adapter before training (PiSSA, OLoRA).")] = None,
    recover: Annotated[Path | None, typer.Option(metavar="DATA", help="JSONL: distil, and measure.")] = None,
    eval_data: EvalData = None,
    recover_steps: Annotated[int, typer.Option(min=1, help="Steps of the distillation.")] = 100,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Turn a LoRA into an aLoRA: fold it exactly; with --recover DATA also make it work, and measure it."""
    import json

    from zoo.conversion import apply, plan_conversion
    from zoo.converters.readers.legacy import Boundary
    from zoo.errors import UsageError
    from zoo.specs.release import Position
    from zoo.staging import check_target
    from zoo.training.distil import DistilSettings

    if out is None and not dry_run:
        raise UsageError("no output folder", hint=f"zoo convert {source} OUT, or --dry-run for the plan")
    if out is not None:
        check_target(out)
    plan = plan_conversion(
        source,
        base=base,
        invocation_text=invocation.replace("\\n", "\n"),
        position=Position(position) if position else None,
        name=name,
        version=version,
        license=license_,
        description=description,
        legacy_boundary=Boundary(legacy_boundary),
        initial=initial,
    )
    document: dict[str, Any] = {"plan": plan.to_document()}
    if not as_json:
        typer.echo("\n".join(plan.lines()))
    if out is not None and not dry_run:
        settings = DistilSettings.of(steps=recover_steps, eval_data=eval_data)
        how: dict[str, Any] = {"settings": settings, "device": device, "dtype": dtype}
        with shown(quiet=quiet) as progress:
            done = apply(plan, out, recover=recover, **how, progress=progress)
        document = done.to_document()
        if not as_json:
            typer.echo("\n".join(done.lines()))
    if as_json:
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
