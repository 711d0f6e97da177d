"""The exact fold to normal form: one rank, `lora_alpha = r`, every scale inside lora_B, PEFT's keys.

Why: vLLM reads only the global r and alpha, llama.cpp neither rsLoRA nor patterns; in normal form every
engine computes the same function. The fold runs in float64, one module at a time, and is checked twice:
against the plain factors it was made from (Frobenius norm, from triangular factors, so no out x in matrix
is formed), and against the source's own forward on probe vectors. Plain factors that a look at them found to
stay the same numbers are not computed with.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.converters.canonical import one_thread
from zoo.converters.checkpoint import LoraCheckpoint
from zoo.converters.exactness import MAX_FOLD_ERROR, normal, power_of_two, rounded
from zoo.converters.folded_weights import FoldedWeights, Stored
from zoo.converters.forms import Form, LowRank
from zoo.converters.keys import PREFIX
from zoo.converters.rank import A, B
from zoo.converters.survey import Survey, survey
from zoo.errors import RefusedError
from zoo.progress import Progress, silent

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from zoo.specs.lock import ChangeRecord

    Making = Callable[[], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """Weights in normal form.

    Attributes:
        weights: by PEFT file key; `[rank, in]` and `[out, rank]`.
        rank: the common rank; also `lora_alpha`.
        targets: `target_modules`: last names where they select exactly the folded modules, else whole paths.
        dtype: storage dtype, as torch spells it.
        fold_error: largest relative Frobenius error of a module's update against the source's; rounding,
            unless the source has no exact form and an error was accepted.
        changes: what was done to the weights after the fold; `fold_error` does not include it.
    """

    weights: Mapping[str, "Tensor"]
    rank: int
    targets: tuple[str, ...]
    dtype: str
    fold_error: float
    changes: "tuple[ChangeRecord, ...]" = ()


def fold(
    checkpoint: LoraCheckpoint,
    candidates: Iterable[str],
    *,
    keep: bool = True,
    seen: Survey | None = None,
    progress: Progress = silent,
) -> Folded:
    """Folds a checkpoint.

    Args:
        checkpoint: from a reader.
        candidates: paths of all linear modules of the base, to choose short target names by.
        keep: whether the result holds its weights. Without, plain factors are read from the source again
            when they are asked for, which takes a few modules' memory; the source must stay as it is.
        seen: of the same checkpoint; taken here when left out.
        progress: told about each module.

    Raises:
        RefusedError: ZV021, the folded weights do not compute what the source does; ZV016, not finite.
    """
    seen = seen or survey(checkpoint)
    rank, dtype = seen.ranks[-1], seen.dtype
    pairs: dict[str, Making] = {}
    worst = 0.0
    with one_thread():
        for done, (path, load) in enumerate(checkpoint.modules.items(), start=1):
            pairs[path], error = _folded(path, load, seen, keep=keep)
            worst = max(worst, error)
            progress("fold", done=done, total=len(checkpoint.modules))
    spelt = str(dtype).removeprefix("torch.")
    return Folded(
        weights=FoldedWeights(
            pairs=pairs,
            sizes={path: module.shape for path, module in seen.modules.items()},
            rank=rank,
            dtype=spelt,
            stored={} if keep else _stored(seen, rank, dtype),
            digests=checkpoint.digests,
        ),
        rank=rank,
        targets=target_names(checkpoint.modules, candidates),
        dtype=spelt,
        fold_error=worst,
    )


def target_names(paths: Iterable[str], candidates: Iterable[str]) -> tuple[str, ...]:
    """`target_modules` for a set of modules.

    Args:
        paths: the adapted modules.
        candidates: all linear modules of the base.

    Returns:
        Sorted last names (`q_proj`) when those select exactly `paths`, else sorted whole paths.
    """
    wanted = set(paths)
    last = {path.rpartition(".")[2] for path in wanted}
    selected = {path for path in candidates if path.rpartition(".")[2] in last}
    return tuple(sorted(last if selected <= wanted else wanted))


def _folded(path: str, load: Callable[[], Form], seen: Survey, *, keep: bool) -> "tuple[Making, float]":
    """What makes a module's factors, and how far they are off."""
    rank, dtype, module = seen.ranks[-1], seen.dtype, seen.modules[path]
    if module.made:
        made = LowRank(a=module.made[0], b=module.made[1], scale=1.0)
        return lambda: normal(made, rank, dtype), max(_checked(path, module.error), module.loss)
    if not keep and module.stays(dtype):  # the same numbers: there is nothing to compute, or to check
        return lambda: normal(load().low_rank(), rank, dtype), 0.0
    form = load()
    own = rounded(form, form.low_rank(), rank, dtype)
    error = max(_checked(path, own.error), module.loss)
    if keep or own.other or not module.plain:
        return lambda: (own.a, own.b), error
    # plain factors are read again when they are written: cheaper than keeping all of them
    return lambda: normal(load().low_rank(), rank, dtype), error


def _checked(path: str, error: float) -> float:
    """The error of a module's fold, which is refused where it is more than rounding."""
    if not error <= MAX_FOLD_ERROR:  # also for NaN
        raise RefusedError(
            f"{path} does not fold exactly: relative error {error:.2e}, allowed {MAX_FOLD_ERROR:.0e}",
            code="ZV021",
            hint="convert it to a plain LoRA where it was made, or report the format",
        )
    return error


def _stored(seen: Survey, rank: int, dtype: "torch.dtype") -> dict[str, Stored]:
    """Where the source's file holds tensors that come out as they are but for a scale, by their new names."""
    found = {}
    for path, module in seen.modules.items():
        if module.places and module.rank == rank and module.stays(dtype) and power_of_two(module.scale):
            first, second = module.places
            found[f"{PREFIX}{path}{A}weight"] = Stored(place=first, scale=1.0)
            found[f"{PREFIX}{path}{B}weight"] = Stored(place=second, scale=module.scale)
    return found
