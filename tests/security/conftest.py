"""Fixtures of the security tests."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.validators.releases import build_release
from zoo.models import BaseModel


@pytest.fixture(scope="session")
def built_release(tiny_base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release in order; copied by whoever changes it."""
    return build_release(tiny_base, tmp_path_factory.mktemp("release") / "check")


@pytest.fixture
def release(built_release: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of a release in order, to be made hostile, and removed whatever it has become."""
    yield Path(shutil.copytree(built_release, tmp_path / "check"))
    subprocess.run(["rm", "-rf", str(tmp_path / "check")], check=True)  # deeper than Python removes
