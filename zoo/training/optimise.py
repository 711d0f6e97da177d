"""The optimisation loop that training and distillation share."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import VerdictError
from zoo.progress import Progress, silent
from zoo.training import checkpoint, optimisers
from zoo.training.deal import Deal
from zoo.training.peers import ALONE, Peers, digest

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from zoo.training.optimisers import Steps
    from zoo.training.tracking import Tracker


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How weights are optimised.

    Attributes:
        steps: optimiser steps.
        batch: samples a step.
        micro_batch: samples run at once; gradients are accumulated over a step, weighted by tokens.
        optimizer: see `zoo.training.optimisers`.
        ratio: B's learning rate as a multiple of A's, for lora+ alone.
        learning_rate: at its highest; for lora+ A's.
        warmup: steps of linear warm-up.
        decay: of the learning rate after it, to 0 at the last step, or none.
        clip: gradient norm limit.
        weight_decay: decoupled.
        seed: of the order of samples and of new weights.
        check_every: steps between two looks at the score; the best weights are kept.
        patience: looks in a row without a better score after which a run ends; 0 runs to the last step.
        save_every: steps between two checkpoints.
    """

    steps: int
    batch: int = 16
    micro_batch: int = 16
    optimizer: optimisers.Name = "adamw"
    ratio: float = optimisers.PLUS_RATIO
    learning_rate: float = 1e-3
    warmup: int = 10
    decay: Literal["cosine", "constant"] = "cosine"
    clip: float = 1.0
    weight_decay: float = 0.0
    seed: int = 0
    check_every: int = 10
    patience: int = 0
    save_every: int = 20

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1."""
        if step <= self.warmup:
            return self.learning_rate * step / self.warmup
        if self.decay == "constant":
            return self.learning_rate
        share = (step - self.warmup) / max(1, self.steps - self.warmup + 1)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def rows(self, step: int, deal: Deal) -> list[tuple[int, int]]:
        """The samples of a step, counted from 1, with their lanes: a new permutation every epoch."""
        return deal.draw((step - 1) * self.batch, self.batch, seed=self.seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at validation data saw.

    Attributes:
        rank: compared from the first number on; higher is better.
        values: by name, for people, plots and trackers; the first is the one that is named.
    """

    rank: tuple[float, ...]
    values: Mapping[str, float]

    @classmethod
    def of(cls, score: "float | Look") -> "Look":
        """A plain score as a look."""
        return score if isinstance(score, Look) else cls(rank=(score,), values={"score": score})


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is optimised.

    Attributes:
        parameters: by name, float32; those that require gradients are trained.
        samples: how many there are to draw from.
        tokens: of each sample, how many carry loss.
        loss: sum of the losses of some samples' tokens, a scalar that carries gradients.
        score: how good the present weights are on validation data, higher is better.
        identity: what a resumed run must agree on, besides the recipe; JSON values.
        prefetch: told which samples come next, while others run.
        deal: how they are drawn and divided; any permutation, by one process, unless told.
        peers: the processes that optimise together, each given `loss` of its own samples alone; `score` has
            to be the same in all.
    """

    parameters: Mapping[str, "Parameter"]
    samples: int
    tokens: Sequence[int]
    loss: Callable[[Sequence[int]], "Tensor"]
    score: Callable[[], float | Look]
    identity: Mapping[str, Any]
    prefetch: Callable[[Sequence[int]], None] | None = None
    deal: Deal | None = None
    peers: Peers = ALONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimised:
    """What a run ended with.

    Attributes:
        losses: mean loss of each step, nats a token; fewer than the recipe's steps when it ended early.
        best_step: the step whose weights scored best; 0 is the start.
        best_score: the first number of their rank.
        looks: every look at the score: the step, and what was seen.
    """

    losses: Sequence[float]
    best_step: int
    best_score: float
    looks: Sequence[tuple[int, Mapping[str, float]]]


@dataclass(slots=True, kw_only=True)
class _Course:
    """Where a run stands."""

    losses: list[float] = field(default_factory=list)
    looks: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    rank: tuple[float, ...] = (-math.inf,)
    at: int = 0
    best: dict[str, "Tensor"] = field(default_factory=dict)

    def look(self, step: int, score: "float | Look", parameters: Mapping[str, "Parameter"]) -> None:
        seen = Look.of(score)
        self.looks.append((step, seen.values))
        if not self.best or seen.rank > self.rank:
            self.rank, self.at, self.best = seen.rank, step, _copy(parameters)

    def exhausted(self, patience: int) -> bool:
        return 0 < patience <= sum(step > self.at for step, _ in self.looks)

    def note(self, speed: float) -> str:
        name, value = next(iter(dict(self.looks)[self.at].items()))
        return (
            f"loss {self.losses[-1]:.4f}, best {name} {value:.4f} at step {self.at}, "
            f"{speed:,.0f} answer tokens/s"
        )


def optimise(
    task: Task,
    recipe: Recipe,
    *,
    work: Path | None = None,
    label: str = "train",
    tracker: "Tracker | None" = None,
    progress: Progress = silent,
) -> Optimised:
    """Optimises a task's parameters in place and leaves the best-scoring weights in them.

    Args:
        task: what.
        recipe: how.
        work: folder for checkpoints; an unfinished run in it is resumed and gives the losses of an
            uninterrupted one. None keeps nothing.
        label: the stage's name for progress.
        tracker: told each step's loss and each look's values.
        progress: told about each step.

    Raises:
        VerdictError: ZD005, no gradient at the first step, or a loss that is not finite.
        UsageError: ZD004, `work` holds a run with other settings; ZD006, see `optimisers.make`.
    """
    import torch

    torch.manual_seed(recipe.seed)
    trained = optimisers.freeze(task.parameters, recipe.optimizer)
    optimizer = optimisers.make(
        task.parameters,
        recipe.optimizer,
        weight_decay=recipe.weight_decay,
        clip=recipe.clip,
        ratio=recipe.ratio,
    )
    settings = {**asdict(recipe), **task.identity, "processes": task.peers.count}
    course = _resume(work, settings, trained, optimizer) or _Course()
    _agree(task.peers, trained, settings, len(course.losses))
    deal = task.deal or Deal.plain(task.samples)
    if not course.looks:
        course.look(0, task.score(), trained)
    if tracker:
        tracker.begin(len(course.losses))
    begin, seen = time.monotonic(), 0
    for step in range(len(course.losses) + 1, recipe.steps + 1):
        course.losses.append(_step(task, recipe, optimizer, step, deal))
        seen += sum(task.tokens[row] for row, _ in recipe.rows(step, deal))
        if looked := step % recipe.check_every == 0 or step == recipe.steps:
            course.look(step, task.score(), trained)
        if tracker:
            values = {f"validation/{name}": value for name, value in course.looks[-1][1].items()}
            now = {"train/loss": course.losses[-1], "train/rate": recipe.rate(step)}
            tracker.log(step, {**now, **(values if looked else {})})
        progress(label, done=step, total=recipe.steps, note=course.note(seen / (time.monotonic() - begin)))
        if looked and course.exhausted(recipe.patience):
            break
        if work and step % recipe.save_every == 0 and step < recipe.steps:
            _agree(task.peers, trained, settings, step)
            if task.peers.first:
                _save(work, course, settings, trained, optimizer)
    _agree(task.peers, trained, settings, len(course.losses))
    for name, parameter in trained.items():
        parameter.data.copy_(course.best[name])
    return Optimised(losses=course.losses, best_step=course.at, best_score=course.rank[0], looks=course.looks)


def _save(
    work: Path,
    course: _Course,
    settings: Mapping[str, Any],
    trained: Mapping[str, "Parameter"],
    optimizer: "Steps",
) -> None:
    state = checkpoint.Checkpoint(
        losses=course.losses, looks=course.looks, rank=course.rank, best_step=course.at, settings=settings
    )
    checkpoint.save(work, state, parameters=trained, best=course.best, optimizer=optimizer)


def _resume(
    work: Path | None,
    settings: Mapping[str, Any],
    trained: Mapping[str, "Parameter"],
    optimizer: "Steps",
) -> _Course | None:
    found = work and checkpoint.load(work, settings, parameters=trained, optimizer=optimizer)
    if not found:
        return None
    state, best = found
    return _Course(
        losses=list(state.losses), looks=list(state.looks), rank=state.rank, at=state.best_step, best=best
    )


def _agree(peers: Peers, trained: Mapping[str, "Parameter"], settings: Mapping[str, Any], step: int) -> None:
    """Makes sure that all processes stand at the same step of the same run with the same weights."""
    if peers.count > 1:
        peers.agree(json.dumps(settings, sort_keys=True), "settings or data")
        peers.agree(f"{step} {digest(trained)}", f"weights at step {step}")


def _step(task: Task, recipe: Recipe, optimizer: "Steps", step: int, deal: Deal) -> float:
    tokens = sum(task.tokens[row] for row, _ in recipe.rows(step, deal))
    total = 0.0
    parts = _parts(task, recipe, step, deal)
    following = _parts(task, recipe, step + 1, deal) or [[]]
    for part, after in zip(parts, [*parts[1:], following[0]], strict=False):
        if task.prefetch:
            task.prefetch(after)
        loss = task.loss(part) / tokens
        if loss.requires_grad:  # else nothing that is trained took part: the norm below is zero
            loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    if task.peers.count > 1:
        total = _summed(task, total)
    norm = optimisers.clip_gradients(optimizer, recipe.clip)
    if not math.isfinite(total) or not math.isfinite(norm):
        raise VerdictError(
            f"the loss or its gradient is not finite at step {step}", hint="lower --lr", code="ZD005"
        )
    if step == 1 and norm == 0.0:
        raise VerdictError(
            "the gradient is exactly zero at the first step: the adapter does not act on what is trained",
            hint="check the invocation and the target modules",
            code="ZD005",
        )
    optimisers.set_rate(optimizer, recipe.rate(step))
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def _parts(task: Task, recipe: Recipe, step: int, deal: Deal) -> list[list[int]]:
    """What this process runs of a step, at once and one after another."""
    peers, size = task.peers, recipe.micro_batch
    rows = [row for row, lane in recipe.rows(step, deal) if deal.owner(lane, peers.count) == peers.index]
    return [rows[begin : begin + size] for begin in range(0, len(rows), size)]


def _summed(task: Task, total: float) -> float:
    """The loss of all processes, whose gradients are added up in every one."""
    import torch

    trained = [parameter for parameter in task.parameters.values() if parameter.requires_grad]
    for parameter in trained:
        if parameter.grad is None:  # this process had no sample of the step
            parameter.grad = torch.zeros_like(parameter)
    loss = torch.tensor([total], device=trained[0].device)
    task.peers.add([loss, *(parameter.grad for parameter in trained if parameter.grad is not None)])
    return float(loss)


def _copy(parameters: Mapping[str, "Parameter"]) -> dict[str, "Tensor"]:
    return {name: parameter.detach().cpu().clone() for name, parameter in parameters.items()}
