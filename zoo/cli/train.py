"""`zoo train`: an aLoRA from data, on the base model's cache."""

import typer

from zoo.cli import recipe_options as recipes
from zoo.cli import release_options as release
from zoo.cli import repeating
from zoo.cli import train_options as option
from zoo.cli.options import AsJson, Base, Device, DryRun, Dtype, EvalData, Invocation, Quiet


def train(
    context: typer.Context,
    data: option.Data,
    out: option.Out,
    invocation: Invocation = "",
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
    recipe: recipes.Settings = None,
    seed: option.Seed = 0,
    eval_data: EvalData = None,
    max_tokens: option.MaxTokens = 4096,
    truncate: option.Truncate = "error",
    tracker: option.TrackerName = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    disk_cache: option.DiskCache = None,
    processes: option.Processes = 1,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Train an aLoRA on DATA; gradients run through the suffix only, loss counts the answer alone.

    Prefixes are computed once, by the base model. The same command resumes a killed run.

    Example: zoo train data/requests.jsonl release --project .
    """
    repeating.check_repeat(context)
    from zoo.cli.announcing import tell
    from zoo.cli.progress import shown
    from zoo.training.parts import DataSettings
    from zoo.training.peers import silent_process
    from zoo.training.plan import TrainSettings
    from zoo.training.request import Request

    request = Request(
        data=data, out=out, name=name, base=base, invocation=invocation, disk=disk_cache, position=position,
        version=version, license=license_, description=description, repeat=repeat, io=io,
        adapters=recipes.names(adapters), device=device, dtype=dtype, tracker=tracker, project=project,
        processes=processes,
        settings=TrainSettings.of(kind=kind, rank=rank, targets=target or (), init=init, shared_a=shared_a,
            optimizer=optimizer, ratio=lora_plus_ratio, learning_rate=lr, steps=steps, batch=batch, seed=seed,
            micro_batch=micro_batch, patience=patience, load_in_4_bits=load_in_4_bits, **recipes.read(recipe),
            data=DataSettings(eval_data=eval_data, max_tokens=max_tokens, truncate=truncate)))  # fmt: skip
    with shown(quiet=quiet or silent_process()) as progress:
        done = request.outcome(progress, dry_run=dry_run)
    tell(done, as_json=as_json)
