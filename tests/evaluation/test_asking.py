"""What replies are worth, of each kind of answer; the replies themselves are given."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import INVOCATION_TEXT
from zoo.errors import RefusedError
from zoo.evaluation import asking
from zoo.evaluation.asking import Asked, MetricName, ask
from zoo.models import BaseModel
from zoo.prompts import Invocation, Prompter
from zoo.specs.release import Position
from zoo.training.dataset import Sample, read_dataset

Ask = Callable[..., Asked]


@pytest.fixture
def asked(tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Asks samples with the given answers, to which the given replies come: free, then among the options."""
    prompter = Prompter(tiny_base)

    def run(
        answers: Sequence[str], replies: Sequence[str], *, ends: bool = True, metric: MetricName | None = None
    ) -> Asked:
        end = prompter.end_ids if ends else ()
        given = [prompter.encode(reply) + end for reply in replies]

        def answer_all(store: object, options: object, **_: Any) -> list[tuple[int, ...]]:
            return given

        monkeypatch.setattr(asking, "answer_all", answer_all)
        monkeypatch.setattr(asking, "PrefixStore", lambda model, samples: samples)
        ids = prompter.encode(INVOCATION_TEXT)
        invocation = Invocation(text=INVOCATION_TEXT, ids=ids, position=Position.AFTER_PROMPT)
        model: Any = None
        samples = _samples(tmp_path, answers)
        return ask(model, samples, prompter, invocation, contract=None, metric=metric, name="data")

    return run


def _samples(folder: Path, answers: Sequence[str]) -> Sequence[Sample]:
    path = folder / "data.jsonl"
    lines = [
        {"messages": [{"role": "user", "content": f"question {n}"}], "answer": answer}
        for n, answer in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_dataset(path).samples


def test_closed_answers_are_balanced_over_what_is_expected(asked: Ask) -> None:
    found = asked(["yes", "yes", "yes", "no"], ["yes", "yes", "yes", "yes"])
    assert found.metric == "balanced_accuracy"
    assert list(found.scores) == [1, 1, 1, 0]
    assert sorted(found.strata) == ["no", "yes", "yes", "yes"]
    assert list(found.trivial) == [1, 1, 1, 0]
    assert list(found.well_formed) == [1, 1, 1, 1]


def test_plain_accuracy_is_measured_where_the_policy_wants_it(asked: Ask) -> None:
    found = asked(["yes", "yes", "no", "no"], ["yes"] * 4, metric="accuracy")
    assert found.metric == "accuracy"
    assert not found.strata
    with pytest.raises(RefusedError) as refused:
        asked(["one", "two", "three", "four"], ["one"] * 4, metric="accuracy")
    assert refused.value.code == "ZG006"


def test_a_reply_that_is_none_of_the_answers_is_not_well_formed(asked: Ask) -> None:
    found = asked(["yes", "yes", "no", "no"], ["yes", "well, yes", "no", "No"])
    assert list(found.well_formed) == [1, 0, 1, 0]
    assert list(asked(["yes", "yes", "no", "no"], ["yes"] * 4, ends=False).well_formed) == [0] * 4


def test_objects_are_measured_by_their_fields(asked: Ask) -> None:
    answers = [json.dumps({"a": n, "b": "x"}) for n in range(4)]
    replies = [answers[0], json.dumps({"a": 9, "b": "x"}), json.dumps({"a": 2}), "not JSON"]
    found = asked(answers, replies)
    assert found.metric == "field_match"
    assert list(found.scores) == [1, 0.5, 0.5, 0]
    assert list(found.well_formed) == [1, 1, 0, 0]
    assert sum(found.trivial) == pytest.approx(1 + 3 * 0.5)  # any of them: its own, and every b


def test_texts_are_measured_word_for_word_and_have_to_end(asked: Ask) -> None:
    answers = ["one", "two", "three", "four"]
    found = asked(answers, ["one", "two", "3", "four "])
    assert found.metric == "exact_match"
    assert list(found.scores) == [1, 1, 0, 1]
    assert list(found.well_formed) == [1] * 4
    assert list(asked(answers, answers, ends=False).well_formed) == [0] * 4
