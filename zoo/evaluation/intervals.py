"""95 % intervals of means and of paired differences, of values between 0 and 1.

Two things make the usual intervals of such figures too narrow. Samples come in groups (two questions about
one passage): the bootstrap draws groups. And where hardly any two answers differ the bootstrap sees no
spread at all: score intervals still have one, however few the samples. Here an interval is the hull of
both, so it never promises more than either.

With strata a value is the mean of the strata's means, each counting alike whatever its size: over the
expected answers that is balanced accuracy. Their score intervals are put together by MOVER, and the bootstrap
takes the mean of the strata's means of what it drew.
Source: Wilson 1927 (one share); Newcombe, Statistics in Medicine 17 (1998) 2635, method 10 (paired shares);
Zou and Donner, Statistics in Medicine 27 (2008) 1693 (MOVER: intervals of a sum from those of its parts).
For values between 0 and 1 that are no 0 or 1 the shares' formulas are upper bounds: no distribution with the
same mean spreads more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Z = 1.96  # two-sided 95 %
DRAWS = 2000
FEWEST = 400  # draws, of very many groups: what they say varies little then
NUMBERS = 1 << 22  # drawn in all, and held at once, beyond those
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


def of_mean(
    values: Sequence[float], groups: Sequence[str], *, strata: Sequence[str] = (), seed: int = SEED
) -> Interval:
    """The mean of values in [0, 1].

    Args:
        values: one a sample.
        groups: of each sample; samples of one group are drawn together.
        strata: of each sample; none is one for all.
        seed: of the bootstrap.
    """
    parts = _parts(strata, len(values))
    means = [sum(values[row] for row in rows) / len(rows) for rows in parts]
    scores = [wilson_interval(mean, len(rows)) for mean, rows in zip(means, parts, strict=True)]
    return _hull(*_together(means, scores), _bootstrap(values, groups, parts, seed))


def of_difference(
    one: Sequence[float],
    other: Sequence[float],
    groups: Sequence[str],
    *,
    strata: Sequence[str] = (),
    seed: int = SEED,
) -> Interval:
    """The mean of `one - other`, values in [0, 1] that were measured on the same samples.

    Args:
        one: one value a sample.
        other: the same samples' values by something else.
        groups: of each sample.
        strata: of each sample; none is one for all.
        seed: of the bootstrap.
    """
    pairs = list(zip(one, other, strict=True))
    gains = [a - b for a, b in pairs]
    parts = _parts(strata, len(pairs))
    means = [sum(gains[row] for row in rows) / len(rows) for rows in parts]
    scores = [
        paired_interval(
            both=sum(min(pairs[row]) for row in rows),
            first=sum(max(0.0, gains[row]) for row in rows),
            second=sum(max(0.0, -gains[row]) for row in rows),
            samples=len(rows),
        )
        for rows in parts
    ]
    return _hull(*_together(means, scores), _bootstrap(gains, groups, parts, seed))


def wilson_interval(share: float, samples: int, z: float = Z) -> tuple[float, float]:
    """The Wilson score interval of a share, 95 % unless told.

    Source: Wilson 1927, equation for the score interval.
    """
    centre = share + z * z / (2 * samples)
    spread = z * math.sqrt(share * (1 - share) / samples + z * z / (4 * samples * samples))
    scale = 1 + z * z / samples
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def paired_interval(*, both: float, first: float, second: float, samples: int) -> tuple[float, float]:
    """The interval of the difference of two shares of the same samples.

    Args:
        both: how many samples have both properties.
        first: the first alone.
        second: the second alone.
        samples: in all.

    Source: Newcombe 1998, method 10: squares of Wilson's distances, with the correlation phi of the pairs.
    """
    neither = max(0.0, samples - both - first - second)
    p, q = (both + first) / samples, (both + second) / samples
    (l1, u1), (l2, u2) = wilson_interval(p, samples), wilson_interval(q, samples)
    margins = (both + first) * (second + neither) * (both + second) * (first + neither)
    cross = both * neither - first * second
    if cross > samples / 2:  # the correction for continuity that the method has
        cross -= samples / 2
    elif cross > 0:
        cross = 0.0
    phi = cross / math.sqrt(margins) if margins > 0 else 0.0
    below = (p - l1) ** 2 - 2 * phi * (p - l1) * (u2 - q) + (u2 - q) ** 2
    above = (u1 - p) ** 2 - 2 * phi * (u1 - p) * (q - l2) + (q - l2) ** 2
    return p - q - math.sqrt(max(0.0, below)), p - q + math.sqrt(max(0.0, above))


def _parts(strata: Sequence[str], samples: int) -> list[list[int]]:
    """The samples' places by stratum."""
    if not strata:
        return [list(range(samples))]
    return [[row for row in range(samples) if strata[row] == name] for name in sorted(set(strata))]


def _together(
    means: Sequence[float], intervals: Sequence[tuple[float, float]]
) -> tuple[float, tuple[float, float]]:
    """The mean of independent means, and its interval from theirs."""
    value, count = sum(means) / len(means), len(means)
    if count == 1:
        return value, intervals[0]
    pairs = list(zip(means, intervals, strict=True))
    below = math.sqrt(sum((mean - low) ** 2 for mean, (low, _) in pairs)) / count
    above = math.sqrt(sum((high - mean) ** 2 for mean, (_, high) in pairs)) / count
    return value, (value - below, value + above)


def _bootstrap(
    values: Sequence[float], groups: Sequence[str], parts: Sequence[Sequence[int]], seed: int
) -> tuple[float, float]:
    """Percentiles of the mean of the parts' means when whole groups are drawn with replacement."""
    import numpy as np

    names, places = np.unique(np.asarray(groups), return_inverse=True)
    known = np.asarray(values, dtype=np.float64)
    totals = [np.bincount(places[rows], weights=known[rows], minlength=len(names)) for rows in parts]
    counts = [np.bincount(places[rows], minlength=len(names)) for rows in parts]
    random, even = np.random.default_rng(seed), np.full(len(names), 1 / len(names))
    count = max(FEWEST, min(DRAWS, NUMBERS // len(names)))
    means: list[float] = []
    while len(means) < count:
        drawn = random.multinomial(len(names), even, size=min(count - len(means), 1 + NUMBERS // len(names)))
        with np.errstate(invalid="ignore"):  # a draw may have nothing of a rare stratum: 0 / 0
            found = [(drawn @ total) / (drawn @ held) for total, held in zip(totals, counts, strict=True)]
        means.extend(found[0] if len(found) == 1 else np.nanmean(found, axis=0))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _hull(value: float, one: tuple[float, float], other: tuple[float, float]) -> Interval:
    return Interval(value=value, low=min(one[0], other[0]), high=max(one[1], other[1]))
