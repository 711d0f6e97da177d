"""What a training would do: everything that can be known before a model is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from zoo.errors import SpecError, UsageError
from zoo.evaluation.answers import choices
from zoo.models import DEFAULT, BaseModel, resolve, resolve_reference
from zoo.prompts import Invocation, Prompter
from zoo.specs.release import Position
from zoo.training import initial
from zoo.training.dataset import Encoded
from zoo.training.metric import decides
from zoo.training.optimise import Recipe
from zoo.training.parts import DataSettings, Parts, divide
from zoo.training.project import Project
from zoo.training.quantised import check_package

DEFAULT_TARGETS = ("q_proj", "k_proj", "v_proj")
Kind = Literal["alora", "lora"]
SHOWN = 60  # characters of a prompt
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
        load_in_4_bits: the base's weights are quantised to NF4, see `zoo.training.quantised`.
    """

    recipe: Recipe = field(default_factory=lambda: Recipe(steps=200))
    rank: int = 32
    alpha: float = 64.0
    targets: tuple[str, ...] = DEFAULT_TARGETS
    data: DataSettings = field(default_factory=DataSettings)
    kind: Kind = "alora"
    init: initial.Name = "kaiming"
    shared_a: int | None = None
    load_in_4_bits: bool = False

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
        load_in_4_bits: bool = False,
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
            load_in_4_bits: see the class.
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
            load_in_4_bits=load_in_4_bits,
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
        project: what its author wrote about it; the data was read through its `io.yaml`.
    """

    base: BaseModel
    invocation: Invocation
    parts: Parts
    settings: TrainSettings
    adapter: str = ""
    project: Project = field(default_factory=Project)

    def prefixes(self, samples: Sequence[Encoded]) -> Sequence[Encoded]:
        """Samples as this kind of adapter reads them: a plain LoRA acts on all tokens and has no prefix."""
        if self.settings.kind == "alora":
            return samples
        return [replace(sample, prefix=(), lead=sample.prefix + sample.lead) for sample in samples]

    def lines(self) -> list[str]:
        """The plan for people, a line a fact."""
        recipe = self.settings.recipe
        prefix = sum(len(sample.prefix) for sample in self.parts.train)
        options = choices([one.answer for part in (self.parts.train, self.parts.validation) for one in part])
        few = not decides(options, len(self.parts.validation))
        by = " (by loss: the metric is measured on too few)" if few else ""
        suffix = sum(len(sample.lead) + len(sample.answer) for sample in self.parts.train)
        return [
            f"base         {self.base.id}" + (" in 4 bits (NF4)" if self.settings.load_in_4_bits else ""),
            f"invocation   {self.invocation.text!r} = {list(self.invocation.ids)}, "
            f"{self.invocation.position.value}",
            f"adapter      {self._adapter()}",
            *self._contract(),
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

    def _contract(self) -> list[str]:
        """What of the first sample the adapter reads and shall say, where a contract decides it."""
        contract = self.project.contract
        if contract is None:
            return []
        prompter, first = Prompter(self.base), self.parts.train[0]
        read = prompter.decode(first.prefix + first.lead)
        return [
            f"contract     io.yaml, sha256 {contract.sha256[:12]}…: prompts and answers are those of zoo run",
            f"line {first.line:<8}…{read[-SHOWN:]!r} → {prompter.decode(first.answer)!r}",
        ]

    def to_document(self) -> dict[str, Any]:
        """The plan as plain data."""
        contract = self.project.contract
        return {
            "base": self.base.id,
            "invocation": {"text": self.invocation.text, "ids": list(self.invocation.ids)},
            "io_sha256": contract.sha256 if contract else None,
            "kind": self.settings.kind,
            "optimizer": self.settings.recipe.optimizer,
            "load_in_4_bits": self.settings.load_in_4_bits,
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
    invocation_text: str = "",
    base: str = "",
    position: Position | None = None,
    settings: TrainSettings | None = None,
    adapter: str = "",
    eval_adapter: str = "",
    pooled: Sequence[Path] = (),
    project: Project | None = None,
) -> TrainingPlan:
    """Reads, splits and tokenises the data; no torch.

    Args:
        data: JSONL of prompts and answers.
        invocation_text: what activates the adapter; the project's when left out.
        base: what `zoo.models.resolve` takes; the project's, or else the default.
        position: where the invocation stands; the project's, or else after the prompt.
        settings: see `TrainSettings`.
        adapter: see `zoo.training.parts.divide`.
        eval_adapter: see there.
        pooled: see there.
        project: what the author wrote: by its `io.yaml` prompts are rewritten and answers judged, as at
            inference.

    Raises:
        NotFoundError: no such file or base.
        SpecError: ZD001, ZD002, the data breaks its form or is too little; a target that the base lacks.
        RefusedError: ZI004 or ZD003, naming the line whose prompt lacks the invocation or is too long.
        UsageError: ZD006, settings that exclude each other; or nobody says what activates the adapter.
        MissingExtraError: a base in 4 bits without bitsandbytes.
    """
    settings, project = settings or TrainSettings(), project or Project()
    initial.check(
        settings.init,
        rank=settings.rank,
        optimizer=settings.recipe.optimizer,
        weight_decay=settings.recipe.weight_decay,
        shared_a=settings.shared_a,
    )
    if settings.load_in_4_bits:
        check_package()
    text, place = _activation(invocation_text, position, project)
    found = _base(base, project)
    for target in settings.targets:
        if not any(path.rpartition(".")[2] == target for path in found.linears):
            known = ", ".join(sorted({path.rpartition(".")[2] for path in found.linears}))
            raise SpecError(f"{found.id} has no module {target!r}", hint=f"it has {known}")
    prompter = Prompter(found)
    invocation = Invocation(text=text, ids=prompter.encode(text), position=place)
    parts = divide(
        Path(data),
        prompter,
        invocation,
        settings.data,
        seed=settings.recipe.seed,
        adapter=adapter,
        eval_adapter=eval_adapter,
        pooled=pooled,
        contract=project.contract,
    )
    return TrainingPlan(
        base=found,
        invocation=invocation,
        parts=parts,
        settings=settings,
        adapter=adapter,
        project=project,
    )


def _activation(text: str, position: Position | None, project: Project) -> tuple[str, Position]:
    said = project.spec.invocation if project.spec else None
    if not text and said is None:
        raise UsageError(
            "what activates the adapter is not said",
            hint=r'give --invocation "<|im_start|>check\n", or --project with a folder that zoo init made',
        )
    place = position or (said.position if said else Position.AFTER_PROMPT)
    return text or (said.text if said else ""), Position(place)


def _base(name: str, project: Project) -> BaseModel:
    if name or project.spec is None:
        return resolve(name or DEFAULT)
    return resolve_reference(project.spec.base)
