import math
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from tests.conftest import INVOCATION_TEXT
from zoo.errors import ContractError
from zoo.evaluation.answers import answer_all
from zoo.models import BaseModel, load_model
from zoo.prompts import Prompter
from zoo.training.dataset import Encoded
from zoo.training.metric import DECODED, Metric, balanced, closed, decides, mean_loss, structured
from zoo.training.prefix import PrefixStore, answer_loss

YES, NO = (9, 2), (11, 12, 2)


@pytest.fixture
def model(tiny_base: BaseModel) -> PeftModel:
    torch.manual_seed(0)
    ids = list(Prompter(tiny_base).encode(INVOCATION_TEXT))
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=2,
        target_modules=["q_proj"],
        alora_invocation_tokens=ids,
        init_lora_weights=False,
    )
    made = get_peft_model(load_model(tiny_base), config).eval()
    assert isinstance(made, PeftModel)
    return made


def samples(answers: list[tuple[int, ...]]) -> list[Encoded]:
    return [
        Encoded(line=i, prefix=tuple(range(5, 12 + i % 5)), lead=(1, 20 + i), answer=answer)
        for i, answer in enumerate(answers)
    ]


def test_balanced_accuracy_is_worth_no_more_than_guessing_for_the_commonest_answer() -> None:
    expected = [YES] * 8 + [NO] * 2
    assert balanced([YES] * 10, expected) == 0.5
    assert balanced(expected, expected) == 1.0
    assert balanced([YES] * 8 + [YES, NO], expected) == 0.75


def test_a_closed_look_agrees_with_the_evaluation_and_the_training_loss(model: PeftModel) -> None:
    store = PrefixStore(model, samples([YES, NO, YES, YES, NO, YES]))
    expected = [sample.answer for sample in store.samples]
    values, loss = closed(store, [YES, NO])
    given = answer_all(store, [YES, NO])
    assert values["accuracy"] == sum(a == b for a, b in zip(given, expected, strict=True)) / 6
    assert values["balanced_accuracy"] == balanced(given, expected)
    with torch.no_grad():
        tokens = sum(map(len, expected))
        assert loss == pytest.approx(float(answer_loss(store, range(6))) / tokens, rel=1e-5)
    assert mean_loss(store) == pytest.approx(loss, rel=1e-5)


def test_the_metric_decides_where_samples_are_many_and_the_loss_where_they_are_few(
    model: PeftModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    metric = Metric.of([YES, NO] * 4, lambda ids: "")
    store = PrefixStore(model, samples([YES, NO, YES]))
    few = metric.look(store)
    assert next(iter(few.values)) == "loss"
    assert few.rank == (-few.values["loss"], few.values["balanced_accuracy"])
    monkeypatch.setattr("zoo.training.metric.DECISIVE", 3)
    many = metric.look(store)
    assert next(iter(many.values)) == "balanced_accuracy"
    assert many.values == few.values
    assert many.rank == few.rank[::-1]


def test_replies_are_compared_as_structures() -> None:
    expected = ['{"part": "fuel line", "p": 0.5}', '{"part": "spark plug", "p": 0.25}']
    given = ['{"p": 0.50, "part": "fuel line"}', '{"part": "spark plug", "p": 0.3}']
    assert structured(given, expected) == {"field_match": 0.75, "exact_match": 0.5, "structured": 1.0}
    broken = ['{"part": "fuel line", "p": 0.5', '{"part": "spark plug"}']
    assert structured(broken, expected) == {"field_match": 0.25, "exact_match": 0.0, "structured": 0.0}
    assert structured(["[" * 100_000, "7"], expected)["structured"] == 0.0


def test_other_answers_are_compared_as_text() -> None:
    assert structured(["the engine ", "7"], ["the engine", "8"]) == {"exact_match": 0.5}


def test_a_contract_reads_replies_its_own_way() -> None:
    def read(text: str, line: int) -> Any:
        if not text.startswith("ok"):
            raise ContractError("no", code="ZO110")
        return {"value": text.removeprefix(f"ok{line}-")}

    found = structured(["ok3-1", "2"], ["ok3-1", "ok4-2"], read, lines=[3, 4])
    assert found == {"field_match": 0.5, "exact_match": 0.5, "structured": 0.5}


def test_an_open_task_is_decoded_for_some_samples_and_its_loss_taken_of_all(
    model: PeftModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[tuple[int, ...]] = [(30 + i, 31 + i, 2) for i in range(DECODED + 4)]
    store = PrefixStore(model, samples(answers))
    metric = Metric.of(answers, lambda ids: " ".join(map(str, ids)))
    assert metric.options is None
    decoded: list[int] = []

    def answer(part: PrefixStore, options: object) -> list[tuple[int, ...]]:
        decoded.append(len(part.samples))
        assert torch.equal(part.pieces([3])[0][0][0][0], store.pieces([3])[0][0][0][0])
        return [sample.answer for sample in part.samples]

    monkeypatch.setattr("zoo.training.metric.answer_all", answer)
    look = metric.look(store)
    assert decoded == [DECODED]
    assert look.values["exact_match"] == 1.0
    assert math.isclose(look.values["loss"], mean_loss(store))


def test_open_answers_are_decoded_for_too_few_samples_to_choose_by() -> None:
    assert decides([YES, NO], 100)
    assert not decides([YES, NO], 99)
    assert not decides(None, 1000)
