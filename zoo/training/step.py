"""One optimiser step of every task that is still going, their samples in passes that they share."""

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from zoo.errors import VerdictError
from zoo.training import optimisers

if TYPE_CHECKING:
    from zoo.training.optimise import Recipe, Together
    from zoo.training.strand import Strand

# of all tasks' samples that are run at once: more would use a processor no better, and only take memory
PASS_TOKENS = 1024


def take_step(
    going: "Sequence[Strand]", recipe: "Recipe", together: "Together", step: int
) -> dict[str, float]:
    """Takes a step.

    Args:
        going: the tasks.
        recipe: of each.
        together: how their samples are run.
        step: counted from 1.

    Returns:
        The loss of each by name: mean of the step, nats a token.

    Raises:
        VerdictError: ZD005, no gradient at the first step, or a loss that is not finite.
    """
    tokens = {one.name: one.tokens(step) for one in going}
    totals = dict.fromkeys(tokens, 0.0)
    parts = _passes(going, step)
    following = _passes(going, step + 1) or [{}]
    for part, after in zip(parts, [*parts[1:], following[0]], strict=False):
        if together.prefetch:
            together.prefetch(after)
        losses = {name: loss / tokens[name] for name, loss in together.losses(part).items()}
        # one that carries no gradient has nothing in it that is trained: the norm below is zero
        if carrying := [loss for loss in losses.values() if loss.requires_grad]:
            sum(carrying[1:], carrying[0]).backward()  # type: ignore[no-untyped-call]
        for name, loss in losses.items():
            totals[name] += float(loss.detach())
    if going[0].task.peers.count > 1:
        totals = _summed(going, totals)
    for one in going:
        _apply(one, recipe, step, totals[one.name])
    return totals


def _apply(one: "Strand", recipe: "Recipe", step: int, loss: float) -> None:
    """Moves a task's parameters by their gradients."""
    norm = optimisers.clip_gradients(one.optimizer, recipe.clip)
    whose = f" of {one.name}" if one.name else ""
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise VerdictError(
            f"the loss{whose} or its gradient is not finite at step {step}", hint="lower --lr", code="ZD005"
        )
    if step == 1 and norm == 0.0:
        raise VerdictError(
            f"the gradient{whose} is exactly zero at the first step: "
            "the adapter does not act on what is trained",
            hint="check the invocation and the target modules",
            code="ZD005",
        )
    optimisers.set_rate(one.optimizer, recipe.rate(step))
    one.optimizer.step()
    one.optimizer.zero_grad(set_to_none=True)


def _passes(going: "Sequence[Strand]", step: int) -> list[dict[str, list[int]]]:
    """What this process runs of a step: in every pass some samples of each task that there is room for."""
    found: list[dict[str, list[int]]] = []
    for beside in zip_longest(*(one.parts(step) for one in going), fillvalue=[]):
        found.append({})
        used = 0
        for one, rows in zip(going, beside, strict=True):
            size = sum(one.task.sizes[row] for row in rows) if one.task.sizes else 0
            if found[-1] and used + size > PASS_TOKENS:
                found.append({})
                used = 0
            if rows:
                found[-1][one.name] = rows
                used += size
    return found


def _summed(going: "Sequence[Strand]", totals: Mapping[str, float]) -> dict[str, float]:
    """The losses of all processes, whose gradients are added up in every one."""
    import torch

    trained = [parameter for one in going for parameter in one.trained.values()]
    for parameter in trained:
        if parameter.grad is None:  # this process had no sample of the step
            parameter.grad = torch.zeros_like(parameter)
    losses = torch.tensor([*totals.values()], device=trained[0].device)
    grads = [parameter.grad for parameter in trained if parameter.grad is not None]
    going[0].task.peers.add([losses, *grads])
    return dict(zip(totals, losses.tolist(), strict=True))
