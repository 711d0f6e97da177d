"""What a switch to an adapter takes, by the length of the context, as a picture."""

from pathlib import Path

from zoo.pictures.canvas import INK, OWN, QUIET, canvas, digest, save, title
from zoo.specs.lock import CostRecord

COST_NAME = "cost.png"


def numbers(cost: CostRecord) -> str:
    """The digest of what the picture shows."""
    return digest(cost)


def alternative(cost: CostRecord) -> str:
    """The picture in words, for those who cannot see it."""
    said = [
        f"{one.tokens:,} tokens {1000 * one.reused:,.1f} against {1000 * one.recomputed:,.1f} ms"
        for one in cost.points
    ]
    return (
        "Time to the first token by the length of the context, the base's cache reused against the context "
        f"read again: {', '.join(said)}."
    )


def draw(path: Path, cost: CostRecord, *, name: str) -> None:
    """Writes the picture, the same bytes for the same numbers under one matplotlib.

    Args:
        path: the file to write.
        cost: what was measured.
        name: of the adapter, for the title.
    """
    figure, (axis,) = canvas(3.6)
    tokens = [one.tokens for one in cost.points]
    again = [1000 * one.recomputed for one in cost.points]
    reused = [1000 * one.reused for one in cost.points]
    axis.plot(
        tokens, again, color=QUIET, marker="s", linestyle="--", linewidth=2, label="context read again (LoRA)"
    )
    axis.plot(tokens, reused, color=OWN, marker="o", linewidth=3, label="base's cache reused (aLoRA)")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(tokens, [f"{one:,}" for one in tokens])
    axis.minorticks_off()
    low, high = min(reused), max(again)
    steps = [factor * 10**power for power in range(-3, 7) for factor in (1, 2, 5)]
    shown = [one for one in steps if low / 2 <= one <= high * 2]
    axis.set_yticks(shown, [f"{one:,.4g}" for one in shown])
    last = cost.points[-1]
    axis.annotate(
        f"{last.recomputed / last.reused:.1f}×", (tokens[-1], (reused[-1] * again[-1]) ** 0.5), (-6, 0),
        textcoords="offset points", ha="right", va="center", color=INK, fontsize=12, fontweight="bold",
    )  # fmt: skip
    axis.annotate(
        "", (tokens[-1], reused[-1]), (tokens[-1], again[-1]), arrowprops={"arrowstyle": "<->", "color": INK}
    )
    axis.set_xlabel("tokens of context", color=INK)
    axis.set_ylabel("first token (ms)", color=INK)
    axis.legend(frameon=False, fontsize=11, loc="upper left")
    title(axis, f"{name}: {cost.dtype} on {cost.device}")
    save(figure, path, numbers=numbers(cost))
