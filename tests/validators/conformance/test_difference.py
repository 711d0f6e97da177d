import math

import pytest

from zoo.validators.conformance.difference import UNKNOWN, ZERO, Difference, difference, same_bits, worst
from zoo.validators.conformance.kv import first_difference
from zoo.validators.conformance.stepping import chunkings, padded, positions
from zoo.validators.conformance.tolerance import Noise


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_never_within_any_tolerance(bad: float) -> None:
    import torch

    clean, spoilt = torch.tensor([1.0, 2.0]), torch.tensor([1.0, bad])
    for one, other in ((clean, spoilt), (spoilt, clean), (spoilt, spoilt)):
        assert difference(one, other) == UNKNOWN
        assert not difference(one, other).within(math.inf)
        assert not same_bits(one, other).all()


def test_nan_slips_through_the_comparison_that_is_not_used() -> None:
    import torch

    gap = (torch.tensor([float("nan")]) - 1.0).abs().max()
    assert not bool(gap > 1e-4)  # "no difference above the tolerance": the trap


def test_differences_are_what_they_say() -> None:
    import torch

    found = difference(torch.tensor([0.0, 3.0]), torch.tensor([4.0, 3.0]))
    assert found.max_abs == 4.0
    assert math.isclose(found.rms, math.sqrt(8))
    assert found.within(4.0)
    assert not found.within(3.9)
    assert difference(torch.empty(0), torch.empty(0)) == ZERO
    assert worst([found, ZERO]) == found
    assert worst([]) == ZERO
    with pytest.raises(ValueError, match="cannot be compared"):
        difference(torch.zeros(1, 2), torch.zeros(2))


def test_bits_tell_apart_what_equality_does_not() -> None:
    import torch

    assert not same_bits(torch.tensor([0.0]), torch.tensor([-0.0])).any()
    half = torch.tensor([1.0], dtype=torch.bfloat16)
    assert same_bits(half, half.clone()).all()
    with pytest.raises(ValueError, match="differ in kind"):
        same_bits(half, half.float())


def test_the_first_kv_difference_is_found_with_its_place_and_the_largest_size() -> None:
    import torch

    def layers() -> list[tuple[torch.Tensor, torch.Tensor]]:
        return [(torch.zeros(1, 2, 5, 3), torch.zeros(1, 2, 5, 3)) for _ in range(3)]

    ours, theirs = layers(), layers()
    assert first_difference(ours, theirs) is None
    ours[1][1][0, 1, 3, 2] = 0.25
    ours[2][0][0, 0, 0, 0] = -2.0
    found = first_difference(ours, theirs)
    assert found is not None
    assert (found.layer, found.part, found.position, found.max_abs, found.layers) == (1, "value", 3, 2.0, 2)
    assert str(found) == "first in layer 1 (value) at position 3; 2 layers differ, by up to 2"
    theirs[1][1].fill_(float("nan"))
    ours[1][1].fill_(float("nan"))
    found = first_difference(ours, theirs)
    assert found is not None
    assert (found.layer, found.position, found.max_abs) == (1, 0, math.inf)
    with pytest.raises(ValueError, match="layers"):
        first_difference(ours, theirs[:2])


@pytest.mark.parametrize("length", [1, 2, 3, 16, 17, 100])
def test_chunkings_cover_every_token(length: int) -> None:
    ways = chunkings(length)
    assert ways
    assert all(sum(sizes) == length and 0 not in sizes for sizes in ways.values())


def test_padding_and_positions() -> None:
    import torch

    ids, mask = padded([[5, 6, 7], [8]], pad_id=0, left=True)
    assert (ids, mask) == ([[5, 6, 7], [0, 0, 8]], [[1, 1, 1], [0, 0, 1]])
    assert positions(torch.tensor(mask)).tolist() == [[0, 1, 2], [0, 0, 0]]
    ids, mask = padded([[5, 6, 7], [8]], pad_id=0, left=False)
    assert (ids, mask) == ([[5, 6, 7], [8, 0, 0]], [[1, 1, 1], [1, 0, 0]])


def test_tolerances_follow_the_bases_noise() -> None:
    import torch

    quiet = Noise.of(Difference(max_abs=0.0, rms=0.0), scale=10.0, dtype=torch.float32)
    assert quiet.parity == 1e-4
    assert 0 < quiet.level < 1e-5  # never zero: a multiple of nothing would forbid everything
    loud = Noise.of(Difference(max_abs=3e-4, rms=0.0), scale=10.0, dtype=torch.float32)
    assert loud.parity == 3e-4
    assert loud.other_shape == 16 * 3e-4
    half = Noise.of(Difference(max_abs=0.5, rms=0.1), scale=10.0, dtype=torch.bfloat16)
    assert (half.parity, half.other_shape) == (0.5, 2.0)
