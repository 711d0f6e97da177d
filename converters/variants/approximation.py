"""Updates of full rank: the best plain factors of a given rank, and exactly how far off they are.

The update is formed densely, one module at a time, because it is dense. Its leading singular vectors are
exact for modules up to `EXACT` wide, and above that come from subspace iteration with a fixed seed; the error
stated is always that of the factors at hand, ‖Δ − U Uᵀ Δ‖ / ‖Δ‖, not an estimate.
Source: Eckart & Young, Psychometrika 1936; Halko, Martinsson & Tropp, SIAM Review 2011, algorithm 4.4.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from zoo.converters.forms import Form, LowRank
from zoo.errors import RefusedError

if TYPE_CHECKING:
    from torch import Tensor

EXACT = 1024
MAX_RANK = 1024
RANKS_SHOWN = (8, 16, 64, 256, 1024)
MAX_MEASURED = 16  # modules that a refusal measures: it is to take minutes at most
_OVERSAMPLED, _ITERATIONS, _PROBES = 16, 4, 8
_DISTILLED = "--recover DATA distils the original instead, from its best factors of --grow RANK"
_NO_TEACHER = "--recover cannot make up for it: PEFT, which would run the teacher, does not load this format"


class Dense(Protocol):
    """A stored update of full rank."""

    def delta(self) -> "Tensor":
        """What the source adds to the base weight: float64 `[out, in]`."""

    def update(self, x: "Tensor") -> "Tensor":
        """What the source adds to the module's output for inputs x: float64 `[rows, out]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approximated:
    """Plain factors that stand for an update of full rank.

    Attributes:
        factors: the best of their rank.
        error: relative Frobenius error against the source's update.
    """

    factors: LowRank
    error: float

    def low_rank(self) -> LowRank:
        """The factors."""
        return self.factors

    def update(self, x: "Tensor") -> "Tensor":
        """What the factors add, which is off by `error` from what the source adds."""
        return self.factors.update(x)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leading:
    """The leading singular vectors of an update.

    Attributes:
        b: `[out, k]`, orthonormal columns.
        a: `[k, in]`, the update projected on them.
        errors: relative Frobenius error of the first 0, 1, …, k of them.
    """

    b: "Tensor"
    a: "Tensor"
    errors: tuple[float, ...]

    def rank_for(self, error: float) -> int | None:
        """The lowest rank within an error; None when all of them are not enough."""
        return next((rank for rank, found in enumerate(self.errors) if found <= error), None)

    def error_at(self, rank: int) -> float:
        """The error of a rank, or of all there are."""
        return self.errors[min(rank, len(self.errors) - 1)]


def approximate(dense: Dense, *, max_error: float) -> Approximated | None:
    """Factors of the lowest rank whose error is at most `max_error`; None where there are none.

    Raises:
        RefusedError: ZV021, the update does not compute what the source's own forward does.
    """
    leading = _measured(dense)
    rank = leading.rank_for(max_error)
    if rank is None:
        return None
    return cut(leading, max(rank, 1))


def cut(leading: Leading, rank: int) -> Approximated:
    """The first `rank` of the leading vectors, as factors."""
    factors = LowRank(a=leading.a[:rank].contiguous(), b=leading.b[:, :rank].contiguous(), scale=1.0)
    return Approximated(factors=factors, error=leading.error_at(rank))


def lead(delta: "Tensor", *, rank: int = MAX_RANK) -> Leading:
    """The leading singular vectors of a matrix: float64 `[out, in]`."""
    import torch

    size = float(delta.norm())
    if not math.isfinite(size) or size == 0.0:
        zero = delta.new_zeros(delta.shape[0], 1), delta.new_zeros(1, delta.shape[1])
        return Leading(b=zero[0], a=zero[1], errors=(0.0 if size == 0.0 else math.nan,) * 2)
    if min(delta.shape) <= EXACT:
        u, s, v = torch.linalg.svd(delta, full_matrices=False)
        rest = 0.0
    else:
        u, s, v = _subspace(delta, rank)
        rest = max(0.0, size**2 - float(s.square().sum()))
    behind = torch.cat([s[1:].square().flip(0).cumsum(0).flip(0), s.new_zeros(1)]) + rest
    errors = (behind.sqrt() / size)[:rank].tolist()
    return Leading(b=u[:, :rank], a=s[:rank, None] * v[:rank], errors=(1.0, *errors))


