import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from zoo.errors import UsageError
from zoo.training.work import claimed_work

CHILD = """
import sys, time
from pathlib import Path
from zoo.training.work import claimed_work

with claimed_work(Path(sys.argv[1])) as work:
    work.mkdir()
    print("claimed", flush=True)
    time.sleep(600)
"""


def claim(target: Path) -> "subprocess.Popen[str]":
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(target)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "claimed\n"
    return child


def test_a_second_run_is_refused_and_a_killed_one_leaves_the_work_but_no_lock(tmp_path: Path) -> None:
    target = tmp_path / "out"
    child = claim(target)
    with pytest.raises(UsageError, match=f"process {child.pid}") as caught, claimed_work(target):
        pass
    assert caught.value.code == "ZD007"
    with claimed_work(tmp_path / "other"):
        pass
    child.kill()
    child.communicate()
    with claimed_work(target) as work:
        assert work == tmp_path / ".out.training"
        assert work.is_dir()
    assert not list(tmp_path.iterdir())


def test_a_run_that_fails_keeps_its_work_and_gives_up_its_claim(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def fail() -> None:
        with claimed_work(target) as work:
            work.mkdir()
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == [".out.training"]
    with claimed_work(target):
        pass


def test_a_lock_whose_file_was_just_removed_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        """As if the run before us ended between our opening its file and locking it."""
        flock(descriptor, operation)
        (tmp_path / ".out.training.lock").unlink()

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(UsageError) as caught, claimed_work(tmp_path / "out"):
        pass
    assert caught.value.code == "ZD007"
