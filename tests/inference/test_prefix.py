import torch
from hypothesis import given
from hypothesis import strategies as st

from zoo.inference.prefix import CachedSequence, PrefixCache, common_length

TOKEN_BYTES = 2 * 2 * 4 * 4  # keys and values of 2 heads of 4 float32


def sequence(*ids: int) -> CachedSequence:
    part = torch.zeros(1, 2, len(ids), 4)
    return CachedSequence(ids=ids, layers=[(part, part)])


@given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
def test_the_common_length_is_the_longest_common_start(first: list[int], second: list[int]) -> None:
    length = common_length(first, second)
    assert first[:length] == second[:length]
    assert length == min(len(first), len(second)) or first[length] != second[length]


def test_the_longest_prefix_is_found() -> None:
    held = PrefixCache(10**6)
    for one in (sequence(1, 2, 3), sequence(1, 2, 9, 9), sequence(5)):
        held.hold(one)
    found = held.longest((1, 2, 9, 4))
    assert found
    assert (found.ids, found.length, len(found)) == ((1, 2, 9), 3, 3)
    assert found.layers[0][0].shape == (1, 2, 3, 4)
    assert held.longest((7,)) is None


def test_a_continuation_takes_the_place_of_what_it_continues() -> None:
    held = PrefixCache(10**6)
    held.hold(sequence(1, 2))
    held.hold(sequence(1, 2, 3))
    assert held.nbytes == 3 * TOKEN_BYTES
    held.hold(sequence(1, 2, 4))
    assert held.nbytes == 6 * TOKEN_BYTES


def test_the_least_recently_used_goes_first_and_the_budget_holds() -> None:
    held = PrefixCache(5 * TOKEN_BYTES)
    held.hold(sequence(1, 1))
    held.hold(sequence(2, 2))
    assert held.longest((1, 1))
    held.hold(sequence(3, 3))
    assert held.nbytes == 4 * TOKEN_BYTES
    assert held.longest((2, 2)) is None
    assert held.longest((1, 1))
    held.hold(sequence(*range(100, 106)))  # more than the whole budget: not kept, and nothing goes for it
    assert held.longest((1, 1))
    assert held.longest((100,)) is None
