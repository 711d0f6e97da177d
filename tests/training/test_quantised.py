"""Training on a base in 4 bits: without the package here, with it in a process that finds it."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.training.conftest import Write, task
from tests.training.test_train_command import command
from zoo.errors import MissingExtraError
from zoo.models import BaseModel
from zoo.training import quantised

ROOT = Path(__file__).resolve().parents[2]


def package_folder() -> Path:
    """Where bitsandbytes is; not in the tests' environment, since PEFT then takes seconds more to import."""
    folder = Path(os.environ.get("ZOO_4BIT_PACKAGES", ROOT / ".venv-4bit"))
    if not (folder / "bitsandbytes").is_dir():
        pytest.fail(f"no bitsandbytes in {folder}: run `make .venv-4bit`, or set ZOO_4BIT_PACKAGES", False)
    return folder


def without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        quantised, "find_spec", lambda name: None if name == "bitsandbytes" else find_spec(name)
    )


def test_without_bitsandbytes_the_message_says_how_to_get_it(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_the_package(monkeypatch)
    with pytest.raises(MissingExtraError, match="4 bits") as raised:
        quantised.load_in_4_bits(tiny_base, device="cpu")
    assert raised.value.hint == "pip install 'alora-zoo[4bit]'"


def test_the_command_never_falls_back_to_the_whole_base(
    tiny_base: BaseModel,
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    without_the_package(monkeypatch)
    data = write(task(12))
    for more in ([], ["--dry-run"]):
        assert command(data, tmp_path / "out", tiny_base, "--load-in-4-bits", *more) == 3
        assert "alora-zoo[4bit]" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_with_bitsandbytes_all_of_it_works_on_a_cpu() -> None:
    """`in_4_bits.py`, as tests of a process that has the package."""
    done = subprocess.run(
        [Path(sys.executable).with_name("pytest"), "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
         "tests/training/in_4_bits.py"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(package_folder()), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert "6 passed" in done.stdout


def test_control_without_the_package_that_process_fails(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_4BIT_PACKAGES", str(tmp_path))
        with pytest.raises(pytest.fail.Exception, match=r"make \.venv-4bit"):
            package_folder()
