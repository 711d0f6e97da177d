"""A lower rank, chosen as well as can be: the largest singular values of each module's update.

Source: Eckart & Young, Psychometrika 1936: no other update of that rank is nearer in the Frobenius norm.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.converters.canonical import Canonical, canonical, distance
from zoo.converters.rank import A, B, rank_of
from zoo.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """How much of an update to keep; one of the two is given.

    Attributes:
        rank: at most this many singular values of every module.
        energy: of every module as few as hold this share of the squared Frobenius norm, over 0 to 1.
    """

    rank: int | None = None
    energy: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Cut":
        """Reads `8` as a rank, `0.99` or `99%` as a share of energy.

        Raises:
            UsageError: it is neither.
        """
        try:
            if text.strip().isdecimal() and int(text) > 0:
                return cls(rank=int(text))
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = math.nan
        if not 0 < share <= 1:
            raise UsageError(
                f"cannot truncate to {text[:40]!r}",
                hint="a rank such as 8, or a share such as 0.99",
            )
        return cls(energy=share)

    def check(self, rank: int) -> None:
        """Refuses to keep more than there is.

        Raises:
            UsageError: the weights have a lower rank than is asked for.
        """
        if self.rank is not None and self.rank > rank:
            raise UsageError(
                f"the weights have rank {rank}: there is nothing to truncate to {self.rank}",
                hint="leave --truncate out, or grow the rank with --grow",
            )

    def kept(self, form: Canonical) -> int:
        """How many singular values of this update to keep."""
        if self.rank is not None:
            return min(self.rank, len(form.s))
        energies = form.s.square().cumsum(0)
        if not len(energies):
            return 0
        wanted = (self.energy or 0.0) * energies[-1] * (1 - 1e-12)  # a share of 1 must not ask for rounding
        return int((energies < wanted).sum()) + 1

    def __str__(self) -> str:
        """As the plan says it."""
        return f"rank {self.rank}" if self.rank is not None else f"{self.energy:.6g} of each module's energy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Truncation:
    """Weights of a lower rank, and what that cost.

    Attributes:
        weights: by PEFT file key, in normal form, in the dtypes they had.
        ranks: kept singular values by module path key (the tensor name up to `.lora_A`).
        errors: relative Frobenius error of each module's update as stored, rounding included.
        error: of all modules together.
    """

    weights: Mapping[str, "Tensor"]
    ranks: Mapping[str, int]
    errors: Mapping[str, float]
    error: float

    def document(self) -> dict[str, Any]:
        """The cost as plain data."""
        return {"error": self.error, "errors": dict(self.errors), "ranks": dict(self.ranks)}


def truncate(weights: Mapping[str, "Tensor"], cut: Cut) -> Truncation:
    """Weights of the lowest rank that the cut allows; modules of lower ranks are zero-padded to the highest.

    Args:
        weights: by PEFT file key, in normal form (scale 1): A `[rank, in]`, B `[out, rank]`.
        cut: how much to keep.

    Raises:
        UsageError: the cut asks for a higher rank than the weights have.
    """
    cut.check(rank_of(weights))
    modules = {name.partition(A)[0]: name for name in weights if A in name}
    forms = {path: canonical(weights[a], weights[a.replace(A, B)]) for path, a in modules.items()}
    ranks = {path: cut.kept(form) for path, form in forms.items()}
    rank = max(1, *ranks.values())
    made: dict[str, Tensor] = {}
    errors, lost, whole = {}, 0.0, 0.0
    for path, name in modules.items():
        a, b = weights[name], weights[name.replace(A, B)]
        made[name], made[name.replace(A, B)] = _factors(forms[path], ranks[path], rank, a, b)
        off, size = distance(a, b, made[name], made[name.replace(A, B)]), forms[path].norm
        errors[path] = off / size if size else 0.0
        lost, whole = lost + off**2, whole + size**2
    error = math.sqrt(lost / whole) if whole else 0.0
    return Truncation(weights=made, ranks=ranks, errors=errors, error=error)


def _factors(form: Canonical, kept: int, rank: int, a: "Tensor", b: "Tensor") -> tuple["Tensor", "Tensor"]:
    """Both factors get the root of each singular value, so that neither needs more range than the other."""
    roots = form.s[:kept].sqrt()
    made_a, made_b = a.new_zeros(rank, a.shape[1]), b.new_zeros(b.shape[0], rank)
    made_a[:kept] = (form.v[:, :kept] * roots).T.to(a.dtype)
    made_b[:, :kept] = (form.u[:, :kept] * roots).to(b.dtype)
    return made_a, made_b
