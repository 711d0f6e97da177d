"""What somebody asks `zoo train` for: one adapter, several on shared prefixes, or a recorded one again."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import UsageError
from zoo.models import Dtype
from zoo.progress import Progress, silent
from zoo.specs.release import Position
from zoo.training import tracking
from zoo.training.plan import TrainingPlan, TrainSettings, plan_training
from zoo.training.project import Project

if TYPE_CHECKING:
    from zoo.training.repeat import Recorded, Repeated
    from zoo.training.several import SeveralPlans, SeveralTrained
    from zoo.training.train import Trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The command's options as one value.

    Attributes:
        data: JSONL of prompts and answers; with `{adapter}` in its name a file an adapter.
        out: the folder to make; of several adapters the one in which theirs are.
        name: of the release; this and the next six are the project's when empty, or what `repeat` recorded.
        base: what `zoo.models.resolve` takes.
        invocation: what activates the adapter; `{adapter}` stands for its name.
        position: where the invocation stands.
        version: semantic version.
        license: SPDX identifier.
        description: for the card.
        project: a folder with `zoo.yaml`, `io.yaml` and `NOTES.md`, or None; `{adapter}` stands for the name.
        io: an `io.yaml` alone, or None; likewise.
        adapters: names of several adapters; empty for one.
        repeat: a release whose training is done again, or None.
        settings: how; of these `repeat` uses `eval_data` alone, and neither device nor dtype nor tracker.
        device: torch device.
        dtype: of the base weights.
        tracker: an experiment tracker, or None.
        processes: how many train together.
        disk: a folder for prefixes that memory has no room for, or None.
    """

    data: Path
    out: Path
    name: str
    base: str
    invocation: str
    position: Literal["after_prompt", "generation_prompt", "in_message"] | None
    version: str
    license: str
    description: str
    project: Path | None
    io: Path | None
    adapters: tuple[str, ...]
    repeat: Path | None
    settings: TrainSettings
    device: str
    dtype: Dtype
    tracker: tracking.Name | None
    processes: int = 1
    disk: Path | None = None

    def outcome(
        self, progress: Progress = silent, *, dry_run: bool = False
    ) -> "TrainingPlan | SeveralPlans | Trained | SeveralTrained | Repeated":
        """The plan, or what came of doing it.

        Raises:
            ZooError: see `plan` and `run`.
        """
        return self.plan() if dry_run else self.run(progress)

    def plan(self) -> "TrainingPlan | SeveralPlans":
        """What would be done, without a model.

        Raises:
            ZooError: see `plan_training`.
        """
        if self.repeat:
            return plan_training(self.data, **self._recorded(self.repeat).what)
        if self.adapters:
            from zoo.training.several import plan_several

            return plan_several(self.data, self.adapters, **self._what(), projects=self._projects())
        return plan_training(self.data, **self._what(), project=self._project())

    def run(self, progress: Progress = silent) -> "Trained | SeveralTrained | Repeated":
        """Does it.

        Raises:
            ZooError: see `train`, `train_several` and `repeat`; and `launch` of several processes.
        """
        if self.processes > 1:
            from zoo.training.launch import launch

            self.plan()  # what is wrong with the request is said before anything is started
            each = replace(self, processes=1).run
            device = self._recorded(self.repeat).training.settings["device"] if self.repeat else self.device
            return launch(each, self.processes, device=device, progress=progress)
        if self.repeat:
            from zoo.training.repeat import repeat

            return repeat(
                self.repeat, self.data, self.out, base=self.base, eval_data=self._eval_data, progress=progress
            )
        how: dict[str, Any] = {
            "device": self.device, "dtype": self.dtype, "tracker": self.tracker, "disk": self.disk,
        }  # fmt: skip
        about: dict[str, Any] = {
            "version": self.version,
            "license": self.license,
            "description": self.description,
        }
        if self.adapters:
            from zoo.training.several import train_several

            return train_several(
                self.data, self.out, self.adapters, about=about, **self._what(), projects=self._projects(),
                **how, progress=progress,
            )  # fmt: skip
        from zoo.training.train import train

        return train(
            self.data, self.out, name=self.name, **about, **self._what(), project=self._project(),
            **how, progress=progress,
        )  # fmt: skip

    def _recorded(self, folder: Path) -> "Recorded":
        from zoo.training.repeat import recorded

        return recorded(folder, base=self.base, eval_data=self._eval_data)

    @property
    def _eval_data(self) -> Path | None:
        return self.settings.data.eval_data

    def _what(self) -> dict[str, Any]:
        return {
            "invocation_text": self.invocation,
            "base": self.base,
            "position": Position(self.position) if self.position else None,
            "settings": self.settings,
        }

    def _projects(self) -> dict[str, Project]:
        if self.name:
            raise UsageError(
                "--name and --adapters are given together", hint="each adapter has its own name", code="ZD006"
            )
        found = {name: self._project(name) for name in self.adapters}
        return {name: project for name, project in found.items() if project}

    def _project(self, adapter: str = "") -> Project | None:
        """What the author wrote; `{adapter}` in a path is the name of one of several."""
        if self.project and self.io:
            raise UsageError(
                "--project and --io are given together", hint="a project has its own io.yaml", code="ZD006"
            )
        if self.project:
            return Project.open(_named(self.project, adapter))
        return Project.of_contract(_named(self.io, adapter)) if self.io else None


def _named(path: Path, adapter: str) -> Path:
    from zoo.training.several import MARK

    return Path(str(path).replace(MARK, adapter)) if adapter else path
