"""The options of `zoo train`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from zoo.cli.options import PositionName

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="JSONL: messages and the expected answer; zoo explain ZD001.")
]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="Release folder to make.")]
Where = Annotated[
    PositionName | None, typer.Option(help="Where the invocation stands; after_prompt when left out.")
]
Adapters = Annotated[
    str,
    typer.Option(
        metavar="A,B",
        help="Train several on shared prefixes; OUT/A, OUT/B. {adapter} in DATA, TEXT, DIR and FILE is the "
        "name.",
    ),
]
Repeat = Annotated[
    Path | None,
    typer.Option(metavar="RELEASE", help="Do a recorded training again, as it was, and compare the weights."),
]
Kind = Annotated[
    Literal["alora", "lora"],
    typer.Option(help="lora: a plain LoRA of the same rank on every token, to compare with."),
]
Rank = Annotated[int, typer.Option(min=1, max=512, help="Rank of every adapted module.")]
Targets = Annotated[
    list[str] | None, typer.Option(help="Module to adapt; repeat. Left out: q_proj, k_proj, v_proj.")
]
Init = Annotated[
    Literal["kaiming", "orthogonal", "pissa", "olora"],
    typer.Option(help="Initial weights; pissa and olora hold half of the rank fixed."),
]
In4Bits = Annotated[
    bool,
    typer.Option("--load-in-4-bits", help="Hold the base's weights as NF4; wants alora-zoo[4bit]."),
]
SharedA = Annotated[
    int | None,
    typer.Option(
        metavar="SEED", help="Draw A from SEED and hold it: the same in every adapter of a library."
    ),
]
Optimizer = Annotated[Literal["adamw", "lora+", "lora-fa", "lora-rite"], typer.Option(help="What steps.")]
Ratio = Annotated[float, typer.Option(min=1.0, help="lora+: B's learning rate as a multiple of A's.")]
Rate = Annotated[
    float, typer.Option("--lr", min=0.0, help="Highest learning rate; 0 is the optimiser's own.")
]
Steps = Annotated[int, typer.Option(min=1, help="Optimiser steps.")]
Batch = Annotated[int, typer.Option(min=1, help="Samples a step.")]
MicroBatch = Annotated[
    int, typer.Option(min=0, help="Samples of each adapter run at once; 0 is all of a step.")
]
Patience = Annotated[
    int,
    typer.Option(min=0, help="Stop after so many looks (one every 10 steps) without a better one; 0: never."),
]
DiskCache = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Files for prefixes that memory has no room for; removed at the end."),
]
Processes = Annotated[int, typer.Option(min=1, help="Processes that share steps, a GPU each: 1, 2, 4, 8.")]
Seed = Annotated[int, typer.Option(help="Of data order and initial weights.")]
MaxTokens = Annotated[int, typer.Option(min=2, help="Longest sample.")]
Truncate = Annotated[
    Literal["error", "left"], typer.Option(help="Longer samples: refuse, or cut their context.")
]
TrackerName = Annotated[
    Literal["trackio", "tensorboard"] | None, typer.Option(help="Also send the course to this.")
]
