"""Recoveries that begin calibrated: closer to the LoRA before their first step."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.training.conftest import Write, task
from tests.training.test_distil import SETTINGS, answers, divergence
from zoo.errors import UndecidedError
from zoo.models import BaseModel
from zoo.progress import Progress, silent
from zoo.prompts import Invocation, Prompter
from zoo.training import calibration, distil
from zoo.training.calibration import NOTHING, OUTPUTS, WHOLE, Calibrated
from zoo.training.dataset import encode, read_dataset
from zoo.training.distil import Recovery, recover
from zoo.training.optimise import Recipe, optimise
from zoo.training.teacher import Teacher

CALIBRATED = replace(
    SETTINGS,
    recipe=replace(SETTINGS.recipe, steps=1, learning_rate=1e-9, warmup=0, check_every=1),
    calibrate=True,
    calm=True,
    control=False,
)


@pytest.fixture
def with_outputs(invocation: Invocation, make_adapter: Callable[..., Path]) -> Path:
    """A LoRA on what attention and MLP read, which could also act on what they write."""
    torch.manual_seed(0)
    made = make_adapter(
        "outputs",
        alora_invocation_tokens=list(invocation.ids),
        r=16,
        lora_alpha=16,
        target_modules=["q_proj", "k_proj", "v_proj", "up_proj", "o_proj", "down_proj"],
        strength=0.5,
    )
    path = made / "adapter_model.safetensors"
    weights = load_file(path)
    for name, tensor in weights.items():
        if "lora_B" in name and ("o_proj" in name or "down_proj" in name):
            tensor.zero_()
    save_file(weights, path, metadata={"format": "pt"})
    return made


def test_a_calibrated_recovery_is_closer_before_its_first_step(
    tiny_base: BaseModel, prompter: Prompter, invocation: Invocation, with_outputs: Path, write: Write
) -> None:
    data = write(task(24))
    given: dict[str, Any] = {
        "base": tiny_base, "relabelled": with_outputs, "invocation": invocation, "data": data,
    }  # fmt: skip
    done = recover(**given, settings=CALIBRATED)
    said = done.training.settings["calibration"]
    assert (said["kept"], said["fitted"]) == (True, WHOLE)
    assert said["divergence"] == [said["tried"][NOTHING], said["tried"][WHOLE]]
    assert said["divergence"][1] <= said["tried"][OUTPUTS]
    assert said["divergence"][1] < 0.5 * said["divergence"][0]
    assert said["stream_off"][1] < said["stream_off"][0]
    assert done.training.settings["recipe"]["learning_rate"] <= 0.5e-9  # smaller steps so close to the LoRA
    assert done.looks[0][1]["divergence"] == pytest.approx(said["divergence"][1])
    without = recover(**given, settings=replace(CALIBRATED, calibrate=False))
    assert "calibration" not in without.training.settings
    samples = encode(read_dataset(data).samples, prompter, invocation, name="d", max_tokens=500)
    teacher = answers(tiny_base, with_outputs, samples, None, whole=True)
    found, plain = (
        divergence(teacher, answers(tiny_base, with_outputs, samples, one.weights, whole=False))
        for one in (done, without)
    )
    assert found < 0.5 * plain
    same = {name: torch.allclose(w, without.weights[name], atol=1e-6) for name, w in done.weights.items()}
    calibrated = ("q_proj", "o_proj", "down_proj")
    assert {name: not any(part in name for part in calibrated) for name in same} == same


def test_the_control_begins_at_nothing_and_takes_whole_steps(
    tiny_base: BaseModel,
    invocation: Invocation,
    with_outputs: Path,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the small steps behind a calibration it would lose, and the boundary never be found to be why."""
    rates: dict[str, float] = {}

    def spied(task: Any, recipe: Recipe, *, label: str, **given: Any) -> Any:
        rates[label] = recipe.learning_rate
        return optimise(task, recipe, label=label, **given)

    monkeypatch.setattr(distil, "optimise", spied)
    half = Calibrated(fitted=OUTPUTS, off=(1.0, 1.0), divergence={NOTHING: 1.0, OUTPUTS: 0.5}, samples=1)
    monkeypatch.setattr(distil, "closest", lambda *_: half)  # it stays degraded
    recipe = replace(CALIBRATED.recipe, steps=4, patience=2)
    recover(
        base=tiny_base, relabelled=with_outputs, invocation=invocation, data=write(task(60)),
        settings=replace(CALIBRATED, recipe=recipe, control=True),
    )  # fmt: skip
    assert rates == {"distil": 5e-10, "control": 1e-9}


