"""One adapter's optimisation and measurement on stored prefixes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.evaluation.answers import accuracy, answer_all, choices, trivial_accuracy
from zoo.models import Dtype
from zoo.progress import Progress, silent
from zoo.prompts import Prompter
from zoo.specs.lock import BehaviourRecord
from zoo.training import tracking
from zoo.training.course import Look, Optimised
from zoo.training.dataset import Encoded
from zoo.training.deal import Deal, portion
from zoo.training.factors import Factors
from zoo.training.metric import Metric
from zoo.training.optimise import Task, optimise, optimise_together
from zoo.training.peers import ALONE, Peers
from zoo.training.plan import TrainingPlan
from zoo.training.prefix import answer_loss
from zoo.training.record import identity
from zoo.training.share import DealtStore, dealt_stores
from zoo.training.strand import Told

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Where and how a training runs; it decides nothing about the weights but their rounding.

    Attributes:
        device: torch device.
        dtype: of the base weights; the adapter is trained in float32.
        tracker: what is told the course, besides the plot; None is nothing.
        progress: told about each stage.
        peers: the processes that train together.
    """

    device: str = "cpu"
    dtype: Dtype = "float32"
    tracker: tracking.Name | None = None
    progress: Progress = field(default=silent)
    peers: Peers = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The prefixes of one adapter's samples.

    Attributes:
        train: with gradients.
        validation: on which the best step is chosen.
        held_out: only measured on.
        deal: how samples are drawn from the first.
    """

    train: DealtStore
    validation: DealtStore
    held_out: DealtStore
    deal: Deal

    @classmethod
    def of(
        cls, model: "PeftModel", plan: TrainingPlan, peers: Peers = ALONE, *, disk: Path | None = None
    ) -> "Stores":
        """Stores of a plan's own samples."""
        return cls.together(model, {"": plan}, peers, disk=disk)[""]

    @classmethod
    def together(
        cls,
        model: "PeftModel",
        plans: Mapping[str, TrainingPlan],
        peers: Peers = ALONE,
        *,
        disk: Path | None = None,
    ) -> "dict[str, Stores]":
        """Stores of several plans by name; what their prefixes have in common is kept once.

        Args:
            model: base and adapter.
            plans: by name.
            peers: the processes that divide every plan's samples among them.
            disk: a folder for files of what memory has no room for, or None.
        """
        who = (peers.index, peers.count)
        # a plain LoRA keeps no prefixes, and yet is to see the samples in the order in which an aLoRA does
        deals = {name: Deal.of(_prefixes(plan.parts.train)) for name, plan in plans.items()}
        drawn = {
            name: (plan.prefixes(plan.parts.train), deals[name].held(*who)) for name, plan in plans.items()
        }
        looked_at, measured = (
            {
                name: (plans[name].prefixes(samples), portion(_prefixes(samples), *who))
                for name, samples in part.items()
            }
            for part in (
                {name: plan.parts.validation for name, plan in plans.items()},
                {name: plan.parts.held_out for name, plan in plans.items()},
            )
        )
        train, validation, held_out = (
            dealt_stores(model, part, peers, disk=disk) for part in (drawn, looked_at, measured)
        )
        return {
            name: cls(train=train[name], validation=validation[name], held_out=held_out[name], deal=deal)
            for name, deal in deals.items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One of several adapters that are trained in passes of one model.

    Attributes:
        plan: what to train.
        stores: its samples.
        factors: its own.
        progress: told about it.
    """

    plan: TrainingPlan
    stores: Stores
    factors: Factors
    progress: Progress = field(default=silent)


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
    metric = _metric(plan, stores)
    task = Task(
        parameters={key: p for key, p in model.named_parameters() if ".lora_" in key},
        loss=lambda rows: answer_loss(stores.train, rows),
        prefetch=stores.train.prefetch,
        score=lambda: metric.look(stores.validation),
        **_about(plan, stores, run),
    )
    with _tracker(name, task, folder=folder, run=run) as tracker:
        return optimise(task, plan.settings.recipe, work=work, tracker=tracker, progress=run.progress)


def fit_together(
    members: Mapping[str, Member], *, folder: Path, work: Path, run: Run
) -> dict[str, Optimised]:
    """Optimises several adapters side by side; each one's best-scoring weights are left in its factors.

    Args:
        members: by name, their stores views of one; all with one recipe.
        folder: in which event files go.
        work: where checkpoints go.
        run: where and how.
    """
    from zoo.training.joint import together

    first = next(iter(members.values()))
    first.stores.train.fill(first.progress)
    tasks: dict[str, Task] = {}
    with ExitStack() as open_trackers:
        told: dict[str, Told] = {}
        for name, one in members.items():
            tasks[name] = task = _beside(one, run)
            tracker = open_trackers.enter_context(_tracker(name, task, folder=folder, run=run))
            told[name] = Told(tracker=tracker, progress=one.progress)
        stores = {name: one.stores.train for name, one in members.items()}
        passes = together(stores, {name: one.factors for name, one in members.items()})
        return optimise_together(tasks, first.plan.settings.recipe, passes, work=work, told=told)


def _beside(one: Member, run: Run) -> Task:
    """A member's task; alone it is run with its factors in the model."""
    metric = _metric(one.plan, one.stores)

    def score() -> Look:
        one.factors.put()
        return metric.look(one.stores.validation)

    def loss(rows: Sequence[int]) -> "Tensor":
        one.factors.put()
        return answer_loss(one.stores.train, rows)

    return Task(
        parameters=one.factors.parameters,
        loss=loss,
        score=score,
        sizes=[len(sample.lead) + len(sample.answer) - 1 for sample in one.stores.train.samples],
        **_about(one.plan, one.stores, run),
    )


def _about(plan: TrainingPlan, stores: Stores, run: Run) -> dict[str, Any]:
    """What a task's samples are, whoever runs them."""
    return {
        "samples": len(stores.train.samples),
        "tokens": [len(sample.answer) for sample in stores.train.samples],
        "identity": identity(plan, run.dtype, run.device),
        "deal": stores.deal,
        "peers": run.peers,
    }


def _metric(plan: TrainingPlan, stores: Stores) -> Metric:
    tokenizer = Prompter(plan.base)
    answers = [sample.answer for part in (stores.train, stores.validation) for sample in part.samples]

    def text(ids: Sequence[int]) -> str:
        found: str = tokenizer.tokenizer.decode(list(ids), skip_special_tokens=True)
        return found

    return Metric.of(answers, text, plan.parts.read)


@contextmanager
def _tracker(name: str, task: Task, *, folder: Path, run: Run) -> "Iterator[tracking.Tracker | None]":
    """The tracker of a run, if it has one and this process speaks for it; ended with the block."""
    if not (run.tracker and run.peers.first):
        yield None
        return
    tracker = tracking.open_tracker(
        run.tracker,
        folder=folder / f"{name}.tensorboard",
        project=folder.name,
        run=name,
        settings=task.identity,
    )
    try:
        yield tracker
    finally:
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


def _prefixes(samples: Sequence[Encoded]) -> list[tuple[int, ...]]:
    return [sample.prefix for sample in samples]
