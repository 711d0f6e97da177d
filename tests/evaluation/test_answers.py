from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from tests.conftest import INVOCATION_TEXT
from zoo.evaluation.answers import accuracy, answer_all, choices, trivial_accuracy
from zoo.models import BaseModel, load_model
from zoo.peft_model import attach
from zoo.prompts import Prompter
from zoo.training.dataset import Encoded
from zoo.training.prefix import PrefixStore

YES, NO, OPEN = (11, 2), (12, 13, 2), (14, 15, 16, 17, 2)


@pytest.fixture
def model(tiny_base: BaseModel, make_adapter: Callable[..., Path]) -> PeftModel:
    ids = list(Prompter(tiny_base).encode(INVOCATION_TEXT))
    folder = make_adapter("alora", alora_invocation_tokens=ids)
    attached: PeftModel = attach(load_model(tiny_base), folder)
    return attached


@pytest.fixture
def samples(tiny_base: BaseModel) -> list[Encoded]:
    lead = Prompter(tiny_base).encode(INVOCATION_TEXT)
    prefixes = [tuple(range(20, 20 + n)) for n in (3, 9, 5, 14)]
    answers = (YES, NO, YES, OPEN)
    return [
        Encoded(line=n, prefix=prefix, lead=lead, answer=answer)
        for n, (prefix, answer) in enumerate(zip(prefixes, answers, strict=True), start=1)
    ]


def full_logits(model: PeftModel, ids: tuple[int, ...], *, adapted: bool) -> torch.Tensor:
    """PEFT's own full pass."""
    row = torch.tensor([ids])
    with torch.no_grad():
        if adapted:
            logits: torch.Tensor = model(input_ids=row).logits[0]
            return logits
        with model.disable_adapter():
            logits = model(input_ids=row).logits[0]
            return logits


def test_a_task_is_closed_when_its_answers_repeat() -> None:
    assert choices([YES, NO, YES, NO]) == sorted([YES, NO])
    assert choices([YES, NO, OPEN]) is None
    many = [(n, 2) for n in range(33)]
    assert choices(many * 4) is None
    assert choices(many[:32] * 4) is not None


@pytest.mark.parametrize("adapted", [True, False])
def test_a_closed_answer_is_the_likeliest_by_total_log_probability(
    model: PeftModel, samples: list[Encoded], adapted: bool
) -> None:
    options = [YES, NO, OPEN]
    given = answer_all(PrefixStore(model, samples), options, adapted=adapted)
    for sample, answer in zip(samples, given, strict=True):
        totals = []
        for option in options:
            logits = full_logits(model, sample.prefix + sample.lead + option, adapted=adapted)
            lines = logits[-len(option) - 1 : -1].log_softmax(-1)
            totals.append(float(lines[range(len(option)), list(option)].sum()))
        assert answer == options[totals.index(max(totals))]


def test_an_open_answer_is_decoded_greedily_with_the_adapter_on_every_new_token(
    model: PeftModel, samples: list[Encoded]
) -> None:
    given = answer_all(PrefixStore(model, samples), None)
    for sample, answer in zip(samples, given, strict=True):
        ids = sample.prefix + sample.lead
        expected: list[int] = []
        # twice as long as the answer that is expected and a little more: a longer one may be right in parts
        while len(expected) < 2 * len(sample.answer) + 8 and expected[-1:] != [sample.answer[-1]]:
            expected.append(int(full_logits(model, ids + tuple(expected), adapted=True)[-1].argmax()))
        assert answer == tuple(expected)


def test_adapter_and_base_answer_differently(model: PeftModel, samples: list[Encoded]) -> None:
    store = PrefixStore(model, samples)
    assert answer_all(store, None) != answer_all(store, None, adapted=False)


def test_shares() -> None:
    assert accuracy([YES, NO, NO], [YES, NO, YES]) == pytest.approx(2 / 3)
    assert trivial_accuracy([YES, NO, YES]) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="2 answers for 1"):
        accuracy([YES, NO], [YES])
    with pytest.raises(ValueError, match="0 answers"):
        accuracy([], [])
