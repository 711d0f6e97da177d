"""`zoo bench`: the same work by zoo and by other programs, side by side."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from zoo.cli import train_options as option
from zoo.cli.options import AsJson, Base, Device, Dtype, EvalData, Invocation, Quiet

What = Annotated[
    Literal["train"],
    typer.Argument(metavar="train", help="What is compared: one training."),
]
Arms = Annotated[
    str,
    typer.Option(
        metavar="A,B",
        help="zoo, trainer, trainer-checkpointing, trl, mellea. Left out: all that are installed.",
    ),
]
MelleaPython = Annotated[
    str, typer.Option(metavar="PYTHON", help="Python of an environment with mellea[hf].")
]
BenchSteps = Annotated[int, typer.Option(min=1, help="Optimiser steps of every arm.")]
BenchBatch = Annotated[int, typer.Option(min=1, help="Samples a step.")]
Threads = Annotated[int, typer.Option(min=0, help="Torch's threads in every arm; 0 leaves them.")]


def bench(
    what: What,
    data: option.Data,
    invocation: Invocation = "",
    arms: Arms = "",
    mellea_python: MelleaPython = "",
    base: Base = "",
    position: option.Where = "after_prompt",
    rank: option.Rank = 32,
    target: option.Targets = None,
    lr: option.Rate = 0.0,
    steps: BenchSteps = 50,
    batch: BenchBatch = 4,
    micro_batch: option.MicroBatch = 0,
    seed: option.Seed = 0,
    eval_data: EvalData = None,
    max_tokens: option.MaxTokens = 4096,
    threads: Threads = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Train one adapter on DATA with several programs; compare time, memory and what they learnt.

    Every arm has its own process and is given the same samples, order, initial weights, schedule and
    optimiser; one whose first loss is another's is flagged. One evaluator measures all on held-out samples.

    Exit codes: 0 fine, 1 an arm did not train the same, 2 usage, 3 an arm cannot run, 4 a defect.
    """
    import json

    from zoo.bench.arms import chosen
    from zoo.bench.job import Job
    from zoo.bench.running import bench_training
    from zoo.cli.progress import shown

    job = Job(
        data=str(Path(data).absolute()), eval_data=str(eval_data.absolute()) if eval_data else "", base=base,
        invocation=invocation, position=position or "after_prompt",
        steps=steps, batch=batch,
        micro_batch=micro_batch or batch, rank=rank, targets=tuple(target or ()), learning_rate=lr, seed=seed,
        max_tokens=max_tokens, device=device, dtype=dtype, threads=threads,
    )  # fmt: skip
    with shown(quiet=quiet) as progress:
        done = bench_training(
            job, chosen(arms), mellea_python=mellea_python, required=bool(arms), progress=progress
        )
    typer.echo(json.dumps(done.to_document(), indent=2) if as_json else "\n".join(done.lines()))
    raise typer.Exit(done.exit_code)
