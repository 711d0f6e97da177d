"""The optimisation loop that training and distillation share."""

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import VerdictError
from zoo.progress import Progress, silent
from zoo.training import checkpoint

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter
    from torch.optim import Optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How weights are optimised.

    Attributes:
        steps: optimiser steps.
        batch: samples a step.
        micro_batch: samples run at once; gradients are accumulated over a step, weighted by tokens.
        learning_rate: of AdamW at its highest.
        warmup: steps of linear warm-up.
        decay: of the learning rate after it, to 0 at the last step, or none.
        clip: gradient norm limit.
        weight_decay: AdamW's.
        seed: of the order of samples and of new weights.
        check_every: steps between two looks at the score; the best weights are kept.
        save_every: steps between two checkpoints.
    """

    steps: int
    batch: int = 16
    micro_batch: int = 16
    learning_rate: float = 1e-3
    warmup: int = 10
    decay: Literal["cosine", "constant"] = "cosine"
    clip: float = 1.0
    weight_decay: float = 0.0
    seed: int = 0
    check_every: int = 10
    save_every: int = 20

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 1."""
        if step <= self.warmup:
            return self.learning_rate * step / self.warmup
        if self.decay == "constant":
            return self.learning_rate
        share = (step - self.warmup) / max(1, self.steps - self.warmup + 1)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * share))

    def rows(self, step: int, samples: int) -> list[int]:
        """The samples of a step, counted from 1: a new permutation every epoch, from the seed alone."""
        first = (step - 1) * self.batch
        return [
            _order(self.seed, position // samples, samples)[position % samples]
            for position in range(first, first + self.batch)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is optimised.

    Attributes:
        parameters: trained, by name, float32.
        samples: how many there are to draw from.
        tokens: of each sample, how many carry loss.
        loss: sum of the losses of some samples' tokens, a scalar that carries gradients.
        score: how good the present weights are on validation data, higher is better.
        identity: what a resumed run must agree on, besides the recipe.
    """

    parameters: Mapping[str, "Parameter"]
    samples: int
    tokens: Sequence[int]
    loss: Callable[[Sequence[int]], "Tensor"]
    score: Callable[[], float]
    identity: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimised:
    """What a run ended with.

    Attributes:
        losses: mean loss of each step, nats a token.
        best_step: the step whose weights scored best; 0 is the start.
        best_score: their score.
    """

    losses: Sequence[float]
    best_step: int
    best_score: float


def optimise(
    task: Task, recipe: Recipe, *, work: Path | None = None, label: str = "train", progress: Progress = silent
) -> Optimised:
    """Optimises a task's parameters in place and leaves the best-scoring weights in them.

    Args:
        task: what.
        recipe: how.
        work: folder for checkpoints; an unfinished run in it is resumed and gives the losses of an
            uninterrupted one. None keeps nothing.
        label: the stage's name for progress.
        progress: told about each step.

    Raises:
        VerdictError: ZD005, no gradient at the first step, or a loss that is not finite.
        UsageError: ZD004, `work` holds a run with other settings.
    """
    import torch

    torch.manual_seed(recipe.seed)
    optimizer = torch.optim.AdamW(task.parameters.values(), lr=0.0, weight_decay=recipe.weight_decay)
    settings = {**asdict(recipe), **task.identity}
    found = work and checkpoint.load(work, settings, parameters=task.parameters, optimizer=optimizer)
    if found:
        state, best = found
        losses, (score, at) = list(state.losses), state.best
    else:
        losses, score, at = [], task.score(), 0
        best = _copy(task.parameters)
    begin, seen = time.monotonic(), 0
    for step in range(len(losses) + 1, recipe.steps + 1):
        rows = recipe.rows(step, task.samples)
        losses.append(_step(task, recipe, optimizer, step, rows))
        seen += sum(task.tokens[row] for row in rows)
        if step % recipe.check_every == 0 or step == recipe.steps:
            now = task.score()
            if now > score:
                score, at, best = now, step, _copy(task.parameters)
        if work and step % recipe.save_every == 0 and step < recipe.steps:
            state = checkpoint.Checkpoint(step=step, losses=losses, best=(score, at), settings=settings)
            checkpoint.save(work, state, parameters=task.parameters, best=best, optimizer=optimizer)
        speed = seen / (time.monotonic() - begin)
        note = f"loss {losses[-1]:.4f}, best {score:.4f} at step {at}, {speed:,.0f} answer tokens/s"
        progress(label, done=step, total=recipe.steps, note=note)
    for name, parameter in task.parameters.items():
        parameter.data.copy_(best[name])
    return Optimised(losses=losses, best_step=at, best_score=score)


def _step(task: Task, recipe: Recipe, optimizer: "Optimizer", step: int, rows: Sequence[int]) -> float:
    import torch

    tokens = sum(task.tokens[row] for row in rows)
    total = 0.0
    for begin in range(0, len(rows), recipe.micro_batch):
        loss = task.loss(rows[begin : begin + recipe.micro_batch]) / tokens
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    norm = float(torch.nn.utils.clip_grad_norm_(task.parameters.values(), recipe.clip))
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
    for group in optimizer.param_groups:
        group["lr"] = recipe.rate(step)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, samples: int) -> list[int]:
    order = list(range(samples))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order


def _copy(parameters: Mapping[str, "Parameter"]) -> dict[str, "Tensor"]:
    return {name: parameter.detach().cpu().clone() for name, parameter in parameters.items()}
