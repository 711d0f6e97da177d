"""How far an engine's answer is from what a vector states, or from what a deviation predicts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LogProbs = Mapping[int, Mapping[int, float]]
"""One row's log-probabilities, natural logarithm: by position, then by token id."""

LEAST_TOKENS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """The largest difference of a log-probability.

    Attributes:
        nats: the difference; infinite when an answer is no finite number.
        where: row, position and token.
        compared: positions compared.
    """

    nats: float
    where: str
    compared: int


def gap(expected: Sequence[LogProbs], answers: Sequence[LogProbs]) -> Gap:
    """Compares answers with what is expected, at the expected positions that were answered.

    Args:
        expected: a row each.
        answers: a row each; more positions and more tokens than expected do no harm.
    """
    worst, where, compared = 0.0, "", 0
    for row, (stated, given) in enumerate(zip(expected, answers, strict=True)):
        for position in sorted(stated.keys() & given.keys()):
            compared += 1
            for token, value in stated[position].items():
                distance = _distance(value, token, given[position])
                if not distance <= worst:
                    worst, where = distance, f"row {row}, position {position}, token {token}"
    return Gap(nats=worst, where=where, compared=compared)


def _distance(value: float, token: int, given: Mapping[int, float]) -> float:
    if any(not math.isfinite(one) for one in given.values()):
        return math.inf
    if token in given:
        return abs(value - given[token])
    return max(0.0, value - min(given.values()))  # not among those told, so at most the least of them


def incomplete(last: Sequence[int], vocabulary: int, answers: Sequence[LogProbs]) -> str:
    """Why answers cannot be compared; empty when they can.

    Args:
        last: each row's last position, which must be answered.
        vocabulary: size; who tells all of it tells enough.
        answers: a row each.
    """
    if len(answers) != len(last):
        return f"{len(answers)} rows were answered, not {len(last)}"
    for row, (position, given) in enumerate(zip(last, answers, strict=True)):
        if position not in given:
            return f"row {row} has no answer at its last position, {position}"
        least = min((len(one) for one in given.values()), default=0)
        if least < min(LEAST_TOKENS, vocabulary):
            return f"row {row} tells {least} tokens, fewer than {LEAST_TOKENS}"
    return ""
