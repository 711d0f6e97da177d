"""Options of `zoo convert` that say what the source does not, and how to recover its behaviour."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from zoo.cli.options import PositionName

Place = Annotated[
    PositionName | None, typer.Option(help="Where the invocation stands; found out when left out.")
]
Name = Annotated[str, typer.Option(help="Release name; the source's own when left out.")]
Version = Annotated[str, typer.Option("--version", help="Semantic version.")]
License = Annotated[str, typer.Option("--license", help="SPDX identifier.")]
Description = Annotated[str, typer.Option(help="One or two sentences for the card.")]
LegacyBoundary = Annotated[
    Literal["exclusive", "inclusive"], typer.Option(help="alora 0.x: act behind the first token, or at it.")
]
Initial = Annotated[Path | None, typer.Option(help="Adapter before training (PiSSA, OLoRA).")]
MaxError = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, metavar="E", help="Of a full-rank source: the accepted relative error."),
]
Alpha = Annotated[float | None, typer.Option(help="LoRA alpha, for a format that does not store it.")]
Extract = Annotated[
    int | None,
    typer.Option(min=1, max=1024, metavar="RANK", help="SRC is a fine-tuned model: its change at this rank."),
]
Recover = Annotated[
    Path | None,
    typer.Option(metavar="DATA|auto", help="JSONL: distil, and measure. auto: the base writes the data."),
]
Requests = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="For auto: a zoo.yaml, its folder, or JSONL with sample requests."),
]
RecoverSamples = Annotated[int, typer.Option(min=16, help="For auto: samples to make.")]
RecoverSteps = Annotated[int, typer.Option(min=1, help="Steps of the distillation, at most.")]
Io = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="io.yaml that makes the prompts of DATA and judges replies."),
]
RecoverRate = Annotated[
    float,
    typer.Option(
        "--recover-lr", min=0.0, help="Highest learning rate; 0 is the optimiser's own, calibrated less."
    ),
]
RecoverBatch = Annotated[int, typer.Option(min=1, help="Samples a step.")]
RecoverOptimizer = Annotated[
    Literal["adamw", "lora+", "lora-fa", "lora-rite"], typer.Option(help="What steps.")
]
RecoverPatience = Annotated[
    int,
    typer.Option(min=0, help="End after so many looks (one every 5 steps) that are no closer; 0: never."),
]
LabelWeight = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Share of DATA's own answers in the loss; the rest is KL.")
]
TeacherTopK = Annotated[
    int, typer.Option(min=0, help="Keep so many tokens of each of the LoRA's predictions; 0: all.")
]
Margin = Annotated[
    float, typer.Option(min=0.0, max=1.0, help="Loss of the metric up to which it is equivalent.")
]
Calibrate = Annotated[
    bool,
    typer.Option(help="Before the steps: fit queries and outputs, layer by layer, to what the LoRA does."),
]
Control = Annotated[
    bool, typer.Option(help="When degraded: train a LoRA on whole prompts too, to see whether that is why.")
]
START_RANK = 64  # of what a recovery begins with, unless --grow says


def cut(recover: Path | None, grow: int | None) -> int | None:
    """The rank at which an update of full rank is cut where a recovery makes up for that."""
    return (grow or START_RANK) if recover else None
