"""`zoo train`: an aLoRA from data, on the base model's cache."""

from typing import Any

import typer

from zoo.cli import train_options as option
from zoo.cli.options import AsJson, Base, Device, DryRun, Dtype, EvalData, Quiet


def train(
    data: option.Data,
    out: option.Out,
    invocation: option.Invocation = "",
    name: option.Name = "",
    base: Base = "",
    position: option.Where = "after_prompt",
    version: option.Version = "0.1.0",
    license_: option.License = "apache-2.0",
    description: option.Description = "",
    adapters: option.Adapters = "",
    repeat: option.Repeat = None,
    kind: option.Kind = "alora",
    rank: option.Rank = 32,
    target: option.Targets = None,
    init: option.Init = "kaiming",
    shared_a: option.SharedA = None,
    optimizer: option.Optimizer = "adamw",
    lora_plus_ratio: option.Ratio = 16.0,
    lr: option.Rate = 0.0,
    steps: option.Steps = 200,
    batch: option.Batch = 16,
    micro_batch: option.MicroBatch = 0,
    patience: option.Patience = 0,
    seed: option.Seed = 0,
    eval_data: EvalData = None,
    max_tokens: option.MaxTokens = 4096,
    truncate: option.Truncate = "error",
    tracker: option.TrackerName = None,
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
    from zoo.training.parts import DataSettings
    from zoo.training.plan import TrainSettings
    from zoo.training.request import Request

    request = Request(
        data=data, out=out, name=name, base=base, invocation=invocation.replace("\\n", "\n"),
        position=position, version=version, license=license_, description=description,
        adapters=tuple(part.strip() for part in adapters.split(",") if part.strip()), repeat=repeat,
        device=device, dtype=dtype, tracker=tracker,
        settings=TrainSettings.of(
            kind=kind, rank=rank, targets=target or (), init=init, shared_a=shared_a, optimizer=optimizer,
            ratio=lora_plus_ratio, learning_rate=lr, steps=steps, batch=batch, micro_batch=micro_batch,
            patience=patience, seed=seed,
            data=DataSettings(eval_data=eval_data, max_tokens=max_tokens, truncate=truncate),
        ),
    )  # fmt: skip
    done: Any
    if dry_run:
        done = request.plan()
    else:
        with shown(quiet=quiet) as progress:
            done = request.run(progress)
    typer.echo(json.dumps(done.to_document(), indent=2) if as_json else "\n".join(done.lines()))
