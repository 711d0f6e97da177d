"""What a recovery was compared with: its verdict, by the length of the context, and by the boundary."""

from zoo.cards.markdown import cell, table
from zoo.evaluation.verdict import plain, signed
from zoo.specs.comparison import Comparison

_VERDICTS = {
    "equivalent": "Equivalent to the source LoRA",
    "degraded": "Degraded",
    "re-reads": "Not suited to an aLoRA",
    "undecided": "Undecided",
}


def recovery(comparison: Comparison) -> str:
    """The paragraphs and tables below the columns."""
    lost = comparison.differences["recovered-lora"]
    name = cell(comparison.metric.replace("_", " "))
    parts = [
        f"**{_VERDICTS[comparison.verdict]}**: {cell(comparison.reason)}. Recovered minus source LoRA: "
        f"{signed(lost)} of {name}, paired; brackets are 95 % intervals in which samples of one group are "
        f"drawn together. The recovery ended {cell(comparison.stopped)}.",
        f"By the length of the context in tokens:\n\n{_lengths(comparison)}",
        "Where the adapter begins to act, in the same prompts (an aLoRA begins at its invocation):\n\n"
        f"{_boundary(comparison)}",
    ]
    if control := comparison.control:
        parts.insert(
            1,
            f"The control, a fresh LoRA on whole prompts, trained on the same data for {control.steps:,} "
            f"steps: {plain(control.score)} of {name}; it agrees with the source LoRA on "
            f"{plain(control.agreement)}.",
        )
    return "\n\n".join(parts)


def _lengths(comparison: Comparison) -> str:
    rows = [
        [
            f"{one.shortest:,} to {one.longest:,}",
            f"{one.scores['lora']:.3f}",
            f"{one.scores['recovered']:.3f}",
            signed(one.difference),
            f"{one.samples:,}",
        ]
        for one in comparison.lengths
    ]
    return table(["tokens", "source LoRA", "recovered", "difference", "n"], rows, right=(1, 2, 3, 4))


def _boundary(comparison: Comparison) -> str:
    rows = [
        [
            "source LoRA's" if point.weights == "lora" else "this release's",
            cell(point.start),
            f"{point.score:.3f}",
            f"{point.agreement:.3f}",
            f"{point.samples:,}",
        ]
        for point in comparison.boundary
    ]
    head = [
        "weights",
        "begin at",
        cell(comparison.metric.replace("_", " ")),
        "agrees with the source LoRA",
        "n",
    ]
    return table(head, rows, right=(2, 3, 4))
