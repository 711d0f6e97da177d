import itertools
from collections.abc import Callable, Sequence

import pytest

from zoo.activation import (
    ALORA_LEGACY,
    CONVENTIONS,
    LLAMA_SERVER,
    PEFT,
    SGLANG,
    TRANSFORMERS,
    VLLM,
    active_mask,
    invocation_start,
    matcher_agrees,
    occurrences,
)

ALPHABET = (0, 1)
INVOCATIONS = [list(p) for n in (1, 2, 3) for p in itertools.product(ALPHABET, repeat=n)]
ROWS = [list(p) for n in range(1, 9) for p in itertools.product(ALPHABET, repeat=n)]


def peft_starts(rows: list[list[int]], invocation: list[int]) -> list[int | None]:
    """PEFT's own search, on rows of one length."""
    import torch
    from peft import LoraConfig
    from peft.tuners.lora.variants import calculate_alora_offsets

    config = LoraConfig(task_type="CAUSAL_LM", alora_invocation_tokens=invocation)
    # upstream's annotations say less than its code does
    find: Callable[..., Sequence[int | None]] = calculate_alora_offsets
    offsets = find({"a": config}, "a", torch.tensor(rows))
    return [None if offset is None else len(rows[0]) - offset for offset in offsets]


@pytest.mark.parametrize("invocation", INVOCATIONS, ids=str)
def test_the_rule_is_pefts_on_every_short_row(invocation: list[int]) -> None:
    for _, group in itertools.groupby(ROWS, key=len):
        rows = list(group)
        assert [invocation_start(row, invocation) for row in rows] == peft_starts(rows, invocation)


def test_the_comparison_with_peft_tells_the_first_occurrence_from_the_last() -> None:
    row = [1, 0, 1, 0]
    assert peft_starts([row], [1, 0]) == [2]
    assert occurrences(row, [1, 0])[0] != invocation_start(row, [1, 0])


def test_overlapping_occurrences_all_count() -> None:
    assert occurrences([7, 7, 7, 7], [7, 7]) == [0, 1, 2]
    assert invocation_start([7, 7, 7, 7], [7, 7]) == 2


@pytest.mark.parametrize(
    ("row", "mask"),
    [
        ([5, 1, 2, 3], [False, True, True, True]),
        ([1, 2, 3, 9], [True, True, True, True]),
        ([1, 9, 2, 3], [False, False, False, False]),
        ([1, 2, 1, 2], [False, False, True, True]),
        ([], []),
    ],
)
def test_active_from_the_first_token_of_the_last_occurrence(row: list[int], mask: list[bool]) -> None:
    assert active_mask(row, [1, 2]) == mask


def test_what_each_engine_makes_of_the_same_row() -> None:
    row = [9, 9, 1, 2, 3]
    assert active_mask(row, [1, 2], PEFT) == [False, False, True, True, True]
    assert active_mask(row, [1, 2], LLAMA_SERVER) == [False, True, True, True, True]
    assert active_mask(row, [1, 2], ALORA_LEGACY) == [False, False, False, True, True]
    assert active_mask(row, [1, 2], TRANSFORMERS) == [False] * 5
    assert active_mask(row, [1, 2], SGLANG) == [True] * 5
    with pytest.raises(ValueError, match="refuses"):
        active_mask(row, [1, 2], VLLM)


def test_llama_server_cannot_start_before_the_row() -> None:
    assert active_mask([1, 2], [1, 2], LLAMA_SERVER) == [True, True]


def server_start(row: list[int], invocation: list[int]) -> int | None:
    mask = active_mask(row, invocation, LLAMA_SERVER)
    return mask.index(True) if any(mask) else None


def test_llama_server_finds_nothing_that_is_not_there_and_misses_some_that_is() -> None:
    pairs = [(row, invocation) for invocation in INVOCATIONS for row in ROWS]
    assert all(occurrences(row, inv) for row, inv in pairs if server_start(row, inv) is not None)
    assert any(server_start(row, inv) is None for row, inv in pairs if occurrences(row, inv))


def test_where_the_matcher_agrees_only_an_end_of_the_invocation_after_it_hides_it() -> None:
    agreeing = [invocation for invocation in INVOCATIONS if matcher_agrees(invocation)]
    assert [1, 0] in agreeing
    assert [1, 1] not in agreeing
    hidden = 0
    for row, invocation in itertools.product(ROWS, agreeing):
        start = invocation_start(row, invocation)
        if start is None or server_start(row, invocation) == max(0, start - 1):
            continue
        after = row[start + len(invocation) :]
        assert any(after[: len(invocation) - k] == invocation[k:] for k in range(1, len(invocation)))
        hidden += 1
    assert hidden


def test_llama_server_misses_an_invocation_followed_by_its_last_token() -> None:
    """Measured against the running server: `…check` + newline + newline leaves the adapter off."""
    assert not any(active_mask([4, 1, 5875, 198, 198], [1, 5875, 198], LLAMA_SERVER))
    assert any(active_mask([4, 1, 5875, 198, 7], [1, 5875, 198], LLAMA_SERVER))


@pytest.mark.parametrize("call", [occurrences, invocation_start, active_mask])
def test_an_empty_invocation_is_an_error_and_not_everywhere(call: object) -> None:
    with pytest.raises(ValueError, match="empty"):
        call([1, 2], [])  # type: ignore[operator]
    with pytest.raises(ValueError, match="empty"):
        active_mask([1], [], LLAMA_SERVER)
    with pytest.raises(ValueError, match="empty"):
        matcher_agrees([])


def test_every_convention_says_where_it_was_read() -> None:
    assert all(convention.source and convention.versions for convention in CONVENTIONS)
    assert len({(c.engine, c.versions) for c in CONVENTIONS}) == len(CONVENTIONS)
