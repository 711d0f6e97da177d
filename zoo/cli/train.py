"""`zoo train`: an aLoRA from data, on the base model's cache."""

import typer

from zoo.cli import release_options as release
from zoo.cli import repeating
from zoo.cli import train_options as option
from zoo.cli.options import AsJson, Base, Device, DryRun, Dtype, EvalData, Quiet


def train(
    context: typer.Context,
    data: option.Data,
    out: option.Out,
    invocation: option.Invocation = "",
    name: release.Name = "",
    base: Base = "",
    position: option.Where = None,
    version: release.Version = "",
    license_: release.License = "",
    description: release.Description = "",
    project: release.Project = None,
    io: release.Io = None,
    adapters: option.Adapters = "",
    repeat: option.Repeat = None,
    kind: option.Kind = "alora",
    rank: option.Rank = 32,
    target: option.Targets = None,
    init: option.Init = "kaiming",
    load_in_4_bits: option.In4Bits = False,
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
    processes: option.Processes = 1,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Train an aLoRA on DATA; gradients run through the suffix only, loss counts the answer alone.

    The prefix's keys and values are the base model's, computed once. The same command resumes a killed run.

    Example: zoo train data/requests.jsonl release --project .
    """
    repeating.check_repeat(context)
    import json

    from zoo.cli.progress import shown
    from zoo.training.parts import DataSettings
    from zoo.training.peers import silent_process
    from zoo.training.plan import TrainSettings
    from zoo.training.request import Request

    request = Request(
        data=data, out=out, name=name, base=base, invocation=invocation.replace("\\n", "\n"),
        position=position, version=version, license=license_, description=description,
        adapters=tuple(part.strip() for part in adapters.split(",") if part.strip()), repeat=repeat,
        device=device, dtype=dtype, tracker=tracker, project=project, io=io, processes=processes,
        settings=TrainSettings.of(
            kind=kind, rank=rank, targets=target or (), init=init, shared_a=shared_a, optimizer=optimizer,
            ratio=lora_plus_ratio, learning_rate=lr, steps=steps, batch=batch, micro_batch=micro_batch,
            patience=patience, seed=seed, load_in_4_bits=load_in_4_bits,
            data=DataSettings(eval_data=eval_data, max_tokens=max_tokens, truncate=truncate)))  # fmt: skip
    with shown(quiet=quiet or silent_process()) as progress:
        done = request.outcome(progress, dry_run=dry_run)
    if not silent_process():
        typer.echo(json.dumps(done.to_document(), indent=2) if as_json else "\n".join(done.lines()))
