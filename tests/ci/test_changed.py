"""Which adapters of a library changed since a commit."""

from pathlib import Path

import pytest

from tests.ci.conftest import git
from tests.publishing.conftest import REPO, hub  # noqa: F401  # a fixture
from zoo.ci.changed import changed_folders
from zoo.ci.gate import Gate, chosen
from zoo.cli import run as run_zoo
from zoo.errors import UndecidedError, UsageError
from zoo.provenance import sha256_bytes
from zoo.specs.policy import Suite


def test_what_changed_since_a_commit(library: Path) -> None:
    folders = [library / "one_lora", library / "two_lora"]
    assert changed_folders(folders, "before") == []
    (library / "two_lora" / "NOTES.md").write_text("new, and not even added")
    assert changed_folders(folders, "before") == [folders[1]]
    git(library, "add", ".")
    git(library, "commit", "-qm", "second")
    assert changed_folders(folders, "before") == [folders[1]]
    (library / "one_lora" / "adapter_config.json").unlink()
    assert changed_folders(folders, "before") == folders
    git(library, "checkout", "-q", ".")
    (library / "zoo-gate.yaml").write_text("required: []")  # another policy concerns everybody
    assert changed_folders(folders, "HEAD") == folders


def test_a_file_that_moved_away_is_a_change_where_it_was(library: Path) -> None:
    (library / "one_lora" / "a.bin").write_bytes(b"weights" * 100)
    git(library, "add", ".")
    git(library, "commit", "-qm", "second")
    git(library, "mv", "one_lora/a.bin", "two_lora/a.bin")
    folders = [library / "one_lora", library / "two_lora"]
    assert changed_folders(folders, "HEAD") == folders


def test_what_git_ignores_may_have_changed(library: Path) -> None:
    folders = [library / "one_lora", library / "two_lora"]
    (library / ".gitignore").write_text("*.safetensors\n.cache\n")
    git(library, "add", ".")
    git(library, "commit", "-qm", "second")
    (library / "one_lora" / ".cache").mkdir()
    (library / "one_lora" / ".cache" / "client").write_text("x")
    assert changed_folders(folders, "HEAD") == []
    (library / "two_lora" / "adapter_model.safetensors").write_bytes(b"x")
    assert changed_folders(folders, "HEAD") == [folders[1]]


def test_each_adapter_is_asked_about_in_its_own_repository(library: Path) -> None:
    inner = library / "inner"
    (inner / "three_lora").mkdir(parents=True)
    (inner / "three_lora" / "adapter_config.json").write_text("{}")
    git(library, "init", "-q", str(inner))
    git(inner, "add", ".")
    git(inner, "commit", "-qm", "first")
    (inner / "three_lora" / "adapter_config.json").write_text("{ }")
    folders = [library / "one_lora", inner / "three_lora"]
    assert changed_folders(folders, "HEAD") == [folders[1]]


def test_in_a_hook_of_git_the_same_has_changed(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [library / "one_lora", library / "two_lora"]
    (folders[1] / "NOTES.md").write_text("new")
    monkeypatch.setenv("GIT_DIR", str(library / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(library / ".git" / "index"))
    assert changed_folders(folders, "HEAD") == [folders[1]]


def test_a_policy_of_any_name_concerns_everybody(library: Path) -> None:
    folders = [library / "one_lora", library / "two_lora"]
    (library / "strict.yaml").write_text("required: []")
    assert changed_folders(folders, "HEAD") == []
    assert changed_folders(folders, "HEAD", policy=library / "strict.yaml") == folders


def test_a_sample_that_is_not_the_bound_one_concerns_everybody(library: Path) -> None:
    """The policy is the same, and ZG006 would be red on every adapter: not one may be passed over."""
    data = library / "eval.jsonl"
    suite = Suite(name="one", data=str(data), sha256=sha256_bytes(b"frozen"))
    folders = [library / "one_lora", library / "two_lora"]
    data.write_bytes(b"frozen")
    assert chosen([library], since="HEAD", suites=[suite]) == []
    data.write_bytes(b"thawed")
    assert chosen([library], since="HEAD", suites=[suite]) == folders
    data.unlink()
    assert chosen([library], since="HEAD", suites=[suite]) == folders


@pytest.mark.parametrize("since", ["no-such-tag", "--output=/tmp/x", "f" * 40])
def test_what_is_no_commit_is_refused(library: Path, since: str) -> None:
    with pytest.raises(UsageError):
        changed_folders([library / "one_lora"], since)


def test_outside_a_repository_what_changed_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(UndecidedError):
        changed_folders([tmp_path / "a"], "HEAD")


def test_nothing_changed_is_a_verdict_and_nothing_found_is_none(
    library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Gate(reports=[]).exit_code == 3
    assert run_zoo(["gate", str(library), "--since", "before"]) == 0
    assert "no adapter changed since before" in capsys.readouterr().out
    assert run_zoo(["gate", str(library), "--since", "before", "--policy", str(library / "none.yaml")]) == 2
