from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from tests.conftest import INVOCATION_TEXT
from zoo.evaluation.answers import answer_all
from zoo.evaluation.boundary import (
    CONTEXT_ALONE,
    EARLIER,
    HALF,
    INVOCATION,
    LAST,
    MOVED,
    WHOLE,
    Places,
    begin_at,
    teach,
)
from zoo.evaluation.comparing import LORA, RECOVERED
from zoo.evaluation.recovered import Measured
from zoo.models import BaseModel, load_model
from zoo.peft_model import attach, forward
from zoo.prompts import Prompter
from zoo.training.dataset import Encoded
from zoo.training.metric import Metric
from zoo.training.prefix import PrefixStore, answer_logits

YES, NO = (11, 2), (12, 13, 2)
ACTIVE = {WHOLE: 43, HALF: 23, EARLIER: 19, INVOCATION: 3, LAST: 1}  # of 43 tokens of prompt


@pytest.fixture
def model(tiny_base: BaseModel, make_adapter: Callable[..., Path]) -> PeftModel:
    ids = list(Prompter(tiny_base).encode(INVOCATION_TEXT))
    return attach(load_model(tiny_base), make_adapter("alora", alora_invocation_tokens=ids)).eval()


@pytest.fixture
def sample() -> Encoded:
    return Encoded(line=1, prefix=tuple(range(20, 60)), lead=(70, 71, 72), answer=NO)


@pytest.mark.parametrize(("start", "active"), ACTIVE.items())
def test_the_adapter_acts_from_there_on_and_nowhere_before(
    model: PeftModel, sample: Encoded, start: str, active: int
) -> None:
    """Against PEFT's own pass with that many tokens at the end of the prompt adapted."""
    moved = begin_at(sample, start)
    assert moved.prefix + moved.lead == sample.prefix + sample.lead
    assert len(moved.lead) == active
    ids = torch.tensor([sample.prefix + sample.lead + sample.answer[:-1]])
    with torch.no_grad():
        found = answer_logits(PrefixStore(model, [moved]), [0])[0]
        expected, beside = (
            forward(model, ids, offsets=[active + len(sample.answer) - 1 + more])[0, -len(sample.answer) :]
            for more in (0, 1 if active < len(ids[0]) - len(sample.answer) + 1 else -1)
        )
    assert torch.allclose(found, expected, atol=1e-5)
    assert not torch.allclose(found, beside, atol=1e-4)  # one token more or less is another function


def test_a_short_context_has_no_more_to_begin_at() -> None:
    short = Encoded(line=1, prefix=(5, 6), lead=(7,), answer=YES)
    assert begin_at(short, EARLIER) == begin_at(short, WHOLE)
    assert begin_at(short, LAST) == begin_at(short, INVOCATION) == short


def test_the_ends_of_the_sweep_are_the_lora_and_the_relabelled_adapter(model: PeftModel) -> None:
    samples = [
        Encoded(line=n, prefix=tuple(range(20, 21 + n)), lead=(70, 71, 72), answer=(YES, NO)[n % 2])
        for n in range(40)
    ]
    whole, alone = teach(model, samples, None, alone=True)
    places = Places(model, samples, [5, 39])
    relabelled = answer_all(places.own, None)
    assert whole == ends(model, samples, WHOLE)
    assert relabelled == ends(model, samples, INVOCATION)
    for start, given in places.sweep(None, MOVED).items():
        assert given == ends(model, [samples[5], samples[39]], start)
    assert len(alone) == len(whole) == 40
    assert len({str(one) for one in (whole, alone, relabelled)}) == 3


def ends(model: PeftModel, samples: list[Encoded], start: str) -> list[tuple[int, ...]]:
    return answer_all(PrefixStore(model, [begin_at(sample, start) for sample in samples]), None)


def test_every_place_is_asked_once_and_the_samples_are_spread_over_the_file(model: PeftModel) -> None:
    samples = [
        Encoded(line=n, prefix=tuple(range(20, 24 + n % 9)), lead=(70, 71, 72), answer=(YES, NO)[n % 2])
        for n in range(90)
    ]
    measured = Measured(model, samples=samples, metric=Metric(options=[YES, NO], decode=str))
    measured.teach()
    measured.before()
    measured.after()
    asked = [(point.weights, point.start) for point in measured.points]
    assert asked == [
        *((LORA, start) for start in (WHOLE, HALF, EARLIER, INVOCATION, LAST, CONTEXT_ALONE)),
        *((RECOVERED, start) for start in (EARLIER, INVOCATION, LAST)),
    ]
    assert {point.samples for point in measured.points} == {64}
    assert measured.points[0].agreement == 1.0
    # the same weights before and after: what differs is only whose they are called
    pairs = zip(measured.points[2:5], measured.points[6:], strict=True)
    assert all((one.score, one.agreement) == (two.score, two.agreement) for one, two in pairs)
