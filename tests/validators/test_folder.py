"""What lies in a folder: links, the Hub client's cache, git, too much."""

import os
from pathlib import Path

import pytest

from zoo import provenance
from zoo.errors import RefusedError
from zoo.validators.folder import entries


def names(root: Path) -> dict[str, str]:
    return {entry.name: entry.kind for entry in entries(root)}


def test_a_snapshot_in_the_hub_clients_cache_is_plain_files(tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    snapshot = repository / "snapshots" / ("a" * 40)
    (repository / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (repository / "blobs" / "123").write_text("{}")
    (snapshot / "adapter_config.json").symlink_to("../../blobs/123")
    assert names(snapshot) == {"adapter_config.json": "file"}
    assert entries(snapshot)[0].size_bytes == 2


@pytest.mark.parametrize("target", ["../../../secret", "../../../blobs/secret", "../../blobs/missing"])
def test_other_links_are_links(target: str, tmp_path: Path) -> None:
    repository = tmp_path / "models--org--name"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "blobs" / "secret").write_text("x")
    (snapshot / "NOTES.md").symlink_to(target)
    assert names(snapshot) == {"NOTES.md": "link"}


def test_a_linked_folder_is_a_link_and_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x").touch()
    (tmp_path / "a" / "sub").symlink_to(tmp_path / "outside")
    assert names(tmp_path / "a") == {"sub": "link"}


def test_pipes_are_neither(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == {"pipe": "other"}


def test_what_git_and_the_hub_client_keep_is_left_out_at_the_top_only(tmp_path: Path) -> None:
    for name in (".git", ".cache/huggingface", "sub/.git"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x").touch()
    assert names(tmp_path) == {"sub/.git/x": "file"}


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "MAX_ENTRIES", 3)
    for index in range(3):
        (tmp_path / str(index)).touch()
    assert len(names(tmp_path)) == 3
    (tmp_path / "3").touch()
    with pytest.raises(RefusedError, match="more than 3 files"):
        entries(tmp_path)
