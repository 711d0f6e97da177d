import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from zoo.errors import MissingExtraError
from zoo.training.tracking import check_tracker, open_tracker


def test_a_tracker_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoo.training.tracking.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"alora-zoo\[trackio\]"):
        check_tracker("trackio")
    with pytest.raises(MissingExtraError, match=r"alora-zoo\[tensorboard\]"):
        open_tracker("tensorboard", folder=Path("x"), project="p", run="r", settings={})


def told(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, round(event.value, 4)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_reads_the_course_and_what_is_run_again_once(tmp_path: Path) -> None:
    first = open_tracker("tensorboard", folder=tmp_path, project="p", run="r", settings={})
    first.begin(0)
    for step in (1, 2, 3):
        first.log(step, {"train/loss": 1.0 / step})
    first.end()
    resumed = open_tracker("tensorboard", folder=tmp_path, project="p", run="r", settings={})
    resumed.begin(2)  # killed after step 3, whose checkpoint was of step 2
    resumed.log(3, {"train/loss": 0.25, "validation/accuracy": 0.5})
    resumed.end()
    assert told(tmp_path) == {
        "train/loss": [(1, 1.0), (2, 0.5), (3, 0.25)],
        "validation/accuracy": [(3, 0.5)],
    }


def test_trackio_is_told_project_settings_and_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []
    stub: Any = ModuleType("trackio")
    stub.__spec__ = object()
    stub.init = lambda **given: calls.append(("init", given))
    stub.log = lambda values, step: calls.append(("log", (step, values)))
    stub.finish = lambda: calls.append(("finish", None))
    monkeypatch.setitem(sys.modules, "trackio", stub)
    tracker = open_tracker("trackio", folder=Path("x"), project="p", run="r", settings={"rank": 4})
    tracker.begin(0)
    tracker.log(1, {"train/loss": 2.0})
    tracker.end()
    assert calls == [
        ("init", {"project": "p", "name": "r", "config": {"rank": 4}, "resume": "never"}),
        ("log", (1, {"train/loss": 2.0})),
        ("finish", None),
    ]
