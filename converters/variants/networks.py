"""PEANuT: a small network over the base weight's columns; its update is fixed, and of the network's width."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.converters.forms import Form, LowRank
from zoo.converters.modules import broken
from zoo.converters.variants.stored import Stored

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """`s B G(W₀)ᵀ`, with G from each column of the base weight to r numbers: linear in the input.

    The nonlinear functions act on the weight and never on the input, so that the update has rank r.
    Source: peft 0.21.2, tuners/peanut/layer.py, `_compute_delta_weight`; arXiv 2410.01870.

    Attributes:
        first: float `[r, out]`.
        encoders: float `[r, r]` each.
        decoders: as many.
        last: float `[out, r]`, B.
        activate: the nonlinear function.
        scale: what multiplies the update.
        weight: loads the base weight, float `[out, in]`.
    """

    first: "Tensor"
    encoders: "tuple[Tensor, ...]"
    decoders: "tuple[Tensor, ...]"
    last: "Tensor"
    activate: "Callable[[Tensor], Tensor]"
    scale: float
    weight: "Callable[[], Tensor]"

    def low_rank(self) -> LowRank:
        """The network's numbers for each input as a."""
        return LowRank(a=self._numbers(self.weight().double().T).T, b=self.last, scale=self.scale)

    def update(self, x: "Tensor") -> "Tensor":
        """Some inputs at a time, so that no factor is put together."""
        columns = self.weight().double().T
        hidden = x.new_zeros(x.shape[0], self.last.shape[1])
        for start in range(0, columns.shape[0], _ROWS):
            hidden += x[:, start : start + _ROWS] @ self._numbers(columns[start : start + _ROWS])
        return hidden @ self.last.double().T * self.scale

    def _numbers(self, columns: "Tensor") -> "Tensor":
        """G: float64 `[n, out]` to `[n, r]`; encoders, then decoders with residuals in reverse."""
        found = self.activate(columns @ self.first.double().T)
        residuals = []
        for encoder in self.encoders:
            residuals.append(found)
            found = self.activate(found @ encoder.double().T)
        for decoder, residual in zip(self.decoders, reversed(residuals), strict=True):
            found = self.activate(found @ decoder.double().T) + residual
        return found


def peanut(stored: Stored) -> Form:
    """PEANuT's form."""
    out, _ = stored.shape
    first = stored.take("peanut_A", None, out)
    r = stored.agree(first.shape[0])
    depth = int(stored.number("depth", 0))
    if depth != stored.numbered("peanut_encoders") or depth != stored.numbered("peanut_decoders"):
        raise broken(f"{stored.path} has other encoders or decoders than its depth {depth}")
    return Network(
        first=first,
        encoders=tuple(stored.take(f"peanut_encoders.{number}", r, r) for number in range(depth)),
        decoders=tuple(stored.take(f"peanut_decoders.{number}", r, r) for number in range(depth)),
        last=stored.take("peanut_B", out, r),
        activate=_activation(stored.settings.get("act_fn") or "relu"),
        scale=stored.number("scaling", 1.0),
        weight=stored.weight,
    )


def _activation(name: Any) -> "Callable[[Tensor], Tensor]":
    from transformers.activations import ACT2FN

    if not isinstance(name, str) or name not in ACT2FN:
        raise broken(f"the activation {str(name)[:40]!r} is unknown")
    function: Callable[[Tensor], Tensor] = ACT2FN[name]
    return function
