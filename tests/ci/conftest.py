"""A library of adapters in a git repository."""

import subprocess
from pathlib import Path

import pytest


def git(folder: Path, *arguments: str) -> None:
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A repository of two adapters, committed and tagged `before`."""
    root = tmp_path / "library"
    for name in ("one", "two"):
        (root / f"{name}_lora").mkdir(parents=True)
        (root / f"{name}_lora" / "adapter_config.json").write_text("{}")
    git(tmp_path, "init", "-q", str(root))
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    git(root, "tag", "before")
    return root
