"""The client's own command line, `hf`, against the Hub."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub.server import HubServer


class Hf:
    """The command `hf`, which must succeed; a call returns what it printed."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def __call__(self, *arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("hf")), *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def hf(hub: HubServer, tmp_path: Path) -> Hf:
    return Hf(os.environ | hub.environment(tmp_path / "home", xet=False))


def test_a_release_by_hand(hub: HubServer, hf: Hf, tmp_path: Path) -> None:
    folder = tmp_path / "release"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    assert "tester" in hf("auth", "whoami")
    hf("repos", "create", "org/other")
    hf("upload", "org/other", str(folder), ".", "--commit-message", "Release")
    hf("repos", "tag", "create", "org/other", "v1.0.0")
    assert "v1.0.0" in hf("repos", "tag", "list", "org/other")
    hf("download", "org/other", "--revision", "v1.0.0")
    hf("cache", "verify", "org/other", "--revision", "v1.0.0")
    assert hub.store.contents("org/other", "v1.0.0")["adapter_model.safetensors"] == b"weights"
    assert [one["id"] for one in json.loads(hf("models", "list", "--author", "org", "--json"))] == [
        "org/name",
        "org/other",
    ]


def test_a_pull_request_by_hand(hub: HubServer, hf: Hf, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ours\n")
    hf("upload", "org/name", str(tmp_path / "a.txt"), "--create-pr", "--commit-message", "Propose")
    assert "Propose" in hf("discussions", "list", "org/name")
    hf("discussions", "comment", "org/name", "1", "--body", "Checks passed")
    assert "+ours" in hf("discussions", "diff", "org/name", "1")
    assert "a.txt" not in hub.store.contents("org/name")
    hf("discussions", "merge", "org/name", "1", "--yes")
    assert hub.store.contents("org/name")["a.txt"] == b"ours\n"
