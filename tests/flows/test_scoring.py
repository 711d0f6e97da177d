"""JAFS against figures worked out by hand from counts, and against a second reckoning from the definition."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.flows.scoring import Outcome, credit, difference, f1, figures, mean


def flow(*, right: int, wrong_answers: int, abstains: int, missed: int, faithfulness: float) -> list[Outcome]:
    """Outcomes from counts: answerable and answered, unanswerable and answered, and so on."""
    return [
        *[Outcome(answerable=True, state="answered", faithfulness=faithfulness)] * right,
        *[Outcome(answerable=False, state="answered", faithfulness=faithfulness)] * wrong_answers,
        *[Outcome(answerable=False, state="abstained")] * abstains,
        *[Outcome(answerable=True, state="abstained")] * missed,
    ]


# 100 queries, 80 answerable. By hand: JAFS = (abstains + right * faithfulness) / 100.
FOUR = {
    "none": ({"right": 60, "wrong_answers": 18, "abstains": 2, "missed": 20, "faithfulness": 0.75}, 0.47),
    "rewrite": ({"right": 70, "wrong_answers": 19, "abstains": 1, "missed": 10, "faithfulness": 0.8}, 0.57),
    "answerability": (
        {"right": 62, "wrong_answers": 4, "abstains": 16, "missed": 18, "faithfulness": 0.7},
        0.594,
    ),
    "both": ({"right": 70, "wrong_answers": 6, "abstains": 14, "missed": 10, "faithfulness": 0.74}, 0.658),
}


@pytest.mark.parametrize("name", FOUR)
def test_jafs_is_what_the_counts_give_by_hand(name: str) -> None:
    counts, by_hand = FOUR[name]
    found = figures(flow(**counts))  # type: ignore[arg-type]

    assert found.jafs is not None
    assert found.jafs.value == pytest.approx(by_hand, abs=1e-12)
    assert found.jafs.low < by_hand < found.jafs.high
    assert (found.n, found.answerable) == (100, 80)


def test_faithfulness_alone_ranks_the_four_flows_differently() -> None:
    """As in the table of arXiv 2504.11704 (v1): the rewriter alone is first by one, both by the other."""
    found = {name: figures(flow(**counts)) for name, (counts, _) in FOUR.items()}  # type: ignore[arg-type]

    assert max(found, key=lambda name: found[name].faithfulness.value) == "rewrite"  # type: ignore[union-attr]
    assert max(found, key=lambda name: found[name].jafs.value) == "both"  # type: ignore[union-attr]


def test_f1_of_both_classes_by_hand() -> None:
    found = figures(flow(**FOUR["answerability"][0]))  # type: ignore[arg-type]
    assert found.f1_unanswerable is not None
    assert found.f1_answerable is not None
    # abstained on 34, 16 of them rightly, of 20; answered 66, 62 of them rightly, of 80
    assert found.f1_unanswerable.value == pytest.approx(2 * 16 / (34 + 20))
    assert found.f1_answerable.value == pytest.approx(2 * 62 / (66 + 80))
    assert (found.answered, found.answered_answerable) == (66, 62)


def test_the_share_of_responses_has_wilsons_interval() -> None:
    share = figures(flow(**FOUR["answerability"][0])).response_rate  # type: ignore[arg-type]
    # Wilson 1927 for 66 of 100 at z = 1.96, worked out apart
    centre, spread = (0.66 + 0.019208) / 1.038416, 1.96 * math.sqrt(0.66 * 0.34 / 100 + 0.00009604) / 1.038416
    assert share.low == pytest.approx(centre - spread, abs=1e-9)
    assert share.high == pytest.approx(centre + spread, abs=1e-9)


@pytest.mark.parametrize(
    ("answerable", "state", "faithfulness", "worth"),
    [
        (False, "abstained", None, 1.0),
        (True, "abstained", None, 0.0),
        (True, "answered", 0.3, 0.3),
        (True, "answered", None, None),
        (False, "answered", 1.0, 0.0),
        (False, "answered", None, 0.0),
        (True, "failed", None, 0.0),
        (False, "failed", None, 0.0),
    ],
)
def test_what_one_query_is_worth(answerable, state, faithfulness, worth) -> None:  # type: ignore[no-untyped-def]
    assert credit(Outcome(answerable=answerable, state=state, faithfulness=faithfulness)) == worth


OUTCOMES = st.builds(
    Outcome,
    answerable=st.booleans(),
    state=st.sampled_from(["answered", "abstained", "failed"]),
    faithfulness=st.floats(0, 1),
)


@given(st.lists(OUTCOMES, min_size=1, max_size=30))
def test_a_reckoning_from_the_definition_agrees(outcomes: list[Outcome]) -> None:
    total = 0.0
    for one in outcomes:
        if not one.answerable and one.state == "abstained":
            total += 1
        elif one.answerable and one.state == "answered":
            total += one.faithfulness or 0.0
    found = figures(outcomes).jafs
    assert found is not None
    assert found.value == pytest.approx(total / len(outcomes))
    assert -1e-9 <= found.low <= found.high <= 1 + 1e-9


@given(st.lists(OUTCOMES, min_size=1, max_size=30))
def test_f1_agrees_with_precision_and_recall(outcomes: list[Outcome]) -> None:
    for answerable, taken in ((True, "answered"), (False, "abstained")):
        hits = sum(one.answerable is answerable and one.state == taken for one in outcomes)
        predicted = sum(one.state == taken for one in outcomes)
        true = sum(one.answerable is answerable for one in outcomes)
        found = f1(outcomes, answerable=answerable)
        if not predicted and not true:
            assert found is None
        elif not hits:
            assert found is not None
            assert found.value == 0
        else:
            precision, recall = hits / predicted, hits / true
            assert found is not None
            assert found.value == pytest.approx(2 * precision * recall / (precision + recall))


def test_an_unknown_faithfulness_makes_the_score_unknown_within_bounds() -> None:
    known = flow(right=6, wrong_answers=0, abstains=2, missed=0, faithfulness=0.5)
    found = figures([*known, *[Outcome(answerable=True, state="answered")] * 2])
    assert found.jafs is None
    assert found.unmeasured == 2
    assert found.jafs_bounds == (0.5, 0.7)


def test_the_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = [0.0, 1.0] * 200
    found = mean(values)
    assert found is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(400), rel=0.1)


def test_the_interval_is_the_same_every_time() -> None:
    outcomes = flow(right=6, wrong_answers=1, abstains=2, missed=1, faithfulness=0.5)
    assert figures(outcomes) == figures(outcomes)


def test_a_gain_is_paired() -> None:
    """Two flows that differ a little everywhere: their intervals overlap, and the paired one excludes 0."""
    values = [0.0, 1.0] * 100
    one = [Outcome(answerable=True, state="answered", faithfulness=value) for value in values]
    other = [
        Outcome(answerable=True, state="answered", faithfulness=max(0.0, value - 0.05)) for value in values
    ]
    gain = difference(one, other)
    assert gain is not None
    assert gain.value == pytest.approx(0.025)
    assert gain.low > 0
    assert difference(one, [Outcome(answerable=True, state="answered")] * 200) is None


def test_no_outcomes() -> None:
    with pytest.raises(ValueError, match="no outcomes"):
        figures([])
