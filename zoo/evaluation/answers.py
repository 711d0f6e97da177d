"""What a model answers to each sample, and how often that is right or the same as another's answer."""

import math
from collections import Counter
from collections.abc import Sequence

from zoo.progress import Progress, silent
from zoo.training.prefix import PrefixStore, answer_logits, batches

MAX_CHOICES = 32


def choices(answers: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]] | None:
    """The closed set of answers of a task, or None when the task is open.

    Args:
        answers: answer ids of every sample, end token included.

    Returns:
        The distinct answers, sorted, when there are at most 32 and each is given more than once on average
        by two samples; else None.
    """
    distinct = sorted(set(answers))
    closed = len(distinct) <= MAX_CHOICES and 2 * len(distinct) <= len(answers)
    return distinct if closed else None


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
    import torch

    total = len(store.samples)
    given: list[tuple[int, ...]] = []
    with torch.no_grad():
        for rows in batches(total):
            if options is None:
                given.extend(_greedy(store, row, adapted=adapted) for row in rows)
            else:
                given.extend(_likeliest(store, rows, options, adapted=adapted))
            progress(label, done=len(given), total=total)
    return given


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


def wilson_interval(share: float, samples: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson score interval of a share, 95 % unless told.

    Source: Wilson 1927, equation for the score interval.
    """
    centre = share + z * z / (2 * samples)
    spread = z * math.sqrt(share * (1 - share) / samples + z * z / (4 * samples * samples))
    scale = 1 + z * z / samples
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _likeliest(
    store: PrefixStore, rows: Sequence[int], options: Sequence[tuple[int, ...]], *, adapted: bool
) -> list[tuple[int, ...]]:
    scores = [[0.0] * len(options) for _ in rows]
    for column, option in enumerate(options):
        for row, logits in enumerate(
            answer_logits(store, rows, answers=[option] * len(rows), adapted=adapted)
        ):
            chosen = logits.log_softmax(dim=-1)[range(len(option)), list(option)]
            scores[row][column] = float(chosen.sum())
    return [options[max(range(len(options)), key=line.__getitem__)] for line in scores]


def _greedy(store: PrefixStore, row: int, *, adapted: bool) -> tuple[int, ...]:
    # the expected answer's length bounds the work: what has not ended by then is wrong already
    expected = store.samples[row].answer
    given: tuple[int, ...] = ()
    for _ in expected:
        # one placeholder stands for the token that is being predicted; it is never run
        logits = answer_logits(store, [row], answers=[(*given, 0)], adapted=adapted)[0]
        given = (*given, int(logits[-1].argmax()))
        if given[-1] == expected[-1]:
            break
    return given
