"""What somebody asks `zoo train` for: one adapter, several on shared prefixes, or a recorded one again."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import UsageError
from zoo.models import DEFAULT, Dtype
from zoo.progress import Progress, silent
from zoo.specs.release import Position
from zoo.training import tracking
from zoo.training.plan import TrainingPlan, TrainSettings, plan_training

if TYPE_CHECKING:
    from zoo.training.repeat import Repeated
    from zoo.training.several import SeveralPlans, SeveralTrained
    from zoo.training.train import Trained


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The command's options as one value.

    Attributes:
        data: JSONL of prompts and answers; with `{adapter}` in its name a file an adapter.
        out: the folder to make; of several adapters the one in which theirs are.
        name: of the release; the folder's own when empty.
        base: what `zoo.models.resolve` takes; the default when empty, or what `repeat` recorded.
        invocation: what activates the adapter; `{adapter}` stands for its name.
        position: where the invocation stands.
        version: semantic version.
        license: SPDX identifier.
        description: for the card.
        adapters: names of several adapters; empty for one.
        repeat: a release whose training is done again, or None.
        settings: how; unused by `repeat`.
        device: torch device.
        dtype: of the base weights.
        tracker: an experiment tracker, or None.
    """

    data: Path
    out: Path
    name: str
    base: str
    invocation: str
    position: Literal["after_prompt", "generation_prompt", "in_message"]
    version: str
    license: str
    description: str
    adapters: tuple[str, ...]
    repeat: Path | None
    settings: TrainSettings
    device: str
    dtype: Dtype
    tracker: tracking.Name | None

    def plan(self) -> "TrainingPlan | SeveralPlans":
        """What would be done, without a model.

        Raises:
            ZooError: see `plan_training`.
        """
        if self.repeat:
            from zoo.training.repeat import recorded

            return plan_training(
                self.data, **recorded(self.repeat, base=self.base, eval_data=self._eval_data).what
            )
        if self.adapters:
            from zoo.training.several import plan_several

            return plan_several(self.data, self.adapters, **self._what())
        return plan_training(self.data, **self._what())

    def run(self, progress: Progress = silent) -> "Trained | SeveralTrained | Repeated":
        """Does it.

        Raises:
            ZooError: see `train`, `train_several` and `repeat`.
        """
        if self.repeat:
            from zoo.training.repeat import repeat

            return repeat(
                self.repeat, self.data, self.out, base=self.base, eval_data=self._eval_data, progress=progress
            )
        how: dict[str, Any] = {"device": self.device, "dtype": self.dtype, "tracker": self.tracker}
        about: dict[str, Any] = {
            "version": self.version,
            "license": self.license,
            "description": self.description,
        }
        if self.adapters:
            from zoo.training.several import train_several

            return train_several(
                self.data, self.out, self.adapters, about=about, **self._what(), **how, progress=progress
            )
        from zoo.training.train import train

        name = self.name or self.out.absolute().name
        return train(self.data, self.out, name=name, **about, **self._what(), **how, progress=progress)

    @property
    def _eval_data(self) -> Path | None:
        return self.settings.data.eval_data

    def _what(self) -> dict[str, Any]:
        if not self.invocation:
            raise UsageError(
                "what activates the adapter is not said", hint=r'--invocation "<|im_start|>check\n"'
            )
        return {
            "invocation_text": self.invocation,
            "base": self.base or DEFAULT,
            "position": Position(self.position),
            "settings": self.settings,
        }
