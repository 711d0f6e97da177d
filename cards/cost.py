"""The section about what a switch to the adapter takes, by the length of the context."""

from zoo.cards.markdown import cell, image, table
from zoo.cards.record import CardRecord
from zoo.pictures.cost import COST_NAME, alternative


def cost(record: CardRecord) -> str:
    """The cost; empty where nobody measured it."""
    measured = record.lock.cost if record.lock else None
    if measured is None:
        return ""
    rows = [
        [f"{one.tokens:,}", _ms(one.reused), _ms(one.recomputed), f"{one.recomputed / one.reused:.1f}"]
        for one in measured.points
    ]
    header = ["tokens of context", "aLoRA, the base's cache reused", "read again, as a LoRA does", "times"]
    picture = f"\n\n{image(COST_NAME, alternative(measured))}" if COST_NAME in record.pictures else ""
    return (
        "## Cost\n\n"
        f"{table(header, rows, right=(0, 1, 2, 3))}\n\n"
        "Milliseconds to the first token after a switch to the adapter, whose part of the prompt has "
        f"{measured.suffix_tokens} tokens; medians of {measured.runs} runs through PEFT, one request at a "
        f"time, on {cell(measured.machine)} ({cell(measured.device)}, {cell(measured.dtype)}). A ratio "
        f"travels between machines, milliseconds do not.{picture}"
    )


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.1f} ms"
