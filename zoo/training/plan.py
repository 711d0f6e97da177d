"""What a training would do: everything that can be known before a model is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from zoo.errors import SpecError
from zoo.models import DEFAULT, BaseModel, resolve
from zoo.prompts import Invocation, Prompter
from zoo.specs.release import Position
from zoo.training import initial
from zoo.training.dataset import Encoded, Rewrite
from zoo.training.metric import DECISIVE, Read
from zoo.training.optimise import Recipe
from zoo.training.parts import DataSettings, Parts, divide

DEFAULT_TARGETS = ("q_proj", "k_proj", "v_proj")
Kind = Literal["alora", "lora"]
# that of lora+ is A's; B's is 16 times as high
RATES = {"adamw": 1e-3, "lora+": 2e-4, "lora-fa": 1e-3, "lora-rite": 1e-3}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSettings:
    """How an aLoRA is trained.

    Attributes:
        recipe: of the optimisation.
        rank: of every adapted module; an aLoRA usually wants more than a LoRA.
        alpha: scale times rank while training; it is folded into B in the release.
        targets: module names that are adapted.
        data: how the data is split and encoded.
        kind: `alora`; or `lora`, a plain LoRA of the same rank that acts on every token, to compare with.
        init: the weights it starts from, see `zoo.training.initial`.
        shared_a: seed of an A that is not trained and that all adapters with this seed share; None trains A.
    """

    recipe: Recipe = field(default_factory=lambda: Recipe(steps=200))
    rank: int = 32
    alpha: float = 64.0
    targets: tuple[str, ...] = DEFAULT_TARGETS
    data: DataSettings = field(default_factory=DataSettings)
    kind: Kind = "alora"
    init: initial.Name = "kaiming"
    shared_a: int | None = None

    @classmethod
    def of(
        cls,
        *,
        batch: int,
        micro_batch: int = 0,
        rank: int,
        targets: Sequence[str] = (),
        data: DataSettings,
        kind: Kind = "alora",
        init: initial.Name = "kaiming",
        shared_a: int | None = None,
        **recipe: Any,
    ) -> Self:
        """Settings from the options people set; alpha is twice the rank, the rest stays as it is.

        Args:
            batch: samples a step.
            micro_batch: samples run at once; 0 is all of a step.
            rank: of every adapted module.
            targets: module names; none is the default.
            data: how the data is split and encoded.
            kind: see the class.
            init: see the class.
            shared_a: see the class.
            recipe: fields of `Recipe`; a learning rate of 0 is the optimiser's own.
        """
        name = recipe.get("optimizer", "adamw")
        recipe["learning_rate"] = recipe.get("learning_rate") or RATES[name]
        return cls(
            recipe=Recipe(batch=batch, micro_batch=micro_batch or batch, **recipe),
            rank=rank,
            alpha=2.0 * rank,
            targets=tuple(targets) or DEFAULT_TARGETS,
            data=data,
            kind=kind,
            init=init,
            shared_a=shared_a,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What a training would do: everything that can be known before a model is loaded.

    Attributes:
        base: the base model.
        invocation: with its ids under the base's tokenizer.
        parts: the data.
        settings: how.
        adapter: its name, where several are trained together.
        read: how replies are read, where the adapter has an I/O contract; see `zoo.training.metric`.
    """

    base: BaseModel
    invocation: Invocation
    parts: Parts
    settings: TrainSettings
    adapter: str = ""
    read: Read | None = None

    def prefixes(self, samples: Sequence[Encoded]) -> Sequence[Encoded]:
        """Samples as this kind of adapter reads them: a plain LoRA acts on all tokens and has no prefix."""
        if self.settings.kind == "alora":
            return samples
        return [replace(sample, prefix=(), lead=sample.prefix + sample.lead) for sample in samples]

    def lines(self) -> list[str]:
        """The plan for people, a line a fact."""
        recipe = self.settings.recipe
        prefix = sum(len(sample.prefix) for sample in self.parts.train)
        by = " (by loss: too few for the metric)" if len(self.parts.validation) < DECISIVE else ""
        suffix = sum(len(sample.lead) + len(sample.answer) for sample in self.parts.train)
        return [
            f"base         {self.base.id}",
            f"invocation   {self.invocation.text!r} = {list(self.invocation.ids)}, "
            f"{self.invocation.position.value}",
            f"adapter      {self._adapter()}",
            f"samples      {len(self.parts.train)} to train, {len(self.parts.validation)} to choose "
            f"the best step{by}, {len(self.parts.held_out)} held out",
            f"tokens       {prefix:,} of prefix, run once without gradients; {suffix:,} of suffix an epoch"
            if self.settings.kind == "alora"
            else f"tokens       {prefix + suffix:,} an epoch, all with gradients: a LoRA keeps no prefix",
            f"steps        {recipe.steps} of {recipe.batch} samples, {recipe.optimizer}, learning rate "
            f"{recipe.learning_rate:g}" + (f", patience {recipe.patience}" if recipe.patience else ""),
        ]

    def _adapter(self) -> str:
        settings = self.settings
        said = f"{settings.kind}, rank {settings.rank} on {', '.join(settings.targets)}, {settings.init}"
        if settings.init in initial.HALVED:
            said += f" (rank {settings.rank // 2} of it trained)"
        return said if settings.shared_a is None else f"{said}, A shared (seed {settings.shared_a})"

    def to_document(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            "base": self.base.id,
            "invocation": {"text": self.invocation.text, "ids": list(self.invocation.ids)},
            "kind": self.settings.kind,
            "optimizer": self.settings.recipe.optimizer,
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
    adapter: str = "",
    eval_adapter: str = "",
    pooled: Sequence[Path] = (),
    rewrite: Rewrite | None = None,
    read: Read | None = None,
) -> TrainingPlan:
    """Reads, splits and tokenises the data; no torch.

    Args:
        data: JSONL of prompts and answers.
        invocation_text: what activates the adapter.
        base: what `zoo.models.resolve` takes.
        position: where the invocation stands.
        settings: see `TrainSettings`.
        adapter: see `zoo.training.parts.divide`.
        eval_adapter: see there.
        pooled: see there.
        rewrite: of the adapter's I/O contract, the one that inference uses.
        read: of the contract too: a reply and its sample's line to the reply's value.

    Raises:
        NotFoundError: no such file or base.
        SpecError: ZD001, ZD002, the data breaks its form or is too little; a target that the base lacks.
        RefusedError: ZI004 or ZD003, naming the line whose prompt lacks the invocation or is too long.
        UsageError: ZD006, settings that exclude each other.
    """
    settings = settings or TrainSettings()
    initial.check(
        settings.init,
        rank=settings.rank,
        optimizer=settings.recipe.optimizer,
        weight_decay=settings.recipe.weight_decay,
        shared_a=settings.shared_a,
    )
    found = resolve(base)
    for target in settings.targets:
        if not any(path.rpartition(".")[2] == target for path in found.linears):
            known = ", ".join(sorted({path.rpartition(".")[2] for path in found.linears}))
            raise SpecError(f"{found.id} has no module {target!r}", hint=f"it has {known}")
    prompter = Prompter(found)
    invocation = Invocation(
        text=invocation_text, ids=prompter.encode(invocation_text), position=Position(position)
    )
    parts = divide(
        Path(data),
        prompter,
        invocation,
        settings.data,
        seed=settings.recipe.seed,
        adapter=adapter,
        eval_adapter=eval_adapter,
        pooled=pooled,
        rewrite=rewrite,
    )
    return TrainingPlan(
        base=found, invocation=invocation, parts=parts, settings=settings, adapter=adapter, read=read
    )
