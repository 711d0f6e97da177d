"""The exact fold to normal form: one rank, `lora_alpha = r`, every scale inside lora_B, PEFT's keys.

Why: vLLM reads only the global r and alpha, llama.cpp neither rsLoRA nor patterns; in normal form every
engine computes the same function. The fold runs in float64, one module at a time, and is checked twice:
against the plain factors it was made from (Frobenius norm, from triangular factors, so no out x in matrix
is formed), and against the source's own forward on probe vectors.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.converters.checkpoint import LoraCheckpoint
from zoo.converters.forms import Form, LowRank
from zoo.converters.keys import PREFIX
from zoo.errors import RefusedError
from zoo.progress import Progress, silent

if TYPE_CHECKING:
    import torch
    from torch import Tensor

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
        fold_error: largest relative Frobenius error of a module's update against the source's.
    """

    weights: Mapping[str, "Tensor"]
    rank: int
    targets: tuple[str, ...]
    dtype: str
    fold_error: float


def fold(checkpoint: LoraCheckpoint, candidates: Iterable[str], *, progress: Progress = silent) -> Folded:
    """Folds a checkpoint.

    Args:
        checkpoint: from a reader.
        candidates: paths of all linear modules of the base, to choose short target names by.
        progress: told about each module.

    Raises:
        RefusedError: ZV021, the folded weights do not compute what the source does; ZV016, not finite.
    """
    rank, dtype = _common(checkpoint)
    weights: dict[str, Tensor] = {}
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
        worst = max(worst, error)
        weights[f"{PREFIX}{path}.lora_A.weight"] = a
        weights[f"{PREFIX}{path}.lora_B.weight"] = b
        progress("fold", done=done, total=len(checkpoint.modules))
    return Folded(
        weights=weights,
        rank=rank,
        targets=target_names(checkpoint.modules, candidates),
        dtype=str(dtype).removeprefix("torch."),
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
        scaled = plain.b.double() * plain.scale
        exact = exact and torch.equal(scaled.to(widest).double(), scaled)
    if widest is torch.float64 or (widest.itemsize == 2 and not exact):
        widest = torch.float32
    return rank, widest


def _normal(plain: LowRank, rank: int, dtype: "torch.dtype") -> tuple["Tensor", "Tensor"]:
    import torch

    r = plain.a.shape[0]
    a = torch.zeros(rank, plain.a.shape[1], dtype=torch.float64)
    b = torch.zeros(plain.b.shape[0], rank, dtype=torch.float64)
    a[:r] = plain.a
    b[:, :r] = plain.b.double() * plain.scale
    return a.to(dtype), b.to(dtype)


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
