"""Training an activated LoRA from data to a release folder, on the base model's cached prefixes."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.converters.release_folder import write_release
from zoo.evaluation.answers import accuracy, answer_all, choices, trivial_accuracy
from zoo.models import DEFAULT, Dtype, load_model
from zoo.progress import Progress, silent
from zoo.provenance import package_versions
from zoo.specs.document import check
from zoo.specs.lock import BehaviourRecord, TrainingRecord
from zoo.specs.release import Position, ReleaseSpec
from zoo.staging import check_target, staged_folder
from zoo.training.checkpoint import restore_threads
from zoo.training.distil import PACKAGES, weights
from zoo.training.optimise import Optimised, Task, optimise
from zoo.training.plan import TrainingPlan, TrainSettings, plan_training
from zoo.training.prefix import PrefixStore, answer_logits, batches

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A finished training.

    Attributes:
        folder: the release folder.
        training: the record in its lock.
        behaviour: what was measured on held-out data.
        losses: mean loss of each step, nats a token.
    """

    folder: Path
    training: TrainingRecord
    behaviour: BehaviourRecord
    losses: Sequence[float]

    def lines(self) -> list[str]:
        """The result for people, a line a fact."""
        measured = ", ".join(f"{name} {share:.3f}" for name, share in self.behaviour.accuracy.items())
        return [
            f"written      {self.folder}",
            f"loss         {self.losses[0]:.4f} at step 1, {self.losses[-1]:.4f} at step {len(self.losses)}; "
            f"kept step {self.training.settings['best_step']}",
            f"accuracy     {measured} on {self.behaviour.samples} held-out samples"
            if measured
            else "accuracy     not measured: no held-out samples",
            f"next         zoo validate {self.folder}",
        ]

    def to_document(self) -> dict[str, Any]:
        """The result as plain data."""
        return {
            "folder": str(self.folder),
            "losses": list(self.losses),
            "training": self.training.model_dump(mode="json"),
            "behaviour": self.behaviour.model_dump(mode="json"),
        }


def train(
    data: Path | str,
    out: Path | str,
    *,
    name: str,
    invocation_text: str,
    base: str = DEFAULT,
    position: Position = Position.AFTER_PROMPT,
    version: str = "0.1.0",
    license: str = "apache-2.0",
    description: str = "",
    settings: TrainSettings | None = None,
    device: str = "cpu",
    dtype: Dtype = "float32",
    progress: Progress = silent,
) -> Trained:
    """Trains an aLoRA and writes its release folder.

    A run that was killed is resumed by calling it again with the same arguments; its state is in
    `.OUT.training` beside `out` until it is finished.

    Args:
        data: JSONL of prompts and answers.
        out: the release folder; must not exist, or be empty.
        name: of the intrinsic, for `zoo.yaml`.
        invocation_text: what activates the adapter.
        base: what `zoo.models.resolve` takes.
        position: where the invocation stands.
        version: semantic version.
        license: SPDX identifier, lower case.
        description: for the card.
        settings: see `TrainSettings`.
        device: torch device.
        dtype: of the base weights; the adapter is trained in float32.
        progress: told about each stage.

    Raises:
        UsageError: `out` is not empty; ZM001, a name or version that `zoo.yaml` does not take; or ZD004, an
            unfinished run has other settings.
        ZooError: see `plan_training` and `optimise`.
    """
    target = Path(out).absolute()
    check_target(target)
    plan = plan_training(
        data, invocation_text=invocation_text, base=base, position=position, settings=settings
    )
    about = {"name": name, "version": version, "license": license, "description": description}
    spec = _spec(plan, about, Path(data).name)
    work = target.parent / f".{target.name}.training"
    target.parent.mkdir(parents=True, exist_ok=True)
    model = new_adapter(plan, device=device, dtype=dtype)
    restore_threads(work)
    optimised = _optimise(model, plan, dtype=dtype, work=work, progress=progress)
    behaviour = _measure(model, plan, progress)
    training = _record(plan, optimised, dtype)
    with staged_folder(target) as stage:
        write_release(
            stage,
            weights=_folded(model, plan.settings),
            rank=plan.settings.rank,
            targets=plan.settings.targets,
            spec=spec,
            base=plan.base,
            invocation_ids=plan.invocation.ids,
            training=training,
            behaviour=behaviour,
        )
    shutil.rmtree(work, ignore_errors=True)
    return Trained(folder=target, training=training, behaviour=behaviour, losses=optimised.losses)


