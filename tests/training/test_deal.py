import random
from collections import Counter

import pytest

from zoo.training.deal import LANES, Deal, portion

EPOCHS = 6


def prefixes(count: int) -> list[tuple[int, ...]]:
    """Documents under several questions each, in no order."""
    source = random.Random(count)
    return [(source.randrange(1 + count // 5), *[7] * 20, source.randrange(9)) for _ in range(count)]


@pytest.mark.parametrize("count", [1, 5, 8, 13, 40, 403])
@pytest.mark.parametrize("lanes", [1, 8])
def test_every_epoch_has_every_sample_once_and_an_order_of_its_own(count: int, lanes: int) -> None:
    deal = Deal.of(prefixes(count), lanes=lanes)
    drawn = [row for row, _ in deal.draw(0, EPOCHS * count, seed=3)]
    epochs = [drawn[begin : begin + count] for begin in range(0, len(drawn), count)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    if count >= 13:
        assert len({tuple(epoch) for epoch in epochs}) == EPOCHS
    assert drawn == [row for row, _ in deal.draw(0, EPOCHS * count, seed=3)]
    if count >= 5:
        assert drawn != [row for row, _ in deal.draw(0, EPOCHS * count, seed=4)]


@pytest.mark.parametrize("count", [5, 8, 13, 40, 403])
@pytest.mark.parametrize("processes", [2, 4, 8])
@pytest.mark.parametrize("batch", [4, 6, 16])
def test_every_step_is_divided_as_evenly_as_it_can_be(count: int, processes: int, batch: int) -> None:
    deal = Deal.of(prefixes(count))
    for step in range(EPOCHS * count // batch):
        rows = deal.draw(step * batch, batch, seed=0)
        given = Counter(deal.owner(lane, processes) for _, lane in rows)
        most = -(-batch // processes)
        # a step that is no whole number of rounds of the processes may give one a row more
        assert max(given.values()) <= most + (batch % processes > 0)


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_a_process_runs_only_what_it_holds_and_few_samples_are_held_twice(processes: int) -> None:
    deal = Deal.of(prefixes(403))
    held = [set(deal.held(index, processes)) for index in range(processes)]
    for row, lane in deal.draw(0, EPOCHS * 403, seed=1):
        assert row in held[deal.owner(lane, processes)]
    assert sum(map(len, held)) == 403 + (processes - 1) * (403 % LANES)
    assert set().union(*held) == set(range(403))


@pytest.mark.parametrize("processes", [2, 4, 8])
def test_prefixes_that_begin_alike_lie_together(processes: int) -> None:
    given = prefixes(400)
    homes = [{given[row][0] for row in Deal.of(given).held(index, processes)} for index in range(processes)]
    documents = {prefix[0] for prefix in given}
    twice = sum(map(len, homes)) - len(documents)
    assert twice <= processes - 1

    unsorted = [{given[row][0] for row in range(index, 400, processes)} for index in range(processes)]
    assert sum(map(len, unsorted)) - len(documents) > 20  # control: dealt without a look at the prefixes


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_portions_are_all_samples_once(processes: int) -> None:
    parts = [portion(prefixes(13), index, processes) for index in range(processes)]
    assert sorted(row for part in parts for row in part) == list(range(13))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_one_lane_is_a_plain_shuffle() -> None:
    order = list(range(10))
    random.Random("0/1").shuffle(order)
    assert [row for row, _ in Deal.plain(10).draw(10, 10, seed=0)] == order
