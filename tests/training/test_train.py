import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from tests.conftest import INVOCATION_TEXT
from tests.training.conftest import Write, task
from zoo.adapter import AdapterRepo
from zoo.cards.card import render_card
from zoo.errors import MissingExtraError, SpecError, UsageError, VerdictError
from zoo.models import BaseModel, load_model
from zoo.prompts import Prompter
from zoo.specs.lock import Lock
from zoo.training import adapted
from zoo.training.fit import Stores
from zoo.training.optimise import Recipe
from zoo.training.parts import DataSettings
from zoo.training.plan import TrainSettings, plan_training
from zoo.training.prefix import PrefixStore, answer_loss
from zoo.training.train import Trained, new_adapter, train

SETTINGS = TrainSettings(
    recipe=Recipe(
        steps=12, batch=4, micro_batch=4, learning_rate=5e-3, warmup=2, check_every=4, save_every=3
    ),
    rank=4,
    alpha=8.0,
    data=DataSettings(held_out=0.25, validation=0.2),
)


def run_training(base: BaseModel, data: Path, out: Path, **changes: Any) -> Trained:
    options: dict[str, Any] = {
        "name": "check",
        "invocation_text": INVOCATION_TEXT,
        "base": str(base.folder),
        "settings": SETTINGS,
    }
    return train(data, out, **{**options, **changes})


def test_a_training_writes_a_release_that_peft_loads_and_records_how(
    tiny_base: BaseModel, write: Write, tmp_path: Path
) -> None:
    data = write(task(12))
    done = run_training(tiny_base, data, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.jsonl", "out"]
    assert len(done.losses) == 12
    lock = Lock.model_validate_json((tmp_path / "out" / "zoo.lock.json").read_text())
    assert lock.training is not None
    assert (lock.training.method, lock.training.steps, lock.training.seed) == ("supervised", 12, 0)
    assert lock.training.settings["recipe"]["learning_rate"] == 5e-3
    assert {"torch", "peft", "transformers"} <= lock.training.versions.keys()
    assert lock.behaviour.samples == 6
    assert set(lock.behaviour.accuracy) == {"base", "trained"}
    model = PeftModel.from_pretrained(load_model(tiny_base), tmp_path / "out")
    assert "alora_invocation_tokens" in model.peft_config["default"].to_dict()
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["alora_invocation_tokens"] == list(Prompter(tiny_base).encode(INVOCATION_TEXT))


def test_the_release_computes_what_was_trained(tiny_base: BaseModel, write: Write, tmp_path: Path) -> None:
    """The scale is folded into B: without the fold the released adapter would act at half the strength."""
    done = run_training(tiny_base, write(task(12)), tmp_path / "out")
    config = json.loads((done.folder / "adapter_config.json").read_text())
    assert config["lora_alpha"] == config["r"] == 4
    unscaled = replace(SETTINGS, alpha=4.0)
    other = run_training(tiny_base, tmp_path / "data.jsonl", tmp_path / "unscaled", settings=unscaled)
    first, second = (load_file(d.folder / "adapter_model.safetensors") for d in (done, other))
    assert first.keys() == second.keys()
    assert any(bool((first[name] != second[name]).any()) for name in first)


def test_training_lowers_the_loss_and_without_a_rate_does_not(
    tiny_base: BaseModel, write: Write, tmp_path: Path
) -> None:
    """Little more than half a nat is to be had: small tied embeddings bound the logits of this base."""
    data = write(task(12))
    fast = replace(SETTINGS, recipe=replace(SETTINGS.recipe, steps=40, learning_rate=2e-2))
    still = replace(SETTINGS, recipe=replace(SETTINGS.recipe, steps=4, learning_rate=1e-9))
    learnt = run_training(tiny_base, data, tmp_path / "fast", settings=fast)
    idle = run_training(tiny_base, data, tmp_path / "still", settings=still)
    assert learnt.losses[0] == idle.losses[0]
    assert learnt.losses[-1] < learnt.losses[0] - 0.3
    assert abs(idle.losses[-1] - idle.losses[0]) < 0.1


CHILD = """
import json, sys, time
from dataclasses import replace
from tests.training.test_train import SETTINGS
from zoo.training.train import train

data, out, base, text, hang_at, optimizer = sys.argv[1:]
settings = replace(SETTINGS, recipe=replace(SETTINGS.recipe, optimizer=optimizer))

def told(stage, *, done, total, note=""):
    if stage == "train" and done == int(hang_at):
        print("hanging", flush=True)
        time.sleep(600)

done = train(data, out, name="check", invocation_text=text, base=base, settings=settings, progress=told)
print(json.dumps(list(done.losses)))
"""


def start(
    data: Path, out: Path, base: BaseModel, *, hang_at: int = 0, optimizer: str = "adamw"
) -> "subprocess.Popen[str]":
    """A training in a process of its own; with `hang_at` it says so and stops after that step."""
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            CHILD,
            str(data),
            str(out),
            str(base.folder),
            INVOCATION_TEXT,
            str(hang_at),
            optimizer,
        ],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child: "subprocess.Popen[str]") -> list[float]:
    out, errors = child.communicate(timeout=240)
    assert child.returncode == 0, errors[-2000:]
    losses: list[float] = json.loads(out)
    return losses


