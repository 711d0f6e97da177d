"""Methods that scale the rows and columns of two factors: AdaLoRA, VeRA, DeLoRA."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.converters.forms import Form, LowRank
from zoo.converters.modules import broken
from zoo.converters.variants.stored import Stored, unfoldable

if TYPE_CHECKING:
    from torch import Tensor

_TINY = 1e-5  # AdaLoRA divides by the rank plus this
_SMALLEST_NORM = 1e-4  # DeLoRA clamps its norms here


@dataclass(frozen=True, slots=True, kw_only=True)
class Singular:
    """AdaLoRA: singular values between two factors, `B diag(e) A · alpha / (r₀ + 1e-5)`.

    r₀ is the rank before pruning, `init_r`: pruning takes rows out and leaves the scale as it was.
    Source: peft 0.21.2, tuners/adalora/layer.py, `SVDLinear.forward`; arXiv 2303.10512, eq. 3.

    Attributes:
        a: float `[r, in]`.
        b: float `[out, r]`.
        values: float `[r, 1]`.
        scale: what multiplies the product.
    """

    a: "Tensor"
    b: "Tensor"
    values: "Tensor"
    scale: float

    def low_rank(self) -> LowRank:
        """The singular values multiplied into a's rows."""
        return LowRank(a=self.a.double() * self.values.double(), b=self.b, scale=self.scale)

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: down, scale, up."""
        hidden = (x @ self.a.double().T) * self.values.double().flatten()
        return hidden @ self.b.double().T * self.scale


def adalora(stored: Stored) -> Form:
    """AdaLoRA's form."""
    out, wide = stored.shape
    a = stored.take("lora_A", None, wide)
    r = a.shape[0]
    initial = stored.number("init_r", 12)
    alpha = stored.alpha if stored.alpha > 0 else initial
    return Singular(
        a=a,
        b=stored.take("lora_B", out, r),
        values=stored.take("lora_E", r, 1),
        scale=alpha / (initial + _TINY),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Vectors:
    """VeRA: two shared random factors, scaled by two trained vectors, `diag(b) B diag(d) A`.

    Source: peft 0.21.2, tuners/vera/layer.py, `Linear.forward`; arXiv 2310.11454, eq. 2.

    Attributes:
        a: float `[r, in]`, this module's columns of the shared factor.
        b: float `[out, r]`, this module's rows of the shared factor.
        inner: float `[r]`, the vector d.
        outer: float `[out]`, the vector b.
    """

    a: "Tensor"
    b: "Tensor"
    inner: "Tensor"
    outer: "Tensor"

    def low_rank(self) -> LowRank:
        """Both vectors multiplied in."""
        a = self.a.double() * self.inner.double()[:, None]
        return LowRank(a=a, b=self.b.double() * self.outer.double()[:, None], scale=1.0)

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: down, scale, up, scale."""
        hidden = (x @ self.a.double().T) * self.inner.double()
        return hidden @ self.b.double().T * self.outer.double()


def vera(stored: Stored) -> Form:
    """VeRA's form; projections that were not saved are drawn again from `projection_prng_key`."""
    out, wide = stored.shape
    inner = stored.take("vera_lambda_d", None)
    r = stored.agree(inner.shape[0])
    if "vera_A" in stored.tensors:
        a, b = stored.take("vera_A", None, None), stored.take("vera_B", None, None)
    else:
        a, b = _vera_projections(stored, r)
    return _vectors(stored, a[:r, :wide], b[:out, :r], inner)


def pvera(stored: Stored) -> Form:
    """PVeRA's form at its mean: the first half of `lambda_d` and of A; the second is a log variance.

    Source: peft 0.21.2, tuners/pvera/layer.py, `Linear.forward` and `_reparametrize`.

    Raises:
        RefusedError: ZV012, a sampled one; ZV016, its projections were not saved.
    """
    out, wide = stored.shape
    if stored.settings.get("sample_at_inference"):
        raise unfoldable(
            "is a PVeRA that draws another update each time (sample_at_inference)",
            hint="set sample_at_inference to false in its config, and it is taken at its mean",
        )
    both = stored.take("pvera_lambda_d", None)
    r = stored.agree(both.shape[0] // 2)
    if "pvera_A" not in stored.tensors:
        raise broken("its shared projections were not saved (save_projection)")
    a, b = stored.take("pvera_A", 2 * r, None), stored.take("pvera_B", None, r)
    return _vectors(stored, a[:r, :wide], b[:out], both[:r], "pvera_lambda_b")


def _vectors(
    stored: Stored, a: "Tensor", b: "Tensor", inner: "Tensor", outer: str = "vera_lambda_b"
) -> Vectors:
    out, wide = stored.shape
    if tuple(a.shape) != (inner.shape[0], wide) or tuple(b.shape) != (out, inner.shape[0]):
        raise broken(f"the shared projections are too small for {stored.path}")
    return Vectors(a=a, b=b, inner=inner, outer=stored.take(outer, out))


def _vera_projections(stored: Stored, r: int) -> tuple["Tensor", "Tensor"]:
    """PEFT's random projections: uniform, from one CPU generator, A first, sized for the widest module.

    Source: peft 0.21.2, tuners/vera/model.py, `_init_vera_A_vera_B` and `_kaiming_init`.
    """
    import math

    import torch

    generator = torch.Generator(device="cpu").manual_seed(int(stored.number("projection_prng_key", 0)))

    def draw(rows: int, columns: int) -> "Tensor":
        bound = math.sqrt(3.0) * (math.sqrt(2) / math.sqrt(columns))  # in this order: the last bit counts
        return torch.empty(rows, columns).uniform_(-bound, bound, generator=generator)

    out, wide = stored.widest
    a = draw(r, wide)
    return a, draw(out, r)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalised:
    """DeLoRA: normalised factors, a trained strength, and the norms of the base weight's columns.

    Source: peft 0.21.2, tuners/delora/layer.py, `DeloraLinear.forward`; arXiv 2503.18225, eq. 4.

    Attributes:
        a: float `[r, in]`.
        b: float `[out, r]`.
        strength: lambda over the rank.
        norms: float `[in]`, of the base weight's columns before training.
    """

    a: "Tensor"
    b: "Tensor"
    strength: float
    norms: "Tensor"

    def low_rank(self) -> LowRank:
        """The column norms multiplied into a, the normalisation into b."""
        return LowRank(
            a=self.a.double() * self.norms.double(), b=self.b.double() * self._lengths(), scale=self.strength
        )

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: scale the input, down, normalise, up."""
        hidden = (x * self.norms.double()) @ self.a.double().T
        return (hidden * (self.strength * self._lengths())) @ self.b.double().T

    def _lengths(self) -> "Tensor":
        down = self.a.double().norm(dim=1).clamp(min=_SMALLEST_NORM)
        up = self.b.double().norm(dim=0).clamp(min=_SMALLEST_NORM)
        lengths: Tensor = down * up
        return lengths.reciprocal()


def delora(stored: Stored) -> Form:
    """DeLoRA's form."""
    out, wide = stored.shape
    a = stored.take("delora_A", None, wide)
    r = stored.agree(a.shape[0])
    return Normalised(
        a=a,
        b=stored.take("delora_B", out, r),
        strength=float(stored.take("delora_lambda", 1)) / r,
        norms=stored.take("delora_w_norm", wide),
    )
