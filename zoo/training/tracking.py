"""Experiment trackers: a run's losses and scores sent to a program that draws them while it goes on."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

from zoo.errors import MissingExtraError

Name = Literal["trackio", "tensorboard"]


class Tracker(Protocol):
    """What a run tells its course to."""

    def begin(self, step: int) -> None:
        """Says that `step` steps are done: 0, or where a killed run is resumed."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Tells the values of one step, by name."""

    def end(self) -> None:
        """Writes what is still in memory."""


def check_tracker(name: Name) -> None:
    """Looks whether a tracker is installed, before any work is done.

    Raises:
        MissingExtraError: it is not.
    """
    if find_spec(name) is None:
        raise MissingExtraError(
            f"--tracker {name} wants the package {name}, which is not installed",
            hint=f"pip install 'alora-zoo[{name}]'",
        )


def open_tracker(name: Name, *, folder: Path, project: str, run: str, settings: Mapping[str, Any]) -> Tracker:
    """A tracker of one run.

    Args:
        name: which.
        folder: where TensorBoard's event files go; trackio keeps its own place.
        project: trackio's.
        run: its name.
        settings: of the run, for the tracker to show.

    Raises:
        MissingExtraError: the package is not installed.
    """
    check_tracker(name)
    if name == "tensorboard":
        return _Tensorboard(folder)
    return _Trackio(project, run, settings)


class _Tensorboard:
    """Event files in a folder: `tensorboard --logdir FOLDER`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what a killed run wrote beyond its last checkpoint is run again: it must not be shown twice
        self._writer = SummaryWriter(str(self.folder), purge_step=step + 1)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)

    def end(self) -> None:
        self._writer.close()


class _Trackio:
    """Trackio's own store: `trackio show`."""

    def __init__(self, project: str, run: str, settings: Mapping[str, Any]) -> None:
        self._about = {"project": project, "name": run, "config": dict(settings)}

    def begin(self, step: int) -> None:
        import trackio

        self._module: Any = trackio
        trackio.init(**self._about, resume="allow" if step else "never")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._module.log(dict(values), step=step)

    def end(self) -> None:
        self._module.finish()
