"""The exact fold to normal form: one rank, `lora_alpha = r`, every scale inside lora_B, PEFT's keys.

Why: vLLM reads only the global r and alpha, llama.cpp neither rsLoRA nor patterns; in normal form every
engine computes the same function. The fold runs in float64, one module at a time, and is checked twice:
against the plain factors it was made from (Frobenius norm, from triangular factors, so no out x in matrix
is formed), and against the source's own forward on probe vectors.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.converters.checkpoint import LoraCheckpoint
from zoo.converters.concat import WeightedSum
from zoo.converters.folded_weights import FoldedWeights
from zoo.converters.forms import Form, LowRank
from zoo.converters.variants.approximation import Approximated
from zoo.errors import RefusedError
from zoo.progress import Progress, silent

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from zoo.specs.lock import ChangeRecord

MAX_FOLD_ERROR = 1e-6  # float32 rounding of lora_B is 6e-8; anything above this is a wrong fold
PROBES = 16


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
    progress: Progress = silent,
) -> Folded:
    """Folds a checkpoint.

    Args:
        checkpoint: from a reader.
        candidates: paths of all linear modules of the base, to choose short target names by.
        keep: whether the result holds its weights. Without, plain factors are read from the source again
            when they are asked for, which takes a few modules' memory; the source must stay as it is.
        progress: told about each module.

    Raises:
        RefusedError: ZV021, the folded weights do not compute what the source does; ZV016, not finite.
    """
    rank, dtype = _common(checkpoint)
    pairs: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    worst = 0.0
    for done, (path, load) in enumerate(checkpoint.modules.items(), start=1):
        form = load()
        a, b = _normal(form.low_rank(), rank, dtype)
        error = fold_error(form, a, b)
        if not error <= MAX_FOLD_ERROR:  # also for NaN
            raise RefusedError(
                f"{path} does not fold exactly: relative error {error:.2e}, allowed {MAX_FOLD_ERROR:.0e}",
                code="ZV021",
                hint="convert it to a plain LoRA where it was made, or report the format",
            )
        worst = max(worst, error, form.error if isinstance(form, Approximated | WeightedSum) else 0.0)
        lazy = not keep and isinstance(form, LowRank)
        pairs[path] = _again(load, rank, dtype) if lazy else _kept(a, b)
        sizes[path] = (b.shape[0], a.shape[1])
        progress("fold", done=done, total=len(checkpoint.modules))
    spelt = str(dtype).removeprefix("torch.")
    return Folded(
        weights=FoldedWeights(pairs=pairs, sizes=sizes, rank=rank, dtype=spelt),
        rank=rank,
        targets=target_names(checkpoint.modules, candidates),
        dtype=spelt,
        fold_error=worst,
    )


def fold_error(form: Form, a: "Tensor", b: "Tensor") -> float:
    """How far `b @ a` is from what the source adds: the larger of two independent measurements.

    Args:
        form: the source's own form.
        a: `[rank, in]`.
        b: `[out, rank]`.

    Returns:
        Relative Frobenius error; 0 for two zero updates, infinity against a zero source.
    """
    import torch

    plain = form.low_rank()
    if isinstance(form, LowRank):  # its forward is these factors: there is nothing else to compare with
        return _plain_error(plain, a, b)
    exact = _norm(torch.cat([b.double(), -plain.scale * plain.b.double()], dim=1), _stack(a, plain.a))
    size = abs(plain.scale) * _norm(plain.b.double(), plain.a.double())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(PROBES, a.shape[1], generator=generator, dtype=torch.float64)
    wanted = form.update(x)
    probed = (x @ a.double().T) @ b.double().T - wanted
    return max(_ratio(exact, size), _ratio(float(probed.norm()), float(wanted.norm())))


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


def _common(checkpoint: LoraCheckpoint) -> tuple[int, "torch.dtype"]:
    """The largest rank, and the source's dtype where folding into it loses nothing, else float32."""
    import torch

    rank, widest, exact = 1, torch.float16, True
    first = True
    for load in checkpoint.modules.values():
        plain = load().low_rank()
        rank = max(rank, plain.a.shape[0])
        for tensor in (plain.a, plain.b):
            widest = tensor.dtype if first else torch.promote_types(widest, tensor.dtype)
            first = False
        exact = exact and _scales_exactly(plain, widest)
    if widest is torch.float64 or (widest.itemsize == 2 and not exact):
        widest = torch.float32
    return rank, widest


