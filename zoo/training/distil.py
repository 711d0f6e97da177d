"""Recovery of a relabelled LoRA: distillation from the LoRA it was, measured on data held out.

Relabelling changes what the adapter reads: the base's keys and values where it learnt its own. Started from
the same weights, the student (adapter on the suffix only) is pulled to the teacher (adapter on the whole
prompt) by the KL divergence of their predictions of the answer tokens.
Source: Hinton et al. 2015, arXiv 1503.02531, at temperature 1; warm start against cold start measured on
toy tasks, where cold starts were still at chance when warm ones had finished.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import SpecError
from zoo.evaluation.answers import accuracy, answer_all, choices, trivial_accuracy
from zoo.models import BaseModel, Dtype, load_model
from zoo.peft_model import attach
from zoo.progress import Progress, silent
from zoo.prompts import Invocation, Prompter
from zoo.provenance import package_versions
from zoo.specs.lock import BehaviourRecord, TrainingRecord
from zoo.training.dataset import Encoded
from zoo.training.optimise import Optimised, Recipe, Task, optimise
from zoo.training.parts import DataSettings, Parts, divide
from zoo.training.prefix import PrefixStore, answer_logits, batches

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    Answers = list[tuple[int, ...]]

PACKAGES = ("alora-zoo", "torch", "transformers", "peft", "safetensors", "tokenizers")


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilSettings:
    """How a relabelled LoRA is recovered.

    Attributes:
        recipe: of the optimisation.
        label_weight: share of the cross-entropy on the data's own answers in the loss; the rest is KL.
        data: how the data is split and encoded.
    """

    recipe: Recipe = field(
        default_factory=lambda: Recipe(steps=100, batch=8, micro_batch=8, warmup=8, check_every=10)
    )
    label_weight: float = 0.0
    data: DataSettings = field(default_factory=lambda: DataSettings(held_out=0.3, validation=0.15))

    @classmethod
    def of(cls, *, steps: int, eval_data: Path | None = None) -> "DistilSettings":
        """The defaults with what people set most."""
        chosen = cls()
        return replace(
            chosen,
            recipe=replace(chosen.recipe, steps=steps),
            data=replace(chosen.data, eval_data=eval_data),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """A recovered adapter.

    Attributes:
        weights: by PEFT file key, float32.
        training: how they were made.
        behaviour: agreement and accuracy of base, lora, relabelled, recovered on held-out data.
    """

    weights: dict[str, "Tensor"]
    training: TrainingRecord
    behaviour: BehaviourRecord


def recover(
    *,
    base: BaseModel,
    relabelled: Path,
    invocation: Invocation,
    data: Path,
    settings: DistilSettings | None = None,
    device: str = "cpu",
    dtype: Dtype = "float32",
    progress: Progress = silent,
) -> Recovery:
    """Distils a relabelled LoRA until it answers as the LoRA does, and measures by how much it now does.

    Args:
        base: the base model.
        relabelled: an aLoRA folder in normal form; its weights on every token are the teacher.
        invocation: as in that folder.
        data: JSONL of prompts and answers.
        settings: see `DistilSettings`.
        device: torch device.
        dtype: of the base weights; the adapter is trained in float32.
        progress: told about each stage.

    Raises:
        SpecError: ZD001 or ZD002, the data breaks its form or is too little.
        RefusedError: ZI004 or ZD003, a prompt lacks the invocation or is too long.
        VerdictError: ZD005, the training breaks down.
    """
    settings = settings or DistilSettings()
    parts = divide(data, Prompter(base), invocation, settings.data, seed=settings.recipe.seed)
    if not parts.held_out:
        raise SpecError("no samples are held out: nothing could be measured", code="ZD002")
    model = attach(load_model(base, dtype=dtype, device=device), relabelled, trainable=True)
    model.eval()  # no dropout: teacher and student must differ in what they read alone
    options = choices([sample.answer for part in (parts.train, parts.held_out) for sample in part])

    held_out = PrefixStore(model, parts.held_out)
    expected = [sample.answer for sample in parts.held_out]
    given = _columns_before(model, held_out, options, progress)
    optimised = _distil(model, parts, settings, data_sha256=parts.sha256, progress=progress)
    given["recovered"] = answer_all(held_out, options, label="recovered", progress=progress)
    return Recovery(
        weights=weights(model),
        training=_record(parts, settings, optimised, dtype),
        behaviour=BehaviourRecord(
            status="measured",
            data_sha256=parts.eval_sha256,
            samples=len(expected),
            agreement={name: accuracy(answers, given["lora"]) for name, answers in given.items()},
            accuracy={name: accuracy(answers, expected) for name, answers in given.items()},
            trivial=trivial_accuracy(expected),
        ),
    )


def weights(model: "PeftModel") -> dict[str, "Tensor"]:
    """The adapter's weights by PEFT file key, float32, on the host."""
    from peft import get_peft_model_state_dict

    # "auto" would ask the Hub for the base's vocabulary size (peft 0.21.2, utils/save_and_load.py)
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tensor.detach().float().cpu() for name, tensor in state.items()}