def test_a_calibration_that_comes_no_closer_is_taken_back(
    tiny_base: BaseModel,
    invocation: Invocation,
    with_outputs: Path,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = calibration._reduced

    def wrong(*given: Any) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = plain(*given)
        return a, -30 * b

    monkeypatch.setattr(calibration, "_reduced", wrong)
    done = recover(
        base=tiny_base,
        relabelled=with_outputs,
        invocation=invocation,
        data=write(task(24)),
        settings=CALIBRATED,
    )
    said = done.training.settings["calibration"]
    assert (said["kept"], said["fitted"]) == (False, NOTHING)
    assert min(said["tried"][WHOLE], said["tried"][OUTPUTS]) > said["divergence"][0]
    assert done.training.settings["recipe"]["learning_rate"] == 1e-9
    before = load_file(with_outputs / "adapter_model.safetensors")
    assert all(torch.allclose(done.weights[name], before[name].float(), atol=1e-6) for name in before)


@pytest.mark.parametrize(("stopped", "again"), [(1, 1), (4, 3)])  # its state is saved every two steps
def test_a_calibrated_recovery_that_is_stopped_goes_on_with_the_same_losses(
    stopped: int,
    again: int,
    tiny_base: BaseModel,
    invocation: Invocation,
    with_outputs: Path,
    write: Write,
    tmp_path: Path,
    one_thread: None,
) -> None:
    """It does not calibrate again, and takes steps of the same size."""
    data, steps = write(task(24)), list[tuple[str, int]]()
    recipe = replace(CALIBRATED.recipe, steps=6, learning_rate=1e-3, check_every=2, save_every=2)

    def stop(stage: str, *, done: int, total: int, note: str = "") -> None:
        if stage == "distil" and done == stopped:
            raise KeyboardInterrupt

    def told(stage: str, *, done: int, total: int, note: str = "") -> None:
        steps.append((stage, done))

    def run(work: Path | None, progress: Progress = silent) -> Recovery:
        return recover(
            base=tiny_base, relabelled=with_outputs, invocation=invocation, data=data,
            settings=replace(CALIBRATED, recipe=recipe), work=work, progress=progress,
        )  # fmt: skip

    whole = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "work", stop)
    resumed = run(tmp_path / "work", told)
    assert next(at for stage, at in steps if stage == "distil") == again
    assert not {"calibrate", "teacher's layers"} & {stage for stage, _ in steps}
    assert resumed.training.settings["calibration"] == whole.training.settings["calibration"]
    assert list(resumed.losses) == list(whole.losses)
    assert resumed.training.settings["recipe"] == whole.training.settings["recipe"]
    assert all(torch.equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)


def test_a_base_that_cannot_be_calibrated_is_told_before_the_teacher_is_asked(
    tiny_base: BaseModel,
    invocation: Invocation,
    make_adapter: Callable[..., Path],
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The adapter is on one of the two output projections of a layer."""
    relabelled = make_adapter(
        "half", alora_invocation_tokens=list(invocation.ids), target_modules=["q_proj", "o_proj"]
    )
    asked: list[int] = []
    monkeypatch.setattr(Teacher, "compute", lambda *_, **__: asked.append(1))
    with pytest.raises(UndecidedError, match="output projections"):
        recover(
            base=tiny_base,
            relabelled=relabelled,
            invocation=invocation,
            data=write(task(24)),
            settings=CALIBRATED,
        )
    assert not asked
