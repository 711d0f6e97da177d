from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from zoo.inference import attention
from zoo.inference.continuation import Continuation, Growing
from zoo.inference.fixed_cache import LONGEST, FixedCache, round_up
from zoo.inference.merged import shell
from zoo.inference.prefix import Prefix
from zoo.inference.shared_base import SharedBase
from zoo.models import BaseModel, load_model

Family = Callable[[str], tuple[BaseModel, Path]]
PREFIX = [3 + (7 * i) % 390 for i in range(40)]
SUFFIX = [5, 9, 300, 41, 77]


@pytest.fixture
def shared(family: Family) -> SharedBase:
    base, _ = family("llama")
    return SharedBase(base, load_model(base))


def played(continuation: Continuation, shared: SharedBase, prefix: Prefix, room: int = 64) -> torch.Tensor:
    """Logits of a suffix, of decode steps, and of several tokens at once after them."""
    model = shell(shared.model)
    if isinstance(continuation, FixedCache):
        model.config._attn_implementation = attention.register()
    continuation.begin(prefix, room=room)
    calls = [SUFFIX, [8], [9], SUFFIX * 4, [10]]
    return torch.cat([continuation.step(model, ids, last=False).clone() for ids in calls])


@pytest.mark.parametrize("padded", [False, True])
def test_fixed_memory_gives_what_a_growing_cache_gives(shared: SharedBase, padded: bool) -> None:
    fixed = FixedCache(shared.model, padded=padded, captured=False)
    for length in (40, 3, 17):
        prefix = shared.prefill(PREFIX[:length])
        wanted = played(Growing(), shared, prefix)
        assert torch.allclose(played(fixed, shared, prefix), wanted, atol=1e-4)


def test_only_the_last_logits_are_the_last_row(shared: SharedBase) -> None:
    model = shell(shared.model)
    model.config._attn_implementation = attention.register()
    for padded in (False, True):
        fixed = FixedCache(shared.model, padded=padded, captured=False)
        prefix = shared.prefill(PREFIX)
        fixed.begin(prefix, room=64)
        every = fixed.step(model, SUFFIX, last=False).clone()
        fixed.begin(prefix, room=64)
        last = fixed.step(model, SUFFIX, last=True)
        assert last.shape == (1, 400)
        assert torch.allclose(last[0], every[-1], atol=1e-5)


def test_a_call_too_long_to_be_padded_is_run_as_it_is(shared: SharedBase) -> None:
    model = shell(shared.model)
    model.config._attn_implementation = attention.register()
    ids, prefix = [3 + i % 390 for i in range(LONGEST + 3)], shared.prefill(PREFIX)
    growing, fixed = Growing(), FixedCache(shared.model, padded=True, captured=False)
    growing.begin(prefix, room=len(ids))
    fixed.begin(prefix, room=len(ids))
    wanted = growing.step(shell(shared.model), ids, last=False)
    assert torch.allclose(fixed.step(model, ids, last=False), wanted, atol=1e-4)


def test_a_prefix_lies_in_the_fixed_cache_bit_for_bit(shared: SharedBase) -> None:
    fixed = FixedCache(shared.model, padded=True, captured=False)
    for length in (40, 12, 30):
        prefix = shared.prefill(PREFIX[:length])
        played(fixed, shared, prefix)
        for mine, theirs in zip(fixed._layers, prefix.layers, strict=True):
            for a, b in zip(mine, theirs, strict=True):
                assert torch.equal(a[:, :, :length].view(torch.int32), b.view(torch.int32))


def test_what_lies_in_the_fixed_cache_is_not_copied_again(shared: SharedBase) -> None:
    fixed = FixedCache(shared.model, padded=False, captured=False)
    prefix = shared.prefill(PREFIX)
    played(fixed, shared, prefix)
    marker = fixed._layers[0][0]
    marker[0, 0, 5, 0] = 123.0  # would be overwritten by a copy
    played(fixed, shared, prefix)
    assert float(marker[0, 0, 5, 0]) == 123.0
    played(fixed, shared, shared.prefill([*PREFIX, 4]))
    assert float(marker[0, 0, 5, 0]) != 123.0


def test_memory_grows_when_a_prefix_needs_it(shared: SharedBase) -> None:
    fixed = FixedCache(shared.model, padded=True, captured=False)
    prefix = shared.prefill(PREFIX)
    wanted = played(fixed, shared, prefix)
    first = fixed._layers[0][0]
    played(fixed, shared, prefix, room=5000)
    assert fixed._layers[0][0].shape[2] > first.shape[2]
    assert torch.equal(played(fixed, shared, prefix), wanted)


def test_windows_are_wide_enough_and_little_wider() -> None:
    windows = [round_up(tokens) for tokens in range(1, 70_000)]
    assert all(window >= tokens for tokens, window in enumerate(windows, 1))
    assert all(window <= 1.125 * tokens + 128 for tokens, window in enumerate(windows, 1))
    assert len(set(windows)) < 70  # a graph each


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_captured_calls_give_what_a_growing_cache_gives(family: Family, dtype: str) -> None:
    base, _ = family("llama")
    shared = SharedBase(base, load_model(base, device="cuda", dtype=dtype))  # type: ignore[arg-type]
    fixed = FixedCache(shared.model, padded=True, captured=True)
    for length in (40, 3, 40, 700):
        prefix = shared.prefill((PREFIX * 20)[:length])
        wanted = played(Growing(), shared, prefix).float()
        for _ in range(2):
            found = played(fixed, shared, prefix).float()
            assert torch.allclose(found, wanted, atol=1e-4 if dtype == "float32" else 0.3)
