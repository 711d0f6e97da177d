import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.conftest import Write, sample, task
from tests.training.test_train import SETTINGS, run_training
from zoo.cli import run
from zoo.models import BaseModel


def test_a_recorded_training_is_repeated_bit_for_bit(
    tiny_base: BaseModel, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, first = write(task(12)), tmp_path / "first"
    settings = replace(
        SETTINGS, init="olora", recipe=replace(SETTINGS.recipe, optimizer="lora+", ratio=4.0, patience=2)
    )
    run_training(tiny_base, data, first, settings=settings)
    repeat = ["--repeat", str(first), "--base", str(tiny_base.folder), "--quiet"]
    assert run(["train", str(data), str(tmp_path / "second"), *repeat]) == 0
    assert "bit for bit" in capsys.readouterr().out
    name = "adapter_model.safetensors"
    assert (first / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert (first / "training.png").read_bytes() == (tmp_path / "second" / "training.png").read_bytes()

    # control: a record that says something else, as a lock of another run would
    lock = json.loads((first / "zoo.lock.json").read_text())
    lock["training"]["settings"]["recipe"]["learning_rate"] *= 1.01
    lock["training"]["versions"]["torch"] = "1.0"
    (first / "zoo.lock.json").write_text(json.dumps(lock))
    assert run(["train", str(data), str(tmp_path / "third"), *repeat]) == 1
    said = capsys.readouterr().err
    assert "ZD008" in said
    assert "torch was 1.0" in said
    assert run(["train", str(write(task(13))), str(tmp_path / "fourth"), *repeat]) == 2
    assert "is not the data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--steps", "3", "--lr", "0.1"], "--lr, --steps"),
        (["--rank", "32"], "--rank"),  # its default, and yet not what the record says
        (["--load-in-4-bits"], "--load-in-4-bits"),
        (["--adapters", "a,b"], "--adapters"),
        (["--io", "io.yaml", "--device", "cuda", "--dtype", "bfloat16"], "--io, --device, --dtype"),
        (["--tracker", "tensorboard"], "--tracker"),
    ],
)
def test_what_the_record_says_is_not_said_beside_a_repeat(
    options: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train", "data.jsonl", str(tmp_path / "out"), "--repeat", str(tmp_path), "--base", "b"]
    free = ["--eval-data", "eval.jsonl", "--processes", "2", "--dry-run", "--json", "--quiet"]
    assert run([*given, *free, *options]) == 2
    said = capsys.readouterr().err
    assert "ZD006" in said
    assert f"recorded, and {named} would be ignored" in said
    assert run([*given, *free]) == 2  # the control: only now it looks for the record
    said = capsys.readouterr().err
    assert "ZD006" not in said
    assert "would be ignored" not in said


def test_a_repeat_wants_the_data_that_were_measured_on(
    tiny_base: BaseModel, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They decide what is held out, so without them other weights would come out after the whole training."""
    eval_data = write([sample(f"the context {n} answers question", "yes") for n in range(4)])
    eval_data = eval_data.rename(tmp_path / "eval.jsonl")
    data, first, again = write(task(12)), tmp_path / "first", str(tmp_path / "again")
    settings = replace(SETTINGS, data=replace(SETTINGS.data, eval_data=eval_data))
    run_training(tiny_base, data, first, settings=settings)
    repeat = ["--repeat", str(first), "--base", str(tiny_base.folder), "--quiet"]
    for options, said in (
        ([], "give them with --eval-data"),
        (["--eval-data", str(data)], "is not the data that"),
    ):
        assert run(["train", str(data), again, *repeat, *options]) == 2
        assert said in capsys.readouterr().err
        assert not Path(again).exists()
    assert run(["train", str(data), again, *repeat, "--eval-data", str(eval_data)]) == 0
    assert "bit for bit" in capsys.readouterr().out

    run_training(tiny_base, data, tmp_path / "divided")
    repeat[1] = str(tmp_path / "divided")
    assert run(["train", str(data), str(tmp_path / "x"), *repeat, "--eval-data", str(eval_data)]) == 2
    assert "leave --eval-data out" in capsys.readouterr().err
