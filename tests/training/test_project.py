"""`zoo train --project` and `--io`: from a project to a release; resumed, repeated, several at once."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import INVOCATION_TEXT
from tests.training.test_train import finish
from zoo.cli import run
from zoo.models import BaseModel
from zoo.scaffolds.kinds import kind_named
from zoo.scaffolds.project import scaffold

SMALL = ["--steps", "2", "--batch", "2", "--rank", "2", "--quiet"]


@pytest.fixture
def project(tiny_base: BaseModel, tmp_path: Path) -> Path:
    return scaffold("relevance", kind_named("guardian"), tmp_path / "p", base=str(tiny_base.folder)).folder


def command(project: Path, out: Path, base: BaseModel, *more: str) -> int:
    data = str(project / "data" / "requests.jsonl")
    return run(["train", data, str(out), "--base", str(base.folder), *SMALL, *more])


def test_a_project_says_all_that_need_not_be_typed(
    project: Path, tiny_base: BaseModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert command(project, out, tiny_base, "--project", str(project), "--dry-run") == 0
    plan = capsys.readouterr().out
    assert r"'<|im_start|>relevance\n'" in plan
    assert "those of zoo run" in plan
    assert not out.exists()
    assert command(project, out, tiny_base, "--project", str(project)) == 0
    capsys.readouterr()

    assert run(["validate", str(out), "--static", "--base", str(tiny_base.folder), "--json"]) == 1
    results = json.loads(capsys.readouterr().out)["results"]
    outcomes = {one["code"]: one["outcome"]["kind"] for one in results}
    assert [code for code, kind in outcomes.items() if kind == "flagged"] == [
        "ZB001"
    ]  # two steps teach little
    contract = [code for code in outcomes if code.startswith("ZO")]
    assert "ZO027" in contract  # the sample requests of zoo.yaml, rewritten and rendered
    assert {outcomes[code] for code in contract} == {"passed"}
    request = tmp_path / "request.json"
    request.write_text('{"messages": [{"role": "user", "content": "Is it raining?"}]}')
    asked = ["run", str(out), "--request", str(request), "--arg", "criteria=the text is a question"]
    assert run([*asked, "--base", str(tiny_base.folder), "--json", "--quiet"]) == 0
    assert 0 < json.loads(capsys.readouterr().out)["result"]["guardian"]["score"] < 1


def test_an_io_yaml_alone_is_enough(
    project: Path, tiny_base: BaseModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    io = ["--io", str(project / "io.yaml"), "--json"]
    assert command(project, tmp_path / "out", tiny_base, *io, "--invocation", INVOCATION_TEXT) == 0
    done = json.loads(capsys.readouterr().out)
    assert len(done["training"]["settings"]["io_sha256"]) == 64
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "evaluation.png", "io.yaml", "training.png",
        "zoo.lock.json", "zoo.yaml",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--project", "nowhere"], 2, "nowhere is no project: it has no zoo.yaml"),
        (["--io", "nowhere.yaml"], 2, "nowhere.yaml does not exist"),
        (["--project", ".", "--io", "io.yaml"], 2, "given together"),
        (["--io", "io.yaml"], 2, "what activates the adapter is not said"),
        ([], 2, "JSON wants the io.yaml"),
        (["--project", ".", "--version", "one"], 2, "ZM001"),
        (["--project", ".", "--target", "nothing"], 2, "no module 'nothing'"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    more: list[str],
    code: int,
    said: str,
    project: Path,
    tiny_base: BaseModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project)
    own = [] if "--project" in more or "--io" in more else ["--invocation", INVOCATION_TEXT]
    assert command(project, tmp_path / "out", tiny_base, *more, *own) == code
    heard = capsys.readouterr().err
    assert said in heard
    assert "Traceback" not in heard
    assert not (tmp_path / "out").exists()


def test_what_the_contract_refuses_is_an_error_with_its_line(
    project: Path, tiny_base: BaseModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = project / "data" / "requests.jsonl"
    lines = data.read_text().splitlines()
    row = json.loads(lines[4])
    del row["arguments"]
    data.write_text("\n".join([*lines[:4], json.dumps(row), *lines[5:]]))
    assert command(project, tmp_path / "out", tiny_base, "--project", str(project)) == 2
    heard = capsys.readouterr().err
    assert "requests.jsonl, line 5" in heard
    assert "ZO105" in heard


CHILD = """
import json, sys, time
from dataclasses import replace
from pathlib import Path
from tests.training.test_train import SETTINGS
from zoo.training.project import Project
from zoo.training.train import train

