"""One task while it is optimised, alone or beside others."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.progress import Progress, silent
from zoo.training import optimisers
from zoo.training.course import Course, Optimised
from zoo.training.deal import Deal

if TYPE_CHECKING:
    from torch.nn import Parameter

    from zoo.training.optimise import Recipe, Task
    from zoo.training.optimisers import Steps
    from zoo.training.tracking import Tracker


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Who is told how a run goes.

    Attributes:
        label: the stage's name for progress.
        tracker: told each step's loss and each look's values.
        progress: told about each step.
    """

    label: str = "train"
    tracker: "Tracker | None" = None
    progress: Progress = field(default=silent)


@dataclass(slots=True, kw_only=True)
class Strand:
    """A task, its optimiser, and where it stands.

    Attributes:
        name: the task's among those beside it.
        task: what is optimised.
        recipe: how.
        trained: the parameters that are.
        optimizer: over them.
        settings: what a resumed run must agree on.
        course: so far.
        deal: how samples are drawn.
        told: who is told.
    """

    name: str
    task: "Task"
    recipe: "Recipe"
    trained: Mapping[str, "Parameter"]
    optimizer: "Steps"
    settings: Mapping[str, Any]
    course: Course
    deal: Deal
    told: Told
    _begun: float = field(default_factory=time.monotonic)
    _seen: int = 0

    @classmethod
    def begun(cls, name: str, task: "Task", recipe: "Recipe", *, folder: Path | None, told: Told) -> Self:
        """A fresh one, or what a folder's checkpoint holds.

        Raises:
            UsageError: ZD004, it is of a run with other settings; ZD006, see `optimisers.make`.
        """
        trained = optimisers.freeze(task.parameters, recipe.optimizer)
        optimizer = optimisers.make(
            task.parameters,
            recipe.optimizer,
            weight_decay=recipe.weight_decay,
            clip=recipe.clip,
            ratio=recipe.ratio,
        )
        settings = {**asdict(recipe), **task.identity, "processes": task.peers.count}
        return cls(
            name=name,
            task=task,
            recipe=recipe,
            trained=trained,
            optimizer=optimizer,
            settings=settings,
            course=Course.resumed(folder, settings, trained, optimizer),
            deal=task.deal or Deal.plain(task.samples),
            told=told,
        )

    @property
    def step(self) -> int:
        """The last step that was taken."""
        return len(self.course.losses)

    @property
    def ended(self) -> bool:
        """Whether none follows."""
        return self.step >= self.recipe.steps or self.recipe.exhausted(self.course.looks, self.course.at)

    def begin(self) -> None:
        """Looks at the weights before the first step, if it has not been taken."""
        if not self.course.looks:
            self.course.look(0, self.task.score(), self.trained)
        if self.told.tracker:
            self.told.tracker.begin(self.step)
        self._begun = time.monotonic()

    def tokens(self, step: int) -> int:
        """How many tokens of a step carry loss, those of all processes."""
        return sum(self.task.tokens[row] for row, _ in self.recipe.rows(step, self.deal))

    def parts(self, step: int) -> list[list[int]]:
        """What this process runs of a step, at once and one after another."""
        peers, size = self.task.peers, self.recipe.micro_batch
        drawn = self.recipe.rows(step, self.deal)
        rows = [row for row, lane in drawn if self.deal.owner(lane, peers.count) == peers.index]
        return [rows[begin : begin + size] for begin in range(0, len(rows), size)]

    def stepped(self, loss: float) -> None:
        """Takes a step into account, looks where it is time to, and tells."""
        course, recipe, told = self.course, self.recipe, self.told
        course.losses.append(loss)
        self._seen += self.tokens(self.step)
        if looked := self.step % recipe.check_every == 0 or self.step == recipe.steps:
            course.look(self.step, self.task.score(), self.trained)
        if told.tracker:
            values = {f"validation/{name}": value for name, value in course.looks[-1][1].items()}
            now = {"train/loss": loss, "train/rate": recipe.rate(self.step)}
            told.tracker.log(self.step, {**now, **(values if looked else {})})
        speed = self._seen / (time.monotonic() - self._begun)
        told.progress(told.label, done=self.step, total=recipe.steps, note=course.note(speed))

    def save(self, folder: Path) -> None:
        """Writes a checkpoint into a folder."""
        self.course.save(folder, self.settings, self.trained, self.optimizer)

    def kept(self) -> Optimised:
        """Leaves the best weights in the parameters."""
        for name, parameter in self.trained.items():
            parameter.data.copy_(self.course.best[name])
        return self.course.ended()
