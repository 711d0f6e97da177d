"""An adapter's spectrum as a small picture: how much each layer changes, and in how many directions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.errors import MissingExtraError
from zoo.inspection.spectrum import Layer


def draw(path: Path, layers: Sequence[Layer], *, title: str) -> None:
    """Writes the picture as PNG, the same bytes for the same numbers under one matplotlib.

    Args:
        path: the file to write.
        layers: from `by_layer`.
        title: above it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("drawing needs matplotlib", hint="pip install 'alora-zoo[plot]'") from None

    figure = Figure(figsize=(7, 3.4), layout="constrained")
    FigureCanvasAgg(figure)  # drawn in memory: no window, no display
    axes: Any = figure.subplots(1, 2)
    names = ["–" if layer.number < 0 else str(layer.number) for layer in layers]
    places = range(len(layers))
    axes[0].bar(places, [layer.norm for layer in layers], color="0.75")
    axes[0].set(xlabel="layer", ylabel="Frobenius norm of the update")
    step = max(1, len(names) // 12)
    axes[0].set_xticks(list(places)[::step], names[::step])
    longest = max(len(layer.shape) for layer in layers)
    rows = [[*layer.shape, *([0.0] * (longest - len(layer.shape)))] for layer in layers]
    image = axes[1].imshow(rows, aspect="auto", vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
    axes[1].set(xlabel="singular value", ylabel="layer")
    axes[1].set_yticks(list(places)[::step], names[::step])
    figure.colorbar(image, ax=axes[1], label="of the largest")
    figure.suptitle(title, parse_math=False)  # a folder may be called anything
    figure.savefig(path, format="png", dpi=110)
