"""One adapter's optimisation and measurement on stored prefixes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.evaluation.answers import accuracy, answer_all, choices, trivial_accuracy
from zoo.models import Dtype
from zoo.progress import Progress, silent
from zoo.prompts import Prompter
from zoo.specs.lock import BehaviourRecord
from zoo.training import tracking
from zoo.training.metric import Metric
from zoo.training.optimise import Optimised, Task, optimise
from zoo.training.plan import TrainingPlan
from zoo.training.prefix import PrefixStore, answer_loss
from zoo.training.record import identity

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Where and how a training runs; it decides nothing about the weights but their rounding.

    Attributes:
        device: torch device.
        dtype: of the base weights; the adapter is trained in float32.
        tracker: what is told the course, besides the plot; None is nothing.
        progress: told about each stage.
    """

    device: str = "cpu"
    dtype: Dtype = "float32"
    tracker: tracking.Name | None = None
    progress: Progress = field(default=silent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The prefixes of one adapter's samples.

    Attributes:
        train: with gradients.
        validation: on which the best step is chosen.
        held_out: only measured on.
    """

    train: PrefixStore
    validation: PrefixStore
    held_out: PrefixStore

    @classmethod
    def of(cls, model: "PeftModel", plan: TrainingPlan) -> "Stores":
        """Stores of a plan's own samples."""
        parts = plan.parts
        train, validation, held_out = (
            PrefixStore(model, plan.prefixes(part))
            for part in (parts.train, parts.validation, parts.held_out)
        )
        return cls(train=train, validation=validation, held_out=held_out)


def fit(
    model: "PeftModel", plan: TrainingPlan, stores: Stores, *, name: str, folder: Path, work: Path, run: Run
) -> Optimised:
    """Optimises an adapter on its samples; the best-scoring weights are left in the model.

    Args:
        model: with a fresh adapter.
        plan: what to train.
        stores: its samples.
        name: of the run, for the tracker.
        folder: in which event files go.
        work: where checkpoints go.
        run: where and how.
    """
    stores.train.fill(run.progress)
    tokenizer = Prompter(plan.base)
    answers = [sample.answer for part in (stores.train, stores.validation) for sample in part.samples]

    def text(ids: Sequence[int]) -> str:
        found: str = tokenizer.tokenizer.decode(list(ids), skip_special_tokens=True)
        return found

    metric = Metric.of(answers, text, plan.read)
    task = Task(
        parameters={key: p for key, p in model.named_parameters() if ".lora_" in key},
        samples=len(stores.train.samples),
        tokens=[len(sample.answer) for sample in stores.train.samples],
        loss=lambda rows: answer_loss(stores.train, rows),
        prefetch=stores.train.prefetch,
        score=lambda: metric.look(stores.validation),
        identity=identity(plan, run.dtype, run.device),
    )
    tracker = run.tracker and tracking.open_tracker(
        run.tracker,
        folder=folder / f"{name}.tensorboard",
        project=folder.name,
        run=name,
        settings=task.identity,
    )
    try:
        return optimise(task, plan.settings.recipe, work=work, tracker=tracker or None, progress=run.progress)
    finally:
        if tracker:
            tracker.end()


def measure(plan: TrainingPlan, stores: Stores, progress: Progress) -> BehaviourRecord:
    """Accuracy of base and adapter on held-out samples; unverified when there are none."""
    if not stores.held_out.samples:
        return BehaviourRecord()
    expected = [sample.answer for sample in stores.held_out.samples]
    options = choices([*expected, *(sample.answer for sample in stores.train.samples)])
    base = answer_all(stores.held_out, options, adapted=False, label="base", progress=progress)
    trained = answer_all(stores.held_out, options, label="trained", progress=progress)
    return BehaviourRecord(
        status="measured",
        data_sha256=plan.parts.eval_sha256,
        samples=len(expected),
        accuracy={"base": accuracy(base, expected), "trained": accuracy(trained, expected)},
        trivial=trivial_accuracy(expected),
    )