def _normal(plain: LowRank, rank: int, dtype: "torch.dtype") -> tuple["Tensor", "Tensor"]:
    import torch

    r = plain.a.shape[0]
    if r == rank and plain.a.dtype == plain.b.dtype == dtype and _power_of_two(plain.scale):
        return plain.a, plain.b if plain.scale == 1.0 else plain.b * plain.scale
    a = torch.zeros(rank, plain.a.shape[1], dtype=torch.float64)
    b = torch.zeros(plain.b.shape[0], rank, dtype=torch.float64)
    a[:r] = plain.a
    b[:, :r] = plain.b.double() * plain.scale
    return a.to(dtype), b.to(dtype)


def _again(
    load: "Callable[[], Form]", rank: int, dtype: "torch.dtype"
) -> "Callable[[], tuple[Tensor, Tensor]]":
    """Plain factors are read again when they are written: cheaper than keeping all of them."""
    return lambda: _normal(load().low_rank(), rank, dtype)


def _kept(a: "Tensor", b: "Tensor") -> "Callable[[], tuple[Tensor, Tensor]]":
    return lambda: (a, b)


def _power_of_two(scale: float) -> bool:
    """Whether multiplying by it only moves exponents: exact in every float dtype short of its limits."""
    return abs(math.frexp(scale)[0]) == 0.5


def _scales_exactly(plain: LowRank, dtype: "torch.dtype") -> bool:
    """Whether lora_B times the scale is the same number in this dtype, whose exponents have limits."""
    import torch

    if plain.b.dtype == dtype and _power_of_two(plain.scale):
        return plain.scale == 1.0 or torch.equal(plain.b * plain.scale / plain.scale, plain.b)
    scaled = plain.b.double() * plain.scale
    return torch.equal(scaled.to(dtype).double(), scaled)


def _plain_error(plain: LowRank, a: "Tensor", b: "Tensor") -> float:
    """The relative error of factors made from plain ones: none where they are the same numbers.

    Else from Gram matrices, whose entries are sums over the long side; where those nearly cancel, from
    triangular factors.
    """
    import torch

    r = plain.a.shape[0]
    same = torch.equal(a[:r].to(plain.a.dtype), plain.a) and not a[r:].any() and not b[:, r:].any()
    if same and b.dtype == plain.b.dtype and _power_of_two(plain.scale):
        unscaled = b[:, :r] if plain.scale == 1.0 else b[:, :r] / plain.scale
        if torch.equal(unscaled, plain.b):
            return 0.0
    off = b.to(torch.float64, copy=True)
    off[:, :r] -= plain.scale * plain.b.double()
    if same and torch.equal(a[:r].double(), plain.a.double()):
        grams = a.double() @ a.double().T
        wide = plain.scale * plain.b.double()
        whole = wide.T @ wide
        size = float((whole * grams[:r, :r]).sum())
        if size > 1e-6 * float(whole.norm() * grams[:r, :r].norm()):
            return _ratio(max(float(((off.T @ off) * grams).sum()), 0.0) ** 0.5, size**0.5)
    exact = _norm(torch.cat([b.double(), -plain.scale * plain.b.double()], dim=1), _stack(a, plain.a))
    return _ratio(exact, abs(plain.scale) * _norm(plain.b.double(), plain.a.double()))


def _stack(a: "Tensor", other: "Tensor") -> "Tensor":
    import torch

    return torch.cat([a.double(), other.double()])


def _norm(left: "Tensor", right: "Tensor") -> float:
    """Frobenius norm of `left @ right` from triangular factors: float64 `[m, k]` and `[k, n]`."""
    import torch

    first = torch.linalg.qr(left, mode="r").R
    second = torch.linalg.qr(right.T, mode="r").R
    return float((first @ second.T).norm())


def _ratio(error: float, size: float) -> float:
    if error == 0.0:
        return 0.0
    return error / size if size else math.inf
