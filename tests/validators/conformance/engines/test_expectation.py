import math

import pytest
import torch

from zoo.activation import LLAMA_SERVER, PEFT, VLLM, active_mask
from zoo.validators.conformance.engines.expectation import apart, candidates, distance, known_mask

EXPECTED = torch.log_softmax(torch.linspace(4, -8, 60), dim=-1)
WHOLE = dict(enumerate(EXPECTED.tolist()))
LIKELIEST = dict(list(WHOLE.items())[:30])


def test_an_answer_that_is_as_expected() -> None:
    assert distance(WHOLE, EXPECTED) == 0.0
    assert distance(LIKELIEST, EXPECTED) == 0.0
    assert apart(WHOLE, LIKELIEST) == 0.0


def test_the_largest_difference_counts() -> None:
    changed = LIKELIEST | {7: LIKELIEST[7] - 0.25}
    assert distance(changed, EXPECTED) == pytest.approx(0.25, abs=1e-6)
    assert apart(changed, WHOLE) == pytest.approx(0.25, abs=1e-6)


def test_a_likely_token_that_is_left_out_differs_by_at_least_what_it_must() -> None:
    without = {number: value for number, value in LIKELIEST.items() if number != 1}
    bound = WHOLE[1] - min(without.values())
    assert bound > 1
    assert distance(without, EXPECTED) == pytest.approx(bound, abs=1e-5)
    assert apart(without, WHOLE) == apart(WHOLE, without) == pytest.approx(bound, abs=1e-5)
    unlikely = {number: value for number, value in LIKELIEST.items() if number != 29}
    assert distance(unlikely, EXPECTED) == 0.0


@pytest.mark.parametrize(
    "answer",
    [{}, {0: -0.1}, WHOLE | {60: -1.0}, WHOLE | {-1: -1.0}, WHOLE | {3: math.nan}, WHOLE | {3: math.inf}],
    ids=["nothing", "too little", "no such id", "a negative id", "nan", "inf"],
)
def test_an_answer_that_cannot_be_compared(answer: dict[int, float]) -> None:
    assert distance(answer, EXPECTED) == math.inf


def test_impossible_tokens_do_not_count() -> None:
    # a float32 softmax cannot tell a probability of e^-50 from one of e^-90
    low = EXPECTED.clone()
    low[59] = -50.0
    assert distance(dict(enumerate(low.tolist())) | {59: -90.0}, low) == 0.0


def test_masks() -> None:
    found = candidates([9, 1, 2, 5], [1, 2])
    assert list(found.values()) == [
        [False, True, True, True],
        [True, True, True, True],
        [False, False, True, True],
        [False] * 4,
        [True] * 4,
    ]
    assert not any(mask[0] for name, mask in candidates([9, 9], [1, 2]).items() if "plain" not in name)
    assert known_mask([9, 9, 1, 2], [1, 2], LLAMA_SERVER) == [False, True, True, True]
    assert known_mask([9, 9, 1, 2], [1, 2], VLLM) == active_mask([9, 9, 1, 2], [1, 2], PEFT)