project, out, base, hang_at = sys.argv[1:]

def told(stage, *, done, total, note=""):
    if stage == "train" and done == int(hang_at):
        print("hanging", flush=True)
        time.sleep(600)

done = train(Path(project) / "data" / "requests.jsonl", out, base=base, settings=SETTINGS, progress=told,
             project=Project.open(Path(project)))
print(json.dumps(list(done.losses)))
"""


def start(project: Path, out: Path, base: BaseModel, *, hang_at: int = 0) -> "subprocess.Popen[str]":
    arguments = [str(project), str(out), str(base.folder), str(hang_at)]
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_killed_run_resumes_under_the_same_contract_alone(
    project: Path, tiny_base: BaseModel, tmp_path: Path
) -> None:
    whole = start(project, tmp_path / "whole", tiny_base)
    child = start(project, tmp_path / "killed", tiny_base, hang_at=8)
    assert child.stdout is not None
    assert child.stdout.readline() == "hanging\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    expected = finish(whole)

    other = tmp_path / "other"
    shutil.copytree(project, other)
    text = (other / "io.yaml").read_text()
    (other / "io.yaml").write_text(text.replace("Criterion:", "Rule:"))
    refused = start(other, tmp_path / "killed", tiny_base)
    _, errors = refused.communicate(timeout=240)
    assert "ZD004" in errors
    assert "io_sha256" in errors

    assert finish(start(project, tmp_path / "killed", tiny_base)) == expected
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_a_training_through_a_contract_is_repeated(
    project: Path, tiny_base: BaseModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "first"
    assert command(project, first, tiny_base, "--project", str(project)) == 0

    def repeat(name: str) -> int:
        data = str(project / "data" / "requests.jsonl")
        out = str(tmp_path / name)
        return run(["train", data, out, "--base", str(tiny_base.folder), "--repeat", str(first), "--quiet"])

    assert repeat("second") == 0
    assert "bit for bit" in capsys.readouterr().out
    for name in ("adapter_model.safetensors", "io.yaml", "NOTES.md", "zoo.yaml"):
        assert (first / name).read_bytes() == (tmp_path / "second" / name).read_bytes()

    (first / "io.yaml").write_text((first / "io.yaml").read_text().replace("Criterion:", "Rule:"))
    assert repeat("third") == 2
    assert "with another io.yaml" in capsys.readouterr().err
    (first / "io.yaml").unlink()
    assert repeat("third") == 2


def several(tmp_path: Path, base: BaseModel) -> list[str]:
    for name, kind in (("guard", "guardian"), ("cite", "citations")):
        scaffold(name, kind_named(kind), tmp_path / name, base=str(base.folder))
    data, out = tmp_path / "{adapter}" / "data" / "requests.jsonl", tmp_path / "library"
    return [
        "train", str(data), str(out), "--adapters", "guard,cite", "--project", str(tmp_path / "{adapter}"),
        "--base", str(base.folder), *SMALL,
    ]  # fmt: skip


def test_several_projects_are_trained_together_each_by_its_contract(
    tiny_base: BaseModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = several(tmp_path, tiny_base)
    assert run([*arguments, "--dry-run"]) == 0
    assert r"'<|im_start|>cite\n'" in capsys.readouterr().out
    assert run([*arguments, "--json"]) == 0
    done: dict[str, Any] = json.loads(capsys.readouterr().out)["adapters"]
    digests = {name: one["training"]["settings"]["io_sha256"] for name, one in done.items()}
    assert digests["guard"] != digests["cite"]
    for name in ("guard", "cite"):
        for file in ("io.yaml", "NOTES.md"):
            assert (tmp_path / "library" / name / file).read_bytes() == (tmp_path / name / file).read_bytes()


def test_projects_for_two_base_models_are_not_trained_together(
    tiny_base: BaseModel, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    arguments = several(tmp_path, tiny_base)
    spec = tmp_path / "cite" / "zoo.yaml"
    spec.write_text(spec.read_text().replace("tests/tiny-llama", "tests/other"))
    monkeypatch.setattr(
        "zoo.training.plan.resolve_reference", lambda reference: replace(tiny_base, id=reference.id)
    )
    where = arguments.index("--base")
    assert run([*arguments[:where], *arguments[where + 2 :]]) == 2
    heard = capsys.readouterr().err
    assert "tests/tiny-llama and tests/other" in heard