def refuse_dense(
    name: str,
    what: str,
    modules: "Mapping[str, Callable[[], Dense]]",
    *,
    code: str,
    teacher: bool = True,
) -> RefusedError:
    """The refusal of an update of full rank, with the measured error of the worst module at several ranks.

    Args:
        name: the source's.
        what: what it is, as the end of a sentence "it …".
        modules: loads the updates by module path.
        code: of the refusal.
        teacher: whether PEFT loads the source, so that it can be distilled.
    """
    paths = _spread(list(modules))
    found = [_measured(modules[path]()) for path in paths]
    widest = max(len(leading.errors) - 1 for leading in found)
    ranks = sorted({min(rank, widest) for rank in RANKS_SHOWN})
    table = [(rank, max(leading.error_at(rank) for leading in found)) for rank in ranks]
    said = ", ".join(f"{error:.3f} at rank {rank}" for rank, error in table)
    many = f"{len(paths)} of its {len(modules)} modules" if len(paths) < len(modules) else "its modules"
    good = min((error for rank, error in table if error >= 1e-3), default=1e-3)
    return RefusedError(
        f"{name} has no exact low-rank form: it {what}; relative error of the worst of {many}: {said}",
        code=code,
        hint=f"--max-error {math.ceil(good * 1000) / 1000:.3g} accepts that loss and finds the rank; more "
        f"than a few per cent is seldom harmless; {_DISTILLED if teacher else _NO_TEACHER}",
    )


def approximated_modules(
    name: str,
    what: str,
    modules: "Mapping[str, Callable[[], Dense]]",
    *,
    max_error: float | None,
    rank: int | None = None,
    code: str,
    teacher: bool = True,
) -> dict[str, Callable[[], Form]]:
    """Loaders of factors within `max_error`, or else of the best ones of a rank, each computed once.

    The arguments are those of `refuse_dense`.

    Raises:
        RefusedError: `code`, no error was accepted, or (when loaded) no rank up to `MAX_RANK` is within it.
    """
    if max_error is None and rank is None:
        raise refuse_dense(name, what, modules, code=code, teacher=teacher)

    def loader(path: str) -> Callable[[], Form]:
        kept: list[Form] = []

        def load() -> Form:
            if not kept:
                dense = modules[path]()
                if max_error is not None:
                    form = approximate(dense, max_error=max_error)
                else:
                    form = cut(_measured(dense), rank or 1)
                if form is None:
                    raise refuse_dense(name, what, {path: modules[path]}, code=code, teacher=teacher)
                kept.append(form)
            return kept[0]

        return load

    return {path: loader(path) for path in modules}


def _measured(dense: Dense) -> Leading:
    import torch

    delta = dense.delta()
    x = torch.randn(_PROBES, delta.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    wanted = dense.update(x)
    if not float((x @ delta.T - wanted).norm()) <= 1e-6 * max(float(wanted.norm()), 1e-30):
        raise RefusedError(
            "an update of full rank does not compute what its own forward does, or is not finite",
            code="ZV021",
            hint="report the format",
        )
    return lead(delta)


def _spread(paths: Sequence[str]) -> list[str]:
    step = max(1, math.ceil(len(paths) / MAX_MEASURED))
    return list(paths[::step])


def _subspace(delta: "Tensor", rank: int) -> "tuple[Tensor, Tensor, Tensor]":
    """Leading singular triplets of a large matrix, by subspace iteration in float32 and a small exact SVD."""
    import torch

    width = min(rank + _OVERSAMPLED, min(delta.shape))
    single = delta.float()
    start = torch.randn(delta.shape[1], width, generator=torch.Generator().manual_seed(0))
    q = torch.linalg.qr(single @ start).Q
    for _ in range(_ITERATIONS):
        q = torch.linalg.qr(single @ torch.linalg.qr(single.T @ q).Q).Q
    q = torch.linalg.qr(q.double()).Q
    u, s, v = torch.linalg.svd(q.T @ delta, full_matrices=False)
    return (q @ u)[:, :rank], s[:rank], v[:rank]
