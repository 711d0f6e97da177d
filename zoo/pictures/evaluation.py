"""How often its answers are right, beside what that must be compared with, as a picture."""

from pathlib import Path
from typing import Any

from zoo.evaluation.intervals import wilson_interval
from zoo.evaluation.verdict import plain
from zoo.pictures.canvas import INK, MARK, OWN, QUIET, canvas, digest, save, title
from zoo.specs.comparison import Comparison, Estimate
from zoo.specs.lock import BehaviourRecord

EVALUATION_NAME = "evaluation.png"
COLUMNS = {
    "base": "base model",
    "lora": "source LoRA",
    "relabelled": "LoRA relabelled",
    "recovered": "recovered aLoRA",
    "trained": "trained aLoRA",
}


def numbers(behaviour: BehaviourRecord) -> str:
    """The digest of what the picture of a measurement shows."""
    return digest(behaviour)


def estimates(behaviour: BehaviourRecord) -> dict[str, Estimate]:
    """The metric and its 95 % interval by column: as it was compared, else the accuracy with Wilson's."""
    if behaviour.comparison is not None:
        found: dict[str, Estimate] = dict(behaviour.comparison.scores)
    else:
        found = {name: share(value, behaviour.samples) for name, value in behaviour.accuracy.items()}
    known = {name: found[name] for name in COLUMNS if name in found}
    return known | {name: one for name, one in sorted(found.items()) if name not in known}


def share(value: float, samples: int) -> Estimate:
    """A share of so many samples, with Wilson's 95 % interval."""
    low, high = wilson_interval(value, samples)
    return Estimate(value=value, low=low, high=high)


def metric(behaviour: BehaviourRecord) -> str:
    """What the estimates are of."""
    return behaviour.comparison.metric.replace("_", " ") if behaviour.comparison else "accuracy"


def trivial(behaviour: BehaviourRecord) -> float | None:
    """Accuracy of the commonest answer; None where nobody counted, or the estimates are of another metric."""
    return behaviour.trivial if metric(behaviour) in ("accuracy", "exact match") else None


def alternative(behaviour: BehaviourRecord) -> str:
    """The picture in words, for those who cannot see it."""
    said = [f"{COLUMNS.get(name, name)} {plain(one)}" for name, one in estimates(behaviour).items()]
    commonest = trivial(behaviour)
    beside = f"; always the commonest answer {commonest:.3f}" if commonest is not None else ""
    return (
        f"{metric(behaviour).capitalize()} on {behaviour.samples:,} held-out samples with 95 % intervals: "
        f"{', '.join(said)}{beside}."
    )


def draw(path: Path, behaviour: BehaviourRecord, *, name: str) -> bool:
    """Writes the picture, the same bytes for the same numbers under one matplotlib.

    Args:
        path: the file to write.
        behaviour: what was measured.
        name: of the adapter, for the title.

    Returns:
        Whether there was anything to draw.
    """
    if behaviour.status != "measured" or not behaviour.samples or not behaviour.accuracy:
        return False
    found, compared = estimates(behaviour), behaviour.comparison
    lengths = compared if compared and len(compared.lengths) > 1 else None
    figure, axes = canvas(1.3 + 0.42 * len(found) + (2.9 if lengths else 0), rows=2 if lengths else 1)
    _columns(axes[0], behaviour, found)
    title(axes[0], f"{name}: {behaviour.samples:,} held-out samples")
    if lengths:
        axes[0].figure.get_layout_engine().set(hspace=0.08)
        _lengths(axes[1], lengths)
    save(figure, path, numbers=numbers(behaviour))
    return True


def _columns(axis: Any, behaviour: BehaviourRecord, found: dict[str, Estimate]) -> None:
    places = range(len(found) - 1, -1, -1)
    for place, (name, one) in zip(places, found.items(), strict=True):
        own = name == behaviour.own_column
        colour = OWN if own else QUIET
        axis.plot([one.low, one.high], [place, place], color=colour, linewidth=3 if own else 2)
        axis.plot([one.value], [place], marker="o" if own else "s", color=colour, markersize=9 if own else 7)
        axis.annotate(
            f"{one.value:.3f}", (one.value, place), (0, 8), textcoords="offset points",
            ha="center", color=colour, fontsize=11, fontweight="bold" if own else "normal",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )  # fmt: skip
    if (commonest := trivial(behaviour)) is not None:
        axis.axvline(commonest, color=MARK, linestyle="--", linewidth=1.5)
        axis.annotate(
            "commonest answer", (commonest, 0.02), (4, 0), textcoords="offset points",
            xycoords=("data", "axes fraction"), color=MARK, fontsize=10,
        )  # fmt: skip
    labels = [COLUMNS.get(name, name) for name in found]
    axis.set_yticks(list(places), labels)
    for label, name in zip(axis.get_yticklabels(), found, strict=True):
        if name == behaviour.own_column:
            label.set(color=OWN, fontweight="bold")
    axis.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(found) - 0.2))
    axis.set_xlabel(f"{metric(behaviour)} (lines: 95 % intervals)", color=INK)


def _lengths(axis: Any, compared: Comparison) -> None:
    """The metric of recovered adapter and LoRA by the length of the context."""
    places = list(range(len(compared.lengths)))
    for column, colour, marker in (("lora", QUIET, "s"), ("recovered", OWN, "o")):
        values = [one.scores[column] for one in compared.lengths]
        axis.plot(places, values, color=colour, marker=marker, linewidth=2, label=COLUMNS[column])
    lora = [one.scores["lora"] for one in compared.lengths]
    low = [score + one.difference.low for score, one in zip(lora, compared.lengths, strict=True)]
    high = [score + one.difference.high for score, one in zip(lora, compared.lengths, strict=True)]
    axis.fill_between(places, low, high, color=OWN, alpha=0.15, label="paired 95 % interval")
    axis.set_xticks(
        places, [f"{one.shortest:,}–{one.longest:,}\nn={one.samples}" for one in compared.lengths]
    )
    axis.set(ylim=(min(0.0, *low), max(1.02, *high)))
    axis.set_xlabel("tokens of context", color=INK)
    axis.set_ylabel(compared.metric.replace("_", " "), color=INK)
    axis.legend(frameon=False, fontsize=10)
