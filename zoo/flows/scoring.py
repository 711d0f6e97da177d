"""The joint answerability-faithfulness score, and what stands beside it, with intervals.

JAFS of a query is 1 if the flow abstains and the query is unanswerable, the response's faithfulness if it
answers and the query is answerable, and 0 otherwise; of a data set it is the mean. Source: arXiv 2504.11704
(v1), section 7. Faithfulness alone is the mean over the responses that were given, so a flow that answers
what it should not, or nearly nothing, can come out first by it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray

State = Literal["answered", "abstained", "failed"]
RESAMPLES = 2000
CHUNK = 2_000_000  # numbers of a block of resampling weights: 16 MB
SEED = 2504_11704


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a flow did with one query.

    Attributes:
        answerable: whether the documents answer it.
        state: `failed` when a step broke its contract: neither an answer nor an abstention.
        faithfulness: of the answer, in [0, 1]; None when unknown or when there is none.
    """

    answerable: bool
    state: State
    faithfulness: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A flow's figures on a data set.

    Attributes:
        n: queries.
        answerable: of these, answerable ones.
        answered: queries with a response.
        answered_answerable: responses to answerable queries.
        failed: queries at which a step broke its contract; they count as wrong.
        unmeasured: responses to answerable queries whose faithfulness is unknown.
        jafs: None while anything is unmeasured.
        jafs_bounds: JAFS if all unmeasured responses had faithfulness 0, and 1.
        f1_answerable: F1 of answering the answerable; None when there is neither.
        f1_unanswerable: F1 of abstaining on the unanswerable; likewise.
        response_rate: share of queries with a response, with Wilson's interval.
        faithfulness: mean over the responses whose faithfulness is known; None without any.
        faithfulness_answerable: the same over responses to answerable queries.
    """

    n: int
    answerable: int
    answered: int
    answered_answerable: int
    failed: int
    unmeasured: int
    jafs: Estimate | None
    jafs_bounds: tuple[float, float]
    f1_answerable: Estimate | None
    f1_unanswerable: Estimate | None
    response_rate: Estimate
    faithfulness: Estimate | None
    faithfulness_answerable: Estimate | None


def credit(outcome: Outcome) -> float | None:
    """JAFS of one query; None when it hangs on an unknown faithfulness."""
    if outcome.state == "abstained":
        return 0.0 if outcome.answerable else 1.0
    if outcome.state == "answered" and outcome.answerable:
        return outcome.faithfulness
    return 0.0


def figures(outcomes: Sequence[Outcome]) -> Figures:
    """The figures over a data set.

    Raises:
        ValueError: there are no outcomes.
    """
    if not outcomes:
        raise ValueError("no outcomes")
    credits = [credit(outcome) for outcome in outcomes]
    known = [value for value in credits if value is not None]
    unmeasured, n = len(credits) - len(known), len(outcomes)
    answered = [outcome for outcome in outcomes if outcome.state == "answered"]
    return Figures(
        n=n,
        answerable=sum(outcome.answerable for outcome in outcomes),
        answered=len(answered),
        answered_answerable=sum(outcome.answerable for outcome in answered),
        failed=sum(outcome.state == "failed" for outcome in outcomes),
        unmeasured=unmeasured,
        jafs=None if unmeasured else mean(known),
        jafs_bounds=(sum(known) / n, (sum(known) + unmeasured) / n),
        f1_answerable=f1(outcomes, answerable=True),
        f1_unanswerable=f1(outcomes, answerable=False),
        response_rate=_share(len(answered), n),
        faithfulness=mean(_known(answered)),
        faithfulness_answerable=mean(_known([outcome for outcome in answered if outcome.answerable])),
    )


def difference(flow: Sequence[Outcome], control: Sequence[Outcome]) -> Estimate | None:
    """JAFS of a flow minus that of a control query by query, with its interval.

    Args:
        flow: one outcome a query.
        control: of the same queries, in the same order.

    Returns:
        None while anything is unmeasured.
    """
    pairs = [(credit(one), credit(other)) for one, other in zip(flow, control, strict=True)]
    found = [one - other for one, other in pairs if one is not None and other is not None]
    return mean(found) if len(found) == len(pairs) else None


def mean(values: Sequence[float]) -> Estimate | None:
    """A mean with its bootstrap interval; None of nothing."""
    import numpy as np

    if not values:
        return None
    array = np.asarray(values, dtype=float)
    return _bootstrap([array], lambda sums, n: sums[0] / n)


def f1(outcomes: Sequence[Outcome], *, answerable: bool) -> Estimate | None:
    """F1 of one class, with its bootstrap interval; a failed query is predicted to be of neither.

    Args:
        outcomes: one a query.
        answerable: which class: answered as answerable, or abstained on as unanswerable.

    Returns:
        None when no query is of the class and none was taken for it.
    """
    import numpy as np

    taken = "answered" if answerable else "abstained"
    predicted = np.asarray([outcome.state == taken for outcome in outcomes], dtype=float)
    true = np.asarray([outcome.answerable is answerable for outcome in outcomes], dtype=float)
    if not (predicted.sum() or true.sum()):
        return None
    return _bootstrap([predicted * true, predicted + true], lambda sums, _: 2 * sums[0] / sums[1])


def _bootstrap(
    columns: Sequence["NDArray[float64]"],
    figure: Callable[[Sequence["NDArray[float64]"], int], "NDArray[float64]"],
) -> Estimate:
    """A figure of the columns' sums, with its percentile interval over resampled queries; seeded."""
    import numpy as np

    n = len(columns[0])
    value = float(figure([np.asarray([column.sum()]) for column in columns], n)[0])
    random, drawn = np.random.default_rng(SEED), []
    block = max(1, CHUNK // n)
    for begin in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - begin)
        weights = random.multinomial(n, np.full(n, 1 / n), size=size).astype(float)
        with np.errstate(invalid="ignore"):
            drawn.append(figure([weights @ column for column in columns], n))
    found = np.concatenate(drawn)
    low, high = np.nanpercentile(found, [2.5, 97.5])  # a resample without any of a class has no F1
    return Estimate(value=value, low=float(low), high=float(high))


def _share(count: int, n: int) -> Estimate:
    from zoo.evaluation.intervals import wilson_interval

    low, high = wilson_interval(count / n, n)
    return Estimate(value=count / n, low=low, high=high)


def _known(outcomes: Sequence[Outcome]) -> list[float]:
    return [outcome.faithfulness for outcome in outcomes if outcome.faithfulness is not None]