def _spec(plan: TrainingPlan, about: Mapping[str, str], data: str) -> ReleaseSpec:
    content = {
        **about,
        "base": plan.base.reference().model_dump(),
        "invocation": {"text": plan.invocation.text, "position": plan.invocation.position},
        "training_data": [data],
    }
    return check(content, ReleaseSpec, name="zoo.yaml", code="ZM001")


def new_adapter(plan: TrainingPlan, *, device: str, dtype: Dtype) -> "PeftModel":
    """The base model with a fresh aLoRA on it, its initial weights from the seed alone."""
    import torch
    from peft import LoraConfig, get_peft_model

    settings = plan.settings
    torch.manual_seed(settings.recipe.seed)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # annotated int, computed as a float
        target_modules=list(settings.targets),
        alora_invocation_tokens=list(plan.invocation.ids),
    )
    model = get_peft_model(load_model(plan.base, dtype=dtype, device=device), config)
    return model.eval()


def _optimise(
    model: "PeftModel", plan: TrainingPlan, *, dtype: Dtype, work: Path, progress: Progress
) -> Optimised:
    import torch
    from torch.nn.functional import cross_entropy

    train, validation = PrefixStore(model, plan.parts.train), PrefixStore(model, plan.parts.validation)
    train.fill(progress)

    def losses(store: PrefixStore, rows: Sequence[int]) -> "Tensor":
        return torch.stack(
            [
                cross_entropy(
                    logits,
                    torch.tensor(store.samples[row].answer, device=logits.device),
                    reduction="sum",
                )
                for row, logits in zip(rows, answer_logits(store, rows), strict=True)
            ]
        ).sum()

    def score() -> float:
        with torch.no_grad():
            total = sum(float(losses(validation, rows)) for rows in batches(len(plan.parts.validation)))
        return -total / sum(len(sample.answer) for sample in plan.parts.validation)

    task = Task(
        parameters={name: p for name, p in model.named_parameters() if p.requires_grad},
        samples=len(plan.parts.train),
        tokens=[len(sample.answer) for sample in plan.parts.train],
        loss=lambda rows: losses(train, rows),
        score=score,
        identity=_identity(plan, dtype),
    )
    return optimise(task, plan.settings.recipe, work=work, progress=progress)


def _measure(model: "PeftModel", plan: TrainingPlan, progress: Progress) -> BehaviourRecord:
    if not plan.parts.held_out:
        return BehaviourRecord()
    expected = [sample.answer for sample in plan.parts.held_out]
    options = choices([*expected, *(sample.answer for sample in plan.parts.train)])
    store = PrefixStore(model, plan.parts.held_out)
    base = answer_all(store, options, adapted=False, label="base", progress=progress)
    trained = answer_all(store, options, label="trained", progress=progress)
    return BehaviourRecord(
        status="measured",
        data_sha256=plan.parts.eval_sha256,
        samples=len(expected),
        accuracy={"base": accuracy(base, expected), "trained": accuracy(trained, expected)},
        trivial=trivial_accuracy(expected),
    )


def _folded(model: "PeftModel", settings: TrainSettings) -> dict[str, "Tensor"]:
    scale = settings.alpha / settings.rank
    return {name: tensor * scale if "lora_B" in name else tensor for name, tensor in weights(model).items()}


def _identity(plan: TrainingPlan, dtype: Dtype) -> dict[str, object]:
    options = asdict(plan.settings)
    del options["recipe"]
    options["targets"] = list(plan.settings.targets)
    options["data"]["eval_data"] = plan.parts.eval_sha256
    return {
        **options,
        "data_sha256": plan.parts.sha256,
        "base": plan.base.id,
        "base_weights": plan.base.revision or plan.base.weights_sha256,
        "base_dtype": dtype,
        "invocation": list(plan.invocation.ids),
    }


def _record(plan: TrainingPlan, optimised: Optimised, dtype: Dtype) -> TrainingRecord:
    recipe = plan.settings.recipe
    return TrainingRecord(
        method="supervised",
        data_sha256=plan.parts.sha256,
        samples=len(plan.parts.train),
        steps=recipe.steps,
        seed=recipe.seed,
        settings={
            **_identity(plan, dtype),
            "recipe": asdict(recipe),
            "best_step": optimised.best_step,
        },
        final_loss=optimised.losses[-1],
        versions=package_versions(PACKAGES),
    )
