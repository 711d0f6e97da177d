import json
from pathlib import Path

import pytest
import torch

from tests.conftest import INVOCATION_TEXT
from tests.training.conftest import Write, task
from zoo.cli import run
from zoo.models import BaseModel
from zoo.training.tiers import Tiers


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


@pytest.mark.parametrize(
    "options",
    [
        ["--optimizer", "lora-rite"], ["--optimizer", "lora+", "--lora-plus-ratio", "8"],
        ["--optimizer", "lora-fa", "--init", "orthogonal"], ["--init", "pissa"], ["--shared-a", "3"],
        ["--kind", "lora"], ["--micro-batch", "1"], ["--patience", "1"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_command_takes_every_choice(
    tiny_base: BaseModel, write: Write, tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--steps", "2", "--batch", "2", "--rank", "2", "--quiet"]
    data = write(task(12))
    assert command(data, tmp_path / "out", tiny_base, *small, *options, "--dry-run") == 0
    assert command(data, tmp_path / "out", tiny_base, *small, *options) == 0
    assert "accuracy" in capsys.readouterr().out
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()


def test_the_command_wants_an_invocation(
    tiny_base: BaseModel, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", str(write(task(12))), str(tmp_path / "out"), "--base", str(tiny_base.folder)]) == 2
    assert "--invocation" in capsys.readouterr().err


def test_prefixes_beyond_memory_go_to_the_folder_that_is_named(
    tiny_base: BaseModel, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[str] = set()
    put = Tiers.put
    monkeypatch.setattr(Tiers, "put", lambda *given: seen.add(put(*given)))
    monkeypatch.setattr("zoo.training.tiers.free_host_bytes", lambda: 0)
    small = ["--steps", "2", "--batch", "2", "--rank", "2", "--quiet"]
    data, kept = write(task(12)), tmp_path / "kept"
    assert command(data, tmp_path / "without", tiny_base, *small) == 0
    assert seen == {""}
    assert command(data, tmp_path / "with", tiny_base, *small, "--disk-cache", str(kept)) == 0
    assert seen == {"", "disk"}
    assert not list(kept.iterdir())
    first, second = (tmp_path / name / "adapter_model.safetensors" for name in ("without", "with"))
    assert first.read_bytes() == second.read_bytes()


def test_a_full_gpu_is_no_defect(
    tiny_base: BaseModel, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr("zoo.training.train.new_adapter", full)
    assert command(write(task(12)), tmp_path / "out", tiny_base, "--quiet") == 3
    said = capsys.readouterr().err
    assert "--micro-batch" in said
    assert "defect" not in said
