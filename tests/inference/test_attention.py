from typing import Any

import pytest
import torch

from zoo.errors import DefectError
from zoo.inference import attention

SCALE = 0.35


def mathematically(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, scale: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the GPU's kernel computes, by definition: results and log-sum-exp, in float64."""
    assert scale is not None
    scores = query.double() @ key.double().transpose(-1, -2) * scale + mask.double()
    return (scores.softmax(-1) @ value.double()).to(query.dtype), scores.logsumexp(-1).float()


def definition(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, start: int) -> torch.Tensor:
    """Each query head by itself, each token by itself, over the slots up to its own."""
    heads, tokens = query.shape[1:3]
    made = torch.empty(1, tokens, heads, value.shape[3])
    for head in range(heads):
        shared = head * key.shape[1] // heads
        for token in range(tokens):
            seen = slice(0, start + token + 1)
            scores = key[0, shared, seen].double() @ query[0, head, token].double() * SCALE
            made[0, token, head] = (scores.softmax(0) @ value[0, shared, seen].double()).float()
    return made


def tensors(heads: int, shared: int, tokens: int, window: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, heads, tokens, 8), (1, shared, window, 8), (1, shared, window, 8)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("tokens", [1, 5])
def test_packed_heads_attend_as_the_definition_says(heads: int, shared: int, tokens: int) -> None:
    query, key, value = tensors(heads, shared, tokens, 64)
    slots = torch.arange(20, 20 + tokens)
    mask = attention.packed_mask(slots, 64, heads_shared=heads // shared, dtype=torch.float32)
    found, _ = attention.attend(None, query, key, value, mask, scaling=SCALE)
    assert torch.allclose(found, definition(query, key, value, 20), atol=1e-5)
    assert not torch.allclose(found, definition(query, key, value, 21), atol=1e-2)


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize("start", [3, 60, 200])  # with the first, most parts hold nothing that is visible
def test_parts_join_to_the_whole(count: int, start: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "partial", mathematically)
    query, key, value = tensors(2, 2, 4, 256)
    mask = attention.packed_mask(torch.arange(start, start + 4), 256, heads_shared=1, dtype=torch.float32)
    whole = attention.in_parts(query, key, value, mask, count=1, scale=SCALE)
    joined = attention.in_parts(query, key, value, mask, count=count, scale=SCALE)
    assert torch.allclose(joined, whole, atol=1e-5)
    assert joined.transpose(1, 2) == pytest.approx(definition(query, key, value, start), abs=1e-5)


def test_parts_joined_without_their_weights_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    def unweighted(*given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        mixed, level = mathematically(*given)
        return mixed, torch.zeros_like(level)

    query, key, value = tensors(2, 2, 4, 256)
    mask = attention.packed_mask(torch.arange(200, 204), 256, heads_shared=1, dtype=torch.float32)
    whole = attention.in_parts(query, key, value, mask, count=1, scale=SCALE)
    monkeypatch.setattr(attention, "partial", unweighted)
    assert not torch.allclose(
        attention.in_parts(query, key, value, mask, count=4, scale=SCALE), whole, atol=0.1
    )


@pytest.mark.parametrize("window", [512, 640, 896, 1024, 1280, 18432, 65536])
def test_a_window_is_cut_into_aligned_parts(window: int) -> None:
    count = attention.parts(64, window)
    assert count > 1
    assert window % count == 0
    assert window // count % 8 == 0
    assert window // count >= attention.SHORTEST_PART
    assert attention.parts(2048, window) == 1


@pytest.mark.parametrize("name", ["softcap", "s_aux", "sliding_window"])
def test_an_attention_of_another_kind_is_refused(name: str) -> None:
    query, key, value = tensors(2, 2, 1, 8)
    with pytest.raises(DefectError, match=name):
        attention.attend(None, query, key, value, torch.zeros(1, 1, 1, 8), scaling=SCALE, **{name: 4})
