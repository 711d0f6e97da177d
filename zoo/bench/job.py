"""What every arm of a comparison is given: the same data, steps, batch, rank, learning rate and dtype."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from zoo.models import Dtype
from zoo.specs.release import Position

if TYPE_CHECKING:
    from zoo.training.plan import TrainingPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A training that several programs do.

    Attributes:
        data: JSONL of prompts and answers.
        eval_data: held-out samples; empty takes a part of the data.
        base: what `zoo.models.resolve` takes; empty is the default.
        invocation: what activates the adapter.
        position: where it stands.
        steps: optimiser steps.
        batch: samples a step.
        micro_batch: samples run at once.
        rank: of every adapted module.
        targets: module names; none is the default.
        learning_rate: at its highest; 0 is the optimiser's own.
        seed: of the split, the order of samples and the initial weights.
        max_tokens: longest sample.
        device: torch device.
        dtype: of the base weights.
        threads: of torch; 0 leaves them.
    """

    data: str
    eval_data: str = ""
    base: str = ""
    invocation: str = ""
    position: str = "after_prompt"
    steps: int = 50
    batch: int = 4
    micro_batch: int = 4
    rank: int = 32
    targets: tuple[str, ...] = ()
    learning_rate: float = 0.0
    seed: int = 0
    max_tokens: int = 4096
    device: str = "cpu"
    dtype: Dtype = "float32"
    threads: int = 0

    def plan(self) -> "TrainingPlan":
        """What is trained, without a model: the same in every process.

        Raises:
            ZooError: see `plan_training`.
        """
        from zoo.training.parts import DataSettings
        from zoo.training.plan import TrainSettings, plan_training

        held_out = Path(self.eval_data) if self.eval_data else None
        settings = TrainSettings.of(
            steps=self.steps,
            batch=self.batch,
            micro_batch=self.micro_batch,
            rank=self.rank,
            targets=self.targets,
            learning_rate=self.learning_rate,
            seed=self.seed,
            check_every=self.steps,
            warmup=min(10, max(1, self.steps // 10)),
            data=DataSettings(eval_data=held_out, max_tokens=self.max_tokens),
        )
        return plan_training(
            self.data,
            invocation_text=self.invocation,
            base=self.base,
            position=Position(self.position),
            settings=settings,
        )

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads what `write` wrote."""
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**content, "targets": tuple(content["targets"])})
