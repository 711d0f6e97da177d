"""How a relabelled LoRA is recovered, and why a recovery ended."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from zoo.evaluation.verdict import MARGIN
from zoo.training.course import Optimised
from zoo.training.optimise import Recipe
from zoo.training.optimisers import Name
from zoo.training.parts import DataSettings
from zoo.training.plan import RATES

STEPS, BATCH = 100, 8
CHECK_EVERY, PATIENCE = 5, 10
CALM = 0.3  # of the optimiser's own rate, at least: larger steps lead away from a start as close as this


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why a recovery ended.

    Attributes:
        settled: it came no closer to the teacher; else its steps were used up.
        said: in words.
    """

    settled: bool
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilSettings:
    """How a relabelled LoRA is recovered.

    Attributes:
        recipe: of the optimisation; its patience ends a recovery that comes no closer on unseen prompts.
        label_weight: share of the cross-entropy on the data's own answers in the loss; the rest is KL.
        data: how the data is split and encoded.
        teacher_top_k: tokens whose probability is kept of each of the teacher's predictions, the others
            together as one; 0 keeps the whole vocabulary.
        margin: how much of the metric may be lost, at most, to be called equivalent.
        calibrate: whether queries and output projections are fitted in closed form before the first step;
            see `zoo.training.calibration`.
        calm: whether steps are the smaller the closer a calibration came; not where people set their size.
        control: whether a degraded result is held against a fresh LoRA on the whole prompt.
    """

    recipe: Recipe = field(
        default_factory=lambda: Recipe(
            steps=STEPS, batch=BATCH, micro_batch=BATCH, warmup=8, check_every=CHECK_EVERY, patience=PATIENCE
        )
    )
    label_weight: float = 0.0
    data: DataSettings = field(default_factory=lambda: DataSettings(held_out=0.3, validation=0.15))
    teacher_top_k: int = 0
    margin: float = MARGIN
    calibrate: bool = False
    calm: bool = False
    control: bool = True

    @classmethod
    def of(
        cls,
        *,
        steps: int = STEPS,
        eval_data: Path | None = None,
        learning_rate: float = 0.0,
        batch: int = BATCH,
        optimizer: Name = "adamw",
        patience: int = PATIENCE,
        max_tokens: int = 0,
        calibrate: bool = False,
        **more: Any,
    ) -> Self:
        """The defaults with what people set.

        Args:
            steps: optimiser steps, at most.
            eval_data: a data file of its own to measure on.
            learning_rate: 0 is the optimiser's own, and less of it behind a calibration; see `behind`.
            batch: samples a step.
            optimizer: see `zoo.training.optimisers`.
            patience: looks without a closer one after which it ends; 0 is never.
            max_tokens: longest sample; 0 is the default.
            calibrate: see the class.
            more: other fields of the class.
        """
        chosen = cls(calibrate=calibrate, calm=calibrate and not learning_rate, **more)
        return replace(
            chosen,
            recipe=replace(
                chosen.recipe,
                steps=steps,
                learning_rate=learning_rate or RATES[optimizer],
                batch=batch,
                micro_batch=batch,
                optimizer=optimizer,
                patience=patience,
            ),
            data=replace(chosen.data, eval_data=eval_data, max_tokens=max_tokens or chosen.data.max_tokens),
        )

    def behind(self, left: float) -> Self:
        """The settings of the steps behind a calibration.

        Args:
            left: of the divergence from the teacher, the share that it left; 1 where it was taken back.
        """
        if not self.calm:
            return self
        # one digit: a run that goes on calibrates again, and must not differ by how its sums were rounded
        rate = float(f"{self.recipe.learning_rate * min(1.0, max(CALM, left)):.0e}")
        return replace(self, recipe=replace(self.recipe, learning_rate=rate))

    def identity(self) -> dict[str, Any]:
        """What decides the teacher's predictions, as JSON values."""
        data = asdict(self.data)
        del data["eval_data"]  # its digest says more than its path
        return {"split": data, "seed": self.recipe.seed, "teacher_top_k": self.teacher_top_k}

    def ending(self, optimised: Optimised) -> Ending:
        """Why a run ended."""
        steps, best = len(optimised.losses), optimised.best_step
        kept = "the start was kept" if best == 0 else f"step {best} was kept"
        if self.recipe.exhausted(optimised.looks, best):  # which may be at the very last step
            looks = f"{self.recipe.patience} looks at unseen prompts"
            return Ending(
                settled=True, said=f"at step {steps} of {self.recipe.steps}, no closer in {looks}; {kept}"
            )
        return Ending(settled=False, said=f"all {steps} steps were run; {kept}")