def _columns_before(
    model: "PeftModel",
    held_out: PrefixStore,
    options: Sequence[tuple[int, ...]] | None,
    progress: Progress,
) -> dict[str, "Answers"]:
    teacher = PrefixStore(model, held_out.samples, adapted=True)
    return {
        "base": answer_all(held_out, options, adapted=False, label="base", progress=progress),
        "lora": answer_all(teacher, options, label="lora", progress=progress),
        "relabelled": answer_all(held_out, options, label="relabelled", progress=progress),
    }


def _distil(
    model: "PeftModel", parts: Parts, settings: DistilSettings, *, data_sha256: str, progress: Progress
) -> Optimised:
    import torch
    from torch.nn.functional import cross_entropy, kl_div

    train, validation = PrefixStore(model, parts.train), PrefixStore(model, parts.validation)
    train.fill(progress)
    targets = _teacher(model, parts.train, "teacher", progress)
    judged = _teacher(model, parts.validation, "teacher, validation", progress)
    share = settings.label_weight

    def divergence(store: PrefixStore, teacher: list["Tensor"], rows: Sequence[int]) -> "Tensor":
        logits = answer_logits(store, rows)
        total = logits[0].new_zeros(())
        for row, student in zip(rows, logits, strict=True):
            wanted = teacher[row].to(student.device)
            total = total + (1 - share) * kl_div(
                student.log_softmax(dim=-1), wanted, reduction="sum", log_target=True
            )
            if share:
                labels = torch.tensor(store.samples[row].answer, device=student.device)
                total = total + share * cross_entropy(student, labels, reduction="sum")
        return total

    def score() -> float:
        with torch.no_grad():
            total = sum(float(divergence(validation, judged, rows)) for rows in batches(len(judged)))
        return -total / sum(len(sample.answer) for sample in parts.validation)

    task = Task(
        parameters={name: p for name, p in model.named_parameters() if p.requires_grad},
        samples=len(parts.train),
        tokens=[len(sample.answer) for sample in parts.train],
        loss=lambda rows: divergence(train, targets, rows),
        score=score,
        identity={"data": data_sha256},
    )
    return optimise(task, settings.recipe, label="distil", progress=progress)


def _teacher(
    model: "PeftModel", samples: Sequence[Encoded], label: str, progress: Progress
) -> list["Tensor"]:
    """The teacher's log-probabilities of each sample's answer tokens, float32 `[answer, vocabulary]`."""
    import torch

    store = PrefixStore(model, samples, adapted=True, budget_bytes=0)
    found: list[Tensor] = []
    with torch.no_grad():
        for rows in batches(len(samples)):
            found.extend(logits.log_softmax(dim=-1).cpu() for logits in answer_logits(store, rows))
            progress(label, done=len(found), total=len(samples))
    return found


def _record(parts: Parts, settings: DistilSettings, optimised: Optimised, dtype: Dtype) -> TrainingRecord:
    options = asdict(settings)
    options["data"]["eval_data"] = parts.eval_sha256
    return TrainingRecord(
        method="distillation",
        data_sha256=parts.sha256,
        samples=len(parts.train),
        steps=settings.recipe.steps,
        seed=settings.recipe.seed,
        settings={**options, "base_dtype": dtype, "best_step": optimised.best_step},
        final_loss=optimised.losses[-1],
        versions=package_versions(PACKAGES),
    )
