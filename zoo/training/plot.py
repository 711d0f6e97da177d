"""A run's course as a picture: loss of every step, validation loss and metric at every look."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PLOT_NAME = "training.png"
MISSING = "not drawn: matplotlib is not installed (pip install 'alora-zoo[plot]')"


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(
    path: Path,
    *,
    title: str,
    losses: Sequence[float],
    looks: Sequence[tuple[int, Mapping[str, float]]],
    best_step: int,
) -> None:
    """Writes the picture as PNG, the same bytes for the same numbers under one matplotlib.

    Args:
        path: the file to write.
        title: above it.
        losses: mean loss of each step, nats a token.
        looks: at validation data: the step, and what was seen; `loss` beside the losses, the rest below.
        best_step: the one whose weights were kept.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in looks[0][1] if name != "loss"]
    figure = Figure(figsize=(7, 6 if names else 3.2), layout="constrained")
    FigureCanvasAgg(figure)  # drawn in memory: no window, no display
    axes: Any = figure.subplots(2 if names else 1, 1, sharex=True, squeeze=False)[:, 0]
    steps = [step for step, _ in looks]
    axes[0].plot(range(1, len(losses) + 1), losses, color="0.7", linewidth=1, label="training")
    if "loss" in looks[0][1]:
        axes[0].plot(steps, [seen["loss"] for _, seen in looks], marker=".", label="validation")
    axes[0].set(title=title, ylabel="loss (nats a token)")
    if names:
        for name in names:
            axes[1].plot(steps, [seen[name] for _, seen in looks], marker=".", label=name.replace("_", " "))
        axes[1].set(ylabel="validation")
    for axis in axes:
        axis.axvline(best_step, color="0.5", linestyle=":", label=f"kept: step {best_step}")
        axis.legend(frameon=False)
        axis.grid(alpha=0.3)
    axes[-1].set(xlabel="step")
    figure.savefig(path, format="png", dpi=120)