@pytest.mark.parametrize("optimizer", ["adamw", "lora+", "lora-fa", "lora-rite"])
def test_a_killed_run_resumes_with_the_same_losses_and_weights(
    tiny_base: BaseModel, write: Write, tmp_path: Path, optimizer: str
) -> None:
    data, work = write(task(12)), tmp_path / ".killed.training"
    expected = finish(start(data, tmp_path / "whole", tiny_base, optimizer=optimizer))
    child = start(data, tmp_path / "killed", tiny_base, hang_at=8, optimizer=optimizer)
    assert child.stdout is not None
    assert child.stdout.readline() == "hanging\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not (tmp_path / "killed").exists()
    assert json.loads((work / "state.json").read_text())["step"] == 6  # 7 and 8 are run again
    assert finish(start(data, tmp_path / "killed", tiny_base, optimizer=optimizer)) == expected
    whole, killed = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert not work.exists()


class StopError(Exception):
    pass


def leave_unfinished(base: BaseModel, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr("zoo.training.train.measure", stop)
        with pytest.raises(StopError):
            run_training(base, data, out)


def test_an_unfinished_run_is_not_resumed_on_other_data(
    tiny_base: BaseModel, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_unfinished(tiny_base, write(task(12)), tmp_path / "out", monkeypatch)
    with pytest.raises(UsageError) as caught:
        run_training(tiny_base, write(task(13)), tmp_path / "out")
    assert caught.value.code == "ZD004"
    assert "data_sha256" in caught.value.message


def test_an_adapter_that_does_not_act_is_noticed_at_the_first_step(
    tiny_base: BaseModel, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def off(model: Any, *, on: bool, spans: Any = ()) -> Any:
        return adapted.everywhere(model, on=False)

    monkeypatch.setattr("zoo.training.packed.everywhere", off)
    with pytest.raises(VerdictError) as caught:
        run_training(tiny_base, write(task(12)), tmp_path / "out")
    assert caught.value.code == "ZD005"
    assert not (tmp_path / "out").exists()


def test_a_target_the_base_lacks_is_refused(tiny_base: BaseModel, write: Write, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="query_key_value"):
        run_training(
            tiny_base,
            write(task(12)),
            tmp_path / "o",
            settings=replace(SETTINGS, targets=("query_key_value",)),
        )


def test_a_run_with_patience_ends_early_and_the_record_says_where(
    tiny_base: BaseModel, write: Write, tmp_path: Path
) -> None:
    recipe = replace(SETTINGS.recipe, steps=400, check_every=1, patience=3, learning_rate=1e-12)
    done = run_training(
        tiny_base, write(task(12)), tmp_path / "out", settings=replace(SETTINGS, recipe=recipe)
    )
    steps = len(done.losses)
    assert steps < 400
    assert done.training.steps == steps == done.training.settings["best_step"] + 3
    assert done.training.settings["recipe"]["steps"] == 400
    assert [step for step, _ in done.looks] == list(range(steps + 1))
    best = dict(done.looks)[done.training.settings["best_step"]]
    assert done.training.settings["validation"] == best
    assert {"balanced_accuracy", "accuracy", "loss"} == best.keys()


def test_a_plot_lies_in_the_release_and_is_missed_with_a_word(
    tiny_base: BaseModel, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run_training(tiny_base, write(task(12)), tmp_path / "out")
    assert (tmp_path / "out" / "training.png").read_bytes().startswith(b"\x89PNG")
    lock = Lock.model_validate_json((tmp_path / "out" / "zoo.lock.json").read_text())
    assert "training.png" in lock.files
    assert "](training.png)" in render_card(AdapterRepo.open(tmp_path / "out"), None)
    assert any(line == f"plot         {tmp_path / 'out' / 'training.png'}" for line in done.lines())
    monkeypatch.setattr("zoo.pictures.canvas.find_spec", lambda name: None)
    without = run_training(tiny_base, tmp_path / "data.jsonl", tmp_path / "without")
    assert not (tmp_path / "without" / "training.png").exists()
    assert any("alora-zoo[plot]" in line for line in without.lines())


def test_a_missing_tracker_is_noticed_before_any_work(
    tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.training.tracking.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="trackio"):
        run_training(tiny_base, tmp_path / "not there", tmp_path / "out", tracker="trackio")
    assert not list(tmp_path.iterdir())


def test_a_tracker_is_told_every_step_and_every_look(
    tiny_base: BaseModel, write: Write, tmp_path: Path
) -> None:
    from tests.training.test_tracking import told

    done = run_training(tiny_base, write(task(12)), tmp_path / "out", tracker="tensorboard")
    course = told(tmp_path / "out.tensorboard")
    assert [value for _, value in course["train/loss"]] == pytest.approx(list(done.losses), abs=1e-4)
    assert [step for step, _ in course["validation/balanced_accuracy"]] == [4, 8, 12]


def test_a_plain_lora_acts_on_every_token_and_is_no_release(
    tiny_base: BaseModel, write: Write, tmp_path: Path
) -> None:
    done = run_training(tiny_base, write(task(12)), tmp_path / "out", settings=replace(SETTINGS, kind="lora"))
    names = {path.name for path in done.folder.iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "training.json", "training.png"}
    config = json.loads((done.folder / "adapter_config.json").read_text())
    assert "alora_invocation_tokens" not in config
    assert config["r"] == 4
    record = json.loads((done.folder / "training.json").read_text())
    assert record["training"]["settings"]["kind"] == "lora"
    alora = run_training(tiny_base, tmp_path / "data.jsonl", tmp_path / "alora")
    # both start as the base; from then on one reads prefixes of its own
    assert done.losses[0] == pytest.approx(alora.losses[0], rel=1e-5)
    assert done.losses[-1] != alora.losses[-1]


def test_a_plain_loras_gradients_are_those_of_pefts_full_pass(
    tiny_base: BaseModel, write: Write, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, kind="lora")
    plan = plan_training(
        write(task(12)), invocation_text=INVOCATION_TEXT, base=str(tiny_base.folder), settings=settings
    )
    model = new_adapter(plan, device="cpu", dtype="float32")
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for parameter in trained.values():
            parameter.normal_(std=0.2)

    def gradients(loss: torch.Tensor) -> dict[str, torch.Tensor]:
        loss.backward()
        found = {name: p.grad.clone() for name, p in trained.items() if p.grad is not None}
        model.zero_grad()
        return found

    store, total = Stores.of(model, plan).train, torch.zeros(())
    mine = gradients(answer_loss(store, range(4)))
    for one in plan.parts.train[:4]:
        ids = torch.tensor([one.prefix + one.lead + one.answer])
        labels = ids.clone()
        labels[:, : -len(one.answer)] = -100
        total = total + model(input_ids=ids, labels=labels).loss * len(one.answer)
    theirs = gradients(total)
    assert mine.keys() == theirs.keys() == trained.keys()
    for name in mine:
        assert float((mine[name] - theirs[name]).norm() / theirs[name].norm()) < 1e-5

    alora = answer_loss(PrefixStore(model, plan.parts.train), range(4))  # control: the prefix left out
    other = gradients(alora)
    assert max(float((other[n] - theirs[n]).norm() / theirs[n].norm()) for n in other) > 1e-2
