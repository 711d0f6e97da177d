"""A run's course as a picture: loss of every step, validation loss and metric at every look."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

from zoo.pictures.canvas import INK, MARK, MISSING, OWN, QUIET, can_draw, canvas, save, title
from zoo.pictures.training import TRAINING_NAME as PLOT_NAME
from zoo.pictures.training import numbers
from zoo.specs.lock import TrainingRecord

__all__ = ["MISSING", "PLOT_NAME", "can_draw", "draw"]

_MARKERS, _LINES = "os^Dv", ("-", "--", ":", "-.")  # several metrics are told apart without colour


def draw(
    path: Path,
    *,
    name: str,
    losses: Sequence[float],
    looks: Sequence[tuple[int, Mapping[str, float]]],
    best_step: int,
    training: TrainingRecord,
) -> None:
    """Writes the picture as PNG, the same bytes for the same numbers under one matplotlib.

    Args:
        path: the file to write.
        name: above it.
        losses: mean loss of each step, nats a token.
        looks: at validation data: the step, and what was seen; `loss` beside the losses, the rest below.
        best_step: the one whose weights were kept.
        training: the record that the release keeps of the run.
    """
    names = [metric for metric in looks[0][1] if metric != "loss"]
    figure, axes = canvas(5.6 if names else 3.2, rows=2 if names else 1, shared=True)
    steps = [step for step, _ in looks]
    axes[0].plot(range(1, len(losses) + 1), losses, color=QUIET, linewidth=1, alpha=0.6, label="training")
    if "loss" in looks[0][1]:
        seen = [look["loss"] for _, look in looks]
        axes[0].plot(steps, seen, color=OWN, marker="o", markersize=4, linewidth=2, label="validation")
    title(axes[0], name)
    axes[0].set_ylabel("loss (nats a token)", color=INK)
    if names:
        for metric, marker, line in zip(names, cycle(_MARKERS), cycle(_LINES), strict=False):
            label, seen = metric.replace("_", " "), [look[metric] for _, look in looks]
            axes[1].plot(steps, seen, color=OWN, marker=marker, linestyle=line, markersize=4, label=label)
        axes[1].set_ylabel("validation", color=INK)
    for axis in axes:
        axis.axvline(best_step, color=MARK, linestyle=":", linewidth=2, label=f"kept: step {best_step}")
        axis.legend(frameon=False, fontsize=10)
    axes[-1].set_xlabel("step", color=INK)
    save(figure, path, numbers=numbers(training))
