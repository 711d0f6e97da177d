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
from zoo.cli import run
from zoo.errors import SpecError, UsageError, VerdictError
from zoo.models import BaseModel, load_model
from zoo.prompts import Prompter
from zoo.specs.lock import Lock
from zoo.training.optimise import Recipe
from zoo.training.parts import DataSettings
from zoo.training.plan import TrainSettings
from zoo.training.train import Trained, train

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
from tests.training.test_train import SETTINGS
from zoo.training.train import train

data, out, base, text, hang_at = sys.argv[1:]

def told(stage, *, done, total, note=""):
    if stage == "train" and done == int(hang_at):
        print("hanging", flush=True)
        time.sleep(600)

done = train(data, out, name="check", invocation_text=text, base=base, settings=SETTINGS, progress=told)
print(json.dumps(list(done.losses)))
"""


def start(data: Path, out: Path, base: BaseModel, *, hang_at: int = 0) -> "subprocess.Popen[str]":
    """A training in a process of its own; with `hang_at` it says so and stops after that step."""
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(data), str(out), str(base.folder), INVOCATION_TEXT, str(hang_at)],
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


def test_a_killed_run_resumes_with_the_same_losses_and_weights(
    tiny_base: BaseModel, write: Write, tmp_path: Path
) -> None:
    data, work = write(task(12)), tmp_path / ".killed.training"
    expected = finish(start(data, tmp_path / "whole", tiny_base))
    child = start(data, tmp_path / "killed", tiny_base, hang_at=8)
    assert child.stdout is not None
    assert child.stdout.readline() == "hanging\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not (tmp_path / "killed").exists()
    assert json.loads((work / "state.json").read_text())["step"] == 6  # 7 and 8 are run again
    assert finish(start(data, tmp_path / "killed", tiny_base)) == expected
    whole, killed = (load_file(tmp_path / n / "adapter_model.safetensors") for n in ("whole", "killed"))
    assert all(torch.equal(whole[name], killed[name]) for name in whole)
    assert not work.exists()


def leave_unfinished(base: BaseModel, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class StopError(Exception):
        pass

    def stop(*_: object) -> None:
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr("zoo.training.train._measure", stop)
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
    from zoo import peft_model

    def off(*args: Any, offsets: list[int | None], **more: Any) -> Any:
        return peft_model.forward(*args, offsets=[None] * len(offsets), **more)

    monkeypatch.setattr("zoo.training.prefix.forward", off)
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


def command(data: Path, out: Path, base: BaseModel, *more: str) -> int:
    text = INVOCATION_TEXT.replace("\n", r"\n")
    return run(["train", str(data), str(out), "--invocation", text, "--base", str(base.folder), *more])


def test_the_command_plans_without_writing(
    tiny_base: BaseModel, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(task(20))
    assert command(data, tmp_path / "out", tiny_base, "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert sum(plan["samples"].values()) == 40
    assert [path.name for path in tmp_path.iterdir()] == ["data.jsonl"]


def test_the_command_trains(
    tiny_base: BaseModel, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--steps", "2", "--batch", "2", "--rank", "2", "--json", "--quiet"]
    assert command(write(task(12)), tmp_path / "out", tiny_base, *options) == 0
    assert len(json.loads(capsys.readouterr().out)["losses"]) == 2
    assert (tmp_path / "out" / "zoo.yaml").is_file()


def test_the_command_names_a_broken_line(
    tiny_base: BaseModel, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(write([*task(3), "{"]), tmp_path / "out", tiny_base) == 2
    said = capsys.readouterr().err
    assert "ZD001" in said
    assert "line 7" in said
    assert "Traceback" not in said
