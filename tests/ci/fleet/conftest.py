"""Orders and results without models: what a fleet does with them does not depend on what is in them."""

import datetime
from pathlib import Path

import pytest

from tests.releases import report_on, write_release
from zoo.ci.fleet.task import Finished, Order, Task
from zoo.render.json import to_document
from zoo.specs.policy import Policy
from zoo.validators.validate import Settings

TODAY = datetime.date(2026, 11, 23)


def order(**settings: str) -> Order:
    return Order(settings=Settings(**settings), policy=Policy(), today=TODAY)  # type: ignore[arg-type]


def result(
    task: Task, *, asked: dict[str, str] | None = None, shown: dict[str, str] | None = None
) -> Finished:
    report = to_document(report_on(task.folder)) | {"subject": str(task.folder)}
    return Finished(index=task.index, report=report, asked=asked or {}, shown=shown or {})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, in which journals are."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Six releases of one kind in a library."""
    return [write_release(tmp_path / "library" / f"adapter-{number}", seed=number) for number in range(6)]
