"""The boundary sweep: what the same weights answer when the adapter begins to act elsewhere in the prompt.

An aLoRA begins at its invocation. Where a LoRA's weights still answer as the LoRA when they begin later
than at the first token, they do not need the context adapted; where only the whole prompt will do, they write
on the context's own keys and values what an aLoRA is not allowed to write.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.evaluation.answers import answer_all
from zoo.progress import Progress, silent
from zoo.training.dataset import Encoded
from zoo.training.prefix import PrefixStore, batches
from zoo.training.share import StorePart

if TYPE_CHECKING:
    from peft import PeftModel

    Ids = tuple[int, ...]

SAMPLES = 64  # asked at each place
NEAR = 16  # tokens
WHOLE, HALF, EARLIER, INVOCATION, LAST = (
    "the whole prompt",
    "the last half of the context",
    f"{NEAR} tokens before the invocation",
    "the invocation",
    "the last token of the prompt",
)
CONTEXT_ALONE = "the context alone, not what follows"
MOVED = (HALF, EARLIER, LAST)


def begin_at(sample: Encoded, start: str) -> Encoded:
    """A sample whose adapter begins to act at a place: what is before it becomes the prefix."""
    context = len(sample.prefix)
    at = {
        WHOLE: 0,
        HALF: context - context // 2,
        EARLIER: max(0, context - NEAR),
        INVOCATION: context,
        LAST: context + len(sample.lead) - 1,
    }[start]
    ids = sample.prefix + sample.lead
    return replace(sample, prefix=ids[:at], lead=ids[at:])


class Places:
    """Held-out samples, and some of them with the adapter begun elsewhere, on keys and values kept once.

    Where it begins makes no difference to what is before: all places of one prompt share their prefix, and
    weights that are changed leave it as it is.
    """

    def __init__(self, model: "PeftModel", samples: Sequence[Encoded], rows: Sequence[int]) -> None:
        """Nothing is computed yet.

        Args:
            model: base and adapter.
            samples: held out.
            rows: those of them that are begun elsewhere too.
        """
        moved = [begin_at(samples[row], start) for start in MOVED for row in rows]
        whole = PrefixStore(model, [*samples, *moved])
        self.own = StorePart(whole, 0, len(samples))
        self._moved = {
            start: StorePart(whole, len(samples) + place * len(rows), len(samples) + (place + 1) * len(rows))
            for place, start in enumerate(MOVED)
        }

    def sweep(
        self, options: "Sequence[Ids] | None", starts: Sequence[str], progress: Progress = silent
    ) -> "Mapping[str, list[Ids]]":
        """The answers of the chosen samples when the adapter begins at each of some places.

        Args:
            options: a closed set of answers, or None; see `answer_all`.
            starts: of `MOVED`.
            progress: told about each place.
        """
        found: dict[str, list[Ids]] = {}
        for done, start in enumerate(starts, 1):
            found[start] = answer_all(self._moved[start], options)
            progress("boundary", done=done, total=len(starts), note=start)
        return found


def teach(
    model: "PeftModel",
    samples: Sequence[Encoded],
    options: "Sequence[Ids] | None",
    *,
    alone: bool = False,
    label: str = "lora",
    progress: Progress = silent,
) -> "tuple[list[Ids], list[Ids]]":
    """What the LoRA answers, its keys and values of each batch let go at once.

    Args:
        model: base and adapter.
        samples: what is asked.
        options: see `answer_all`.
        alone: whether it is also asked acting on the context alone.
        label: the stage's name for progress.
        progress: told about each batch.

    Returns:
        The answers of the LoRA on the whole prompt; and those when it acts on the context alone and the base
        model reads on from there, or none.
    """
    given: list[Ids] = []
    context: list[Ids] = []
    for rows in batches(samples, next(model.parameters()).device.type):
        store = PrefixStore(model, [samples[row] for row in rows], adapted=True)
        given.extend(answer_all(store, options))
        if alone:
            context.extend(answer_all(store, options, adapted=False))
        progress(label, done=len(given), total=len(samples))
    return given, context
