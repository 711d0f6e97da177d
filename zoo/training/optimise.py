"""The optimisation loop that training and distillation share."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import UsageError
from zoo.progress import Progress, silent
from zoo.staging import staged_folder
from zoo.training import optimisers
from zoo.training.course import Look, Optimised
from zoo.training.deal import Deal
from zoo.training.peers import ALONE, Peers, digest
from zoo.training.step import take_step
from zoo.training.strand import Strand, Told

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

    from zoo.training.tracking import Tracker


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How weights are optimised.

    Attributes:
        steps: optimiser steps.
        batch: samples a step.
        micro_batch: samples of a task run at once; gradients are accumulated over a step, weighted by tokens.
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

    def exhausted(self, looks: Sequence[tuple[int, object]], best_step: int) -> bool:
        """Whether as many looks as patience bears came after the best one."""
        return 0 < self.patience <= sum(step > best_step for step, _ in looks)

    def rows(self, step: int, deal: Deal) -> list[tuple[int, int]]:
        """The samples of a step, counted from 1, with their lanes: a new permutation every epoch."""
        return deal.draw((step - 1) * self.batch, self.batch, seed=self.seed)


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
        sizes: tokens that each sample's pass runs, where several tasks share passes.
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
    sizes: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """How samples of several tasks are run in passes of one model.

    Attributes:
        losses: some samples of each task by its name, to what the tasks' `loss` would be.
        prefetch: told which samples come next.
    """

    losses: Callable[[Mapping[str, Sequence[int]]], "Mapping[str, Tensor]"]
    prefetch: Callable[[Mapping[str, Sequence[int]]], None] | None = None

    @classmethod
    def alone(cls, name: str, task: Task) -> "Together":
        """One task by itself."""
        ahead = task.prefetch
        return cls(
            losses=lambda parts: {name: task.loss(parts[name])},
            prefetch=ahead and (lambda parts: ahead(parts.get(name, ()))),
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
    told = {"": Told(label=label, tracker=tracker, progress=progress)}
    return optimise_together({"": task}, recipe, Together.alone("", task), work=work, told=told)[""]


def optimise_together(
    tasks: Mapping[str, Task],
    recipe: Recipe,
    together: Together,
    *,
    work: Path | None = None,
    told: Mapping[str, Told] | None = None,
) -> dict[str, Optimised]:
    """Optimises several tasks side by side, each as it would be alone: a step of each, then the next.

    Each has its own order of samples, optimiser, best weights and end. The checkpoint is one of all, so they
    always stand at the same step, but for those that have ended.

    Args:
        tasks: by name; all by the same processes.
        recipe: of each.
        together: how their samples are run.
        work: see `optimise`; each task's state is in a folder of its name.
        told: who is told of each.

    Raises:
        VerdictError: see `optimise`.
        UsageError: see `optimise`; ZD004 too where `work` holds a run of other tasks.
    """
    import torch

    torch.manual_seed(recipe.seed)
    if work and len(tasks) > 1 and work.is_dir():
        _check_same(work, tasks)
    runs = [
        Strand.begun(name, task, recipe, folder=work and work / name, told=(told or {}).get(name, Told()))
        for name, task in tasks.items()
    ]
    peers = runs[0].task.peers
    _agree(peers, runs)
    for run in runs:
        run.begin()
    while going := [run for run in runs if not run.ended]:
        step = going[0].step + 1
        losses = take_step(going, recipe, together, step)
        for run in going:
            run.stepped(losses[run.name])
        last = all(run.ended for run in runs)
        # several are saved at their end, too: what follows takes longer, and none is then trained again
        if work and ((step % recipe.save_every == 0 and not last) or (last and len(runs) > 1)):
            _agree(peers, runs)
            if peers.first:
                _save(work, runs)
    _agree(peers, runs)
    return {run.name: run.kept() for run in runs}


def _save(work: Path, runs: Sequence[Strand]) -> None:
    with staged_folder(work, replace=True) as stage:
        for run in runs:
            folder = stage / run.name
            folder.mkdir(exist_ok=True)
            run.save(folder)


def _agree(peers: Peers, runs: Sequence[Strand]) -> None:
    """Makes sure that all processes stand at the same steps of the same runs with the same weights."""
    if peers.count > 1:
        peers.agree(json.dumps([run.settings for run in runs], sort_keys=True), "settings or data")
        steps = [run.step for run in runs]
        peers.agree(f"{steps} {[digest(run.trained) for run in runs]}", f"weights at step {max(steps)}")


def _check_same(work: Path, tasks: Mapping[str, Task]) -> None:
    """What is packed together decides how sums are rounded, so a run goes on with the tasks it began with."""
    begun = sorted(path.parent.name for path in work.glob("*/state.json"))
    if begun and begun != sorted(tasks):
        raise UsageError(
            f"{work} holds an unfinished run of {', '.join(begun)}",
            hint=f"run it with the same options to resume, or remove {work} to begin anew",
            code="ZD004",
        )
