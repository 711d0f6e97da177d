"""`zoo train`: an aLoRA from data, on the base model's cache."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from zoo.cli.options import AsJson, Base, Device, DryRun, Dtype, EvalData, PositionName, Quiet


def train(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="JSONL: messages and the expected answer.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Release folder to make.")],
    invocation: Annotated[str, typer.Option(metavar="TEXT", help=r"What activates it; \n is a newline.")],
    name: Annotated[str, typer.Option(help="Release name; OUT's own when left out.")] = "",
    base: Base = "",
    position: Annotated[PositionName, typer.Option(help="Where the invocation stands.")] = "after_prompt",
    version: Annotated[str, typer.Option("--version", help="Semantic version.")] = "0.1.0",
    license_: Annotated[str, typer.Option("--license", help="SPDX identifier.")] = "apache-2.0",
    description: Annotated[str, typer.Option(help="One or two sentences for the card.")] = "",
    rank: Annotated[int, typer.Option(min=1, max=512, help="Rank of every adapted module.")] = 32,
    target: Annotated[
        list[str] | None, typer.Option(help="Module to adapt; repeat. Left out: q_proj, k_proj, v_proj.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps.")] = 200,
    batch: Annotated[int, typer.Option(min=1, help="Samples a step.")] = 16,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of data order and initial weights.")] = 0,
    eval_data: EvalData = None,
    max_tokens: Annotated[int, typer.Option(min=2, help="Longest sample.")] = 4096,
    truncate: Annotated[
        Literal["error", "left"], typer.Option(help="Longer samples: refuse, or cut their context.")
    ] = "error",
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Train an aLoRA on DATA; gradients run through the suffix only, loss counts the answer alone.

    The prefix's keys and values are the base model's, computed once. A killed run is resumed by the same
    command.
    """
    import json

    from zoo.cli.progress import shown
    from zoo.models import DEFAULT
    from zoo.specs.release import Position
    from zoo.training.plan import TrainSettings, plan_training
    from zoo.training.train import train as run

    what: dict[str, Any] = {
        "base": base or DEFAULT,
        "invocation_text": invocation.replace("\\n", "\n"),
        "position": Position(position),
        "settings": TrainSettings.of(
            steps=steps, batch=batch, learning_rate=lr, seed=seed, rank=rank, targets=target or (),
            eval_data=eval_data, max_tokens=max_tokens, truncate=truncate,
        ),
    }  # fmt: skip
    if dry_run:
        plan = plan_training(data, **what)
        typer.echo(json.dumps(plan.to_document(), indent=2) if as_json else "\n".join(plan.lines()))
        return
    about: dict[str, Any] = {"version": version, "license": license_, "description": description}
    with shown(quiet=quiet) as progress:
        done = run(
            data, out, name=name or out.name, **about, **what, device=device, dtype=dtype, progress=progress
        )
    typer.echo(json.dumps(done.to_document(), indent=2) if as_json else "\n".join(done.lines()))
