import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from zoo.errors import UsageError
from zoo.staging import exchange, remove_leftovers, staged_folder, write_file


def tree(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    with staged_folder(target) as stage:
        (stage / "sub").mkdir()
        (stage / "sub" / "a").write_text("1")
        assert stage.parent == target.parent
        assert not target.exists()
    assert tree(target) == {"sub/a": "1"}
    assert hidden(target.parent) == []
    assert target.stat().st_mode & 0o777 == 0o755


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    def work() -> None:
        with staged_folder(tmp_path / "out") as stage:
            (stage / "a").write_text("1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert list(tmp_path.iterdir()) == []


def test_replacing_exchanges_the_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with staged_folder(target) as stage:
        (stage / "old").write_text("1")
    with staged_folder(target, replace=True) as stage:
        (stage / "new").write_text("2")
        assert tree(target) == {"old": "1"}
    assert tree(target) == {"new": "2"}
    assert hidden(tmp_path) == []


def test_what_cannot_become_the_target_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("1")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "full")
    for name in ("full", "file", "link"):
        with pytest.raises(UsageError), staged_folder(tmp_path / name):
            pytest.fail("the block ran")
    with pytest.raises(UsageError), staged_folder(tmp_path / "link", replace=True):
        pytest.fail("the block ran")
    (tmp_path / "empty").mkdir()
    with staged_folder(tmp_path / "empty") as stage:
        (stage / "a").write_text("1")
    assert tree(tmp_path / "empty") == {"a": "1"}


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from zoo import staging

    target, moment = Path(sys.argv[1]), sys.argv[2]
    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    real = staging.exchange
    def after(*paths):
        real(*paths)
        die()

    if moment == "syncing":
        staging._sync_tree = die
    if moment == "exchanging":
        staging.exchange = die
    if moment == "exchanged":
        staging.exchange = after
    with staging.staged_folder(target, replace=True) as stage:
        (stage / "new").write_text("2")
        if moment == "writing":
            die()
        (stage / "more").write_text("3")
"""


@pytest.mark.parametrize(
    ("moment", "left"),
    [
        ("writing", {"old": "1"}),
        ("syncing", {"old": "1"}),
        ("exchanging", {"old": "1"}),
        ("exchanged", {"new": "2", "more": "3"}),
    ],
)
def test_killed_at_any_moment_the_folder_is_old_or_new(
    tmp_path: Path, moment: str, left: dict[str, str]
) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("1")
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(target), moment], check=False)
    assert done.returncode == -signal.SIGKILL
    assert tree(target) == left
    assert len(hidden(tmp_path)) == 1
    with staged_folder(target, replace=True) as stage:  # the next run cleans up after the killed one
        (stage / "newest").write_text("4")
    assert tree(target) == {"newest": "4"}
    assert hidden(tmp_path) == []


LOOPING = """
    import sys
    from pathlib import Path
    from zoo.staging import staged_folder

    target = Path(sys.argv[1])
    for generation in range(10**6):
        with staged_folder(target, replace=True) as stage:
            for name in "abcdef":
                (stage / name).write_text(str(generation))
"""


def test_killed_at_random_moments_it_is_never_a_mixture(tmp_path: Path) -> None:
    target = tmp_path / "out"
    command = [sys.executable, "-c", textwrap.dedent(LOOPING), str(target)]
    seen = set()
    for attempt in range(8):
        process = subprocess.Popen(command)
        try:
            deadline = time.monotonic() + 20
            while not target.exists() and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(0.01 + 0.007 * attempt)
        finally:
            process.kill()
            process.wait()
        found = tree(target)
        assert sorted(found) == list("abcdef")
        assert len(set(found.values())) == 1
        seen.add(found["a"])
        with staged_folder(target, replace=True) as stage:
            for name in "abcdef":
                (stage / name).write_text("start")
    assert seen != {"start"}  # the writer did get somewhere
    assert hidden(tmp_path) == []


def test_only_the_dead_leave_leftovers(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    dead = tmp_path / f".out.zoo-{done.pid}-x"
    alive = tmp_path / f".out.zoo-{os.getpid()}-x"
    foreign = tmp_path / ".other.zoo-1-x"
    odd = tmp_path / ".out.zoo-notanumber-x"
    for folder in (dead, alive, foreign, odd):
        folder.mkdir()
    remove_leftovers(tmp_path / "out")
    assert sorted(path.name for path in hidden(tmp_path)) == sorted(p.name for p in (alive, foreign, odd))


def test_a_target_with_glob_characters_cleans_only_its_own(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    other = tmp_path / f".outA.zoo-{done.pid}-x"
    own = tmp_path / f".out[A].zoo-{done.pid}-x"
    other.mkdir()
    own.mkdir()
    remove_leftovers(tmp_path / "out[A]")
    assert hidden(tmp_path) == [other]


def test_exchange_is_one_step_and_fails_without_change(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    exchange(one, two)
    assert (tree(one), tree(two)) == ({"name": "two"}, {"name": "one"})
    with pytest.raises(FileNotFoundError):
        exchange(one, tmp_path / "three")
    assert tree(one) == {"name": "two"}


def test_write_file_is_whole_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    write_file(path, b"old")
    assert path.stat().st_mode & 0o777 == 0o644

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
