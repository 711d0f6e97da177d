"""Fixtures of the static checks' tests."""

import shutil
from pathlib import Path

import pytest

from tests.validators.releases import build_release
from zoo.models import BaseModel


@pytest.fixture(scope="session")
def built_release(tiny_base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release in order; copied by whoever changes it."""
    return build_release(tiny_base, tmp_path_factory.mktemp("release") / "check")


@pytest.fixture
def release(built_release: Path, tmp_path: Path) -> Path:
    """A copy of a release in order, to be broken."""
    return Path(shutil.copytree(built_release, tmp_path / "check"))
