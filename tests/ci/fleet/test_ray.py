"""Ray: without the package here, with it in a process that finds it."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from zoo.ci.fleet import on_ray
from zoo.cli import run

ROOT = Path(__file__).resolve().parents[3]


def package_folder() -> Path:
    """Where Ray is; not in the tests' environment, which is large enough."""
    folder = Path(os.environ.get("ZOO_RAY_PACKAGES", ROOT / ".venv-ray"))
    if not (folder / "ray").is_dir():
        pytest.fail(f"no ray in {folder}: run `make .venv-ray`, or set ZOO_RAY_PACKAGES", False)
    return folder


def test_without_ray_the_message_says_how_to_get_it(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(on_ray, "find_spec", lambda name: None if name == "ray" else find_spec(name))
    assert run(["gate", "--library", str(folders[0].parent), "--workers", "2"]) == 3
    assert "pip install 'alora-zoo[ray]'" in capsys.readouterr().err


def test_a_gate_over_nothing_is_not_green(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gate"]) == 2
    assert "no adapter was named" in capsys.readouterr().err


@pytest.mark.slow
def test_with_ray_all_of_it_works_here() -> None:
    """`with_ray.py`, as tests of a process that has the package."""
    done = subprocess.run(
        [Path(sys.executable).with_name("pytest"), "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
         "tests/ci/fleet/with_ray.py"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(package_folder()), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    assert "6 passed" in done.stdout


def test_control_without_the_package_that_process_fails(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_RAY_PACKAGES", str(tmp_path))
        with pytest.raises(pytest.fail.Exception, match=r"make \.venv-ray"):
            package_folder()
