"""Every verdict on a real recovery: a LoRA that was taught, relabelled, and distilled."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import INVOCATION_TEXT
from tests.training.teaching import build_base, teach_lora, write_data
from zoo.evaluation.lines import behaviour_lines
from zoo.models import BaseModel
from zoo.prompts import Invocation, Prompter
from zoo.specs.comparison import Comparison
from zoo.specs.release import Position
from zoo.training.distil import Recovery, recover
from zoo.training.distil_settings import DistilSettings
from zoo.training.parts import DataSettings

Taught = tuple[BaseModel, Invocation, Path, Path]


def taught(folder: Path, *, blind: bool) -> Taught:
    base = build_base(folder / "base", blind=blind)
    ids = Prompter(base).encode(INVOCATION_TEXT)
    invocation = Invocation(text=INVOCATION_TEXT, ids=ids, position=Position.AFTER_PROMPT)
    data = write_data(folder / "data.jsonl")
    return base, invocation, data, teach_lora(base, invocation, data, folder)


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Taught:
    return taught(tmp_path_factory.mktemp("seeing"), blind=False)


@pytest.fixture(scope="module")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Taught:
    return taught(tmp_path_factory.mktemp("blind"), blind=True)


def recovered(source: Taught, *, held_out: float = 0.35, steps: int = 60) -> Recovery:
    base, invocation, data, lora = source
    settings = DistilSettings.of(steps=steps, learning_rate=1e-2, batch=16, patience=4)
    settings = replace(settings, data=DataSettings(held_out=held_out, validation=0.2))
    return recover(base=base, relabelled=lora, invocation=invocation, data=data, settings=settings)


def comparison(done: Recovery) -> Comparison:
    assert done.behaviour.comparison is not None
    return done.behaviour.comparison


def agreement(made: Comparison, weights: str, start: str) -> float:
    found = [one for one in made.boundary if (one.weights, one.start) == (weights, start)]
    assert len(found) == 1
    return found[0].agreement


def test_what_the_bases_keys_and_values_hold_is_recovered(seeing: Taught) -> None:
    done = recovered(seeing)
    made = comparison(done)
    assert made.verdict == "equivalent"
    assert made.control is None  # nothing to explain
    assert made.scores["relabelled"].value < 0.8 < 0.95 < made.scores["recovered"].value
    assert made.differences["recovered-lora"].low > -made.margin
    assert made.differences["recovered-relabelled"].low > 0
    assert sum(one.samples for one in made.lengths) == done.behaviour.samples
    assert agreement(made, "lora", "the whole prompt") == 1.0
    assert agreement(made, "lora", "the invocation") < 0.8
    assert agreement(made, "recovered", "the invocation") > 0.95
    said = "\n".join(behaviour_lines(done.behaviour))
    assert "EQUIVALENT" in said
    assert all(name in said for name in (*made.scores, "the context alone", "95 % intervals"))


def test_a_task_that_must_write_on_its_context_is_told_apart(blind: Taught) -> None:
    done = recovered(blind)
    made = comparison(done)
    assert made.verdict == "re-reads"
    assert made.control is not None
    assert made.control.agreement.value > made.agreement["recovered"].value
    assert "no closer in 4 looks" in made.stopped
    # the LoRA's own weights lose everything where an aLoRA begins, and little where the context is theirs
    assert agreement(made, "lora", "the invocation") < 0.7
    assert agreement(made, "lora", "the last half of the context") > 0.9
    assert "does not suit an aLoRA" in "\n".join(behaviour_lines(done.behaviour))


def test_steps_that_ran_out_are_a_degradation_of_a_size(seeing: Taught) -> None:
    made = comparison(recovered(seeing, steps=1))
    assert made.verdict == "degraded"
    assert made.differences["recovered-lora"].high < 0
    assert "--recover-steps" in made.reason


def test_few_samples_decide_nothing(seeing: Taught) -> None:
    made = comparison(recovered(seeing, held_out=0.05, steps=30))
    assert made.verdict == "undecided"
    assert made.scores["recovered"].value == made.scores["lora"].value
