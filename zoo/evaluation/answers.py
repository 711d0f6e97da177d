"""What a model answers to each sample, and how often that is right or the same as another's answer."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.progress import Progress, silent
from zoo.training.prefix import PrefixStore, answer_logits, by_row

if TYPE_CHECKING:
    from torch import Tensor

MAX_CHOICES = 32
DECODED = {"cuda": 256}  # samples that are decoded together, a token of each in a pass
KEPT_TOKENS = 128  # whose logits over the vocabulary are held at once


def choices(answers: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]] | None:
    """The closed set of answers of a task, or None when the task is open.

    Args:
        answers: answer ids of every sample, end token included.

    Returns:
        The distinct answers, sorted, when there are at most 32 and each is given more than once on average
        by two samples; else None.
    """
    distinct = sorted(set(answers))
    return distinct if is_closed(len(distinct), len(answers)) else None


def is_closed(distinct: int, answers: int) -> bool:
    """Whether so many distinct ones among so many answers are a closed set; see `choices`."""
    return distinct <= MAX_CHOICES and 2 * distinct <= answers


def answer_all(
    store: PrefixStore,
    options: Sequence[tuple[int, ...]] | None,
    *,
    adapted: bool = True,
    label: str = "evaluate",
    progress: Progress = silent,
) -> list[tuple[int, ...]]:
    """The answer to every sample of a store.

    Args:
        store: prefixes and samples.
        options: a closed set, of which the likeliest is taken by total log-probability; None decodes
            greedily, up to the length of the expected answer.
        adapted: whether the adapter acts on the suffix.
        label: the stage's name for progress.
        progress: told about each batch.

    Returns:
        Answer ids per sample; a greedy answer that has not ended is cut.
    """

    def answer(rows: list[int]) -> list[tuple[int, ...]]:
        if options is None:
            return _greedy(store, rows, adapted=adapted)
        return _likeliest(store, rows, options, adapted=adapted)

    total = len(store.held)
    most = DECODED.get(store.device.type, 0) if options is None else 0
    return by_row(store, answer, lambda done: progress(label, done=done, total=total), most=most)


def accuracy(given: Sequence[tuple[int, ...]], expected: Sequence[tuple[int, ...]]) -> float:
    """Share of equal pairs.

    Raises:
        ValueError: there are none, or the lengths differ.
    """
    if not expected or len(given) != len(expected):
        raise ValueError(f"{len(given)} answers for {len(expected)} samples")
    return sum(a == b for a, b in zip(given, expected, strict=True)) / len(expected)


def trivial_accuracy(expected: Sequence[tuple[int, ...]]) -> float:
    """Accuracy of always giving the commonest answer."""
    return Counter(expected).most_common(1)[0][1] / len(expected)


def option_scores(
    store: PrefixStore, rows: Sequence[int], options: Sequence[tuple[int, ...]], *, adapted: bool = True
) -> "Tensor":
    """How likely each of some answers is after each sample's prompt.

    Args:
        store: prefixes and samples.
        rows: sample indices, one batch.
        options: answer ids.
        adapted: whether the adapter acts on the suffix.

    Returns:
        Total log-probabilities, float32 `[rows, options]`.
    """
    import torch

    found = []
    for some in _at_once(store, len(rows), options):
        answers = [option for _ in rows for option in some]
        # a sample's options continue one prefix, which is then read once
        repeated = [row for row in rows for _ in some]
        lines = answer_logits(store, repeated, answers=answers, adapted=adapted)
        scores = [
            line.log_softmax(dim=-1)[range(len(answer)), list(answer)].sum()
            for line, answer in zip(lines, answers, strict=True)
        ]
        found.append(torch.stack(scores).view(len(rows), len(some)))
    return torch.cat(found, dim=1)


def _at_once(
    store: PrefixStore, rows: int, options: Sequence[tuple[int, ...]]
) -> list[Sequence[tuple[int, ...]]]:
    """Options that are run together; one by one where steps are recorded, which copy each row's prefix."""
    longest = max(map(len, options))
    size = max(1, KEPT_TOKENS // (rows * longest)) if store.device.type == "cpu" else 1
    return [options[begin : begin + size] for begin in range(0, len(options), size)]


def _likeliest(
    store: PrefixStore, rows: Sequence[int], options: Sequence[tuple[int, ...]], *, adapted: bool
) -> list[tuple[int, ...]]:
    scores = option_scores(store, rows, options, adapted=adapted).tolist()
    return [options[max(range(len(options)), key=line.__getitem__)] for line in scores]


def _longest(expected: Sequence[int]) -> int:
    """How many tokens an answer may take for which these are expected."""
    return 2 * len(expected) + 8


def _greedy(store: PrefixStore, rows: Sequence[int], *, adapted: bool) -> list[tuple[int, ...]]:
    # a reply may be longer than what is expected, and right in parts; one that never ends is cut
    expected = [store.samples[row].answer for row in rows]
    given: list[tuple[int, ...]] = [()] * len(rows)
    going = [place for place, answer in enumerate(expected) if answer]
    while going:
        # one placeholder stands for the token that is being predicted; it is never run
        logits = answer_logits(
            store,
            [rows[place] for place in going],
            answers=[(*given[place], 0) for place in going],
            adapted=adapted,
            recorded=False,
            last=True,
        )
        for place, line in zip(going, logits, strict=True):
            given[place] = (*given[place], int(line[-1].argmax()))
        going = [
            place
            for place in going
            if given[place][-1] != expected[place][-1] and len(given[place]) < _longest(expected[place])
        ]
    return given
