"""What a training would do: everything that can be known before a model is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import SpecError
from zoo.models import DEFAULT, BaseModel, resolve
from zoo.prompts import Invocation, Prompter
from zoo.specs.release import Position
from zoo.training.dataset import Truncation
from zoo.training.optimise import Recipe
from zoo.training.parts import DataSettings, Parts, divide

DEFAULT_TARGETS = ("q_proj", "k_proj", "v_proj")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How an aLoRA is trained.

    Attributes:
        recipe: of the optimisation.
        rank: of every adapted module; an aLoRA usually wants more than a LoRA.
        alpha: scale times rank while training; it is folded into B in the release.
        targets: module names that are adapted.
        data: how the data is split and encoded.
    """

    recipe: Recipe = field(default_factory=lambda: Recipe(steps=200))
    rank: int = 32
    alpha: float = 64.0
    targets: tuple[str, ...] = DEFAULT_TARGETS
    data: DataSettings = field(default_factory=DataSettings)

    @classmethod
    def of(
        cls,
        *,
        steps: int,
        batch: int,
        learning_rate: float,
        seed: int,
        rank: int,
        targets: Sequence[str],
        eval_data: Path | None,
        max_tokens: int,
        truncate: Truncation,
    ) -> "TrainSettings":
        """Settings from the options people set; alpha is twice the rank, the rest stays as it is."""
        return cls(
            recipe=Recipe(
                steps=steps, batch=batch, micro_batch=batch, learning_rate=learning_rate, seed=seed
            ),
            rank=rank,
            alpha=2.0 * rank,
            targets=tuple(targets) or DEFAULT_TARGETS,
            data=DataSettings(eval_data=eval_data, max_tokens=max_tokens, truncate=truncate),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What a training would do: everything that can be known before a model is loaded.

    Attributes:
        base: the base model.
        invocation: with its ids under the base's tokenizer.
        parts: the data.
        settings: how.
    """

    base: BaseModel
    invocation: Invocation
    parts: Parts
    settings: TrainSettings

    def lines(self) -> list[str]:
        """The plan for people, a line a fact."""
        recipe = self.settings.recipe
        prefix = sum(len(sample.prefix) for sample in self.parts.train)
        suffix = sum(len(sample.lead) + len(sample.answer) for sample in self.parts.train)
        return [
            f"base         {self.base.id}",
            f"invocation   {self.invocation.text!r} = {list(self.invocation.ids)}, "
            f"{self.invocation.position.value}",
            f"adapter      rank {self.settings.rank} on {', '.join(self.settings.targets)}",
            f"samples      {len(self.parts.train)} to train, {len(self.parts.validation)} to choose "
            f"the best step, {len(self.parts.held_out)} held out",
            f"tokens       {prefix:,} of prefix, run once without gradients; {suffix:,} of suffix an epoch",
            f"steps        {recipe.steps} of {recipe.batch} samples, learning rate {recipe.learning_rate:g}",
        ]

    def to_document(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            "base": self.base.id,
            "invocation": {"text": self.invocation.text, "ids": list(self.invocation.ids)},
            "rank": self.settings.rank,
            "targets": list(self.settings.targets),
            "samples": {
                "train": len(self.parts.train),
                "validation": len(self.parts.validation),
                "held_out": len(self.parts.held_out),
            },
            "steps": self.settings.recipe.steps,
        }


def plan_training(
    data: Path | str,
    *,
    invocation_text: str,
    base: str = DEFAULT,
    position: Position = Position.AFTER_PROMPT,
    settings: TrainSettings | None = None,
) -> TrainingPlan:
    """Reads, splits and tokenises the data; no torch.

    Args:
        data: JSONL of prompts and answers.
        invocation_text: what activates the adapter.
        base: what `zoo.models.resolve` takes.
        position: where the invocation stands.
        settings: see `TrainSettings`.

    Raises:
        NotFoundError: no such file or base.
        SpecError: ZD001, ZD002, the data breaks its form or is too little; a target that the base lacks.
        RefusedError: ZI004 or ZD003, naming the line whose prompt lacks the invocation or is too long.
    """
    settings = settings or TrainSettings()
    found = resolve(base)
    for target in settings.targets:
        if not any(path.rpartition(".")[2] == target for path in found.linears):
            known = ", ".join(sorted({path.rpartition(".")[2] for path in found.linears}))
            raise SpecError(f"{found.id} has no module {target!r}", hint=f"it has {known}")
    prompter = Prompter(found)
    invocation = Invocation(
        text=invocation_text, ids=prompter.encode(invocation_text), position=Position(position)
    )
    parts = divide(Path(data), prompter, invocation, settings.data, seed=settings.recipe.seed)
    return TrainingPlan(base=found, invocation=invocation, parts=parts, settings=settings)
