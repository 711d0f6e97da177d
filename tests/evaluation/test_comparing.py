from itertools import pairwise

import pytest

from zoo.evaluation.comparing import Columns, by_length, compare
from zoo.training.dataset import Encoded


def samples(lengths: list[int]) -> list[Encoded]:
    return [
        Encoded(line=line, prefix=(5,) * length, lead=(1,), answer=(7, 2), group=f"g{line // 2}")
        for line, length in enumerate(lengths)
    ]


def test_bins_hold_enough_and_keep_one_length_together() -> None:
    found = samples([number % 40 for number in range(200)])
    bins = by_length(found)
    assert sorted(row for rows in bins for row in rows) == list(range(200))
    assert len(bins) == 4
    assert all(len(rows) >= 20 for rows in bins)
    lengths = [{len(found[row].prefix) for row in rows} for rows in bins]
    assert all(max(one) < min(other) for one, other in pairwise(lengths))


@pytest.mark.parametrize("lengths", [[9] * 200, list(range(19)), [1] * 199 + [2]])
def test_what_cannot_be_divided_is_one_bin(lengths: list[int]) -> None:
    assert [len(rows) for rows in by_length(samples(lengths))] == [len(lengths)]


def test_a_loss_on_long_contexts_shows_in_their_bin() -> None:
    found = samples([10] * 50 + [90] * 50)
    right, wrong = [1.0] * 100, [1.0] * 50 + [0.0] * 50
    columns = Columns(
        samples=found,
        metric="accuracy",
        scores={"base": wrong, "lora": right, "relabelled": wrong, "recovered": wrong},
        agreement={"base": wrong, "lora": right, "relabelled": wrong, "recovered": wrong},
    )
    made = compare(columns, boundary=[], stopped="at step 9 of 90", settled=True)
    short, long = made.lengths
    assert (short.shortest, short.longest, short.samples, short.difference.value) == (10, 10, 50, 0.0)
    assert (long.shortest, long.difference.value) == (90, -1.0)
    assert made.differences["recovered-lora"].value == -0.5
    assert made.differences["recovered-base"].value == 0.0
    assert made.verdict == "degraded"
