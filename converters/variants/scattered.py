"""Methods whose update has full rank from few numbers: FourierFT, SHiRA, Super-Tuning and RandLoRA."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.converters.forms import LowRank
from zoo.converters.modules import broken
from zoo.converters.variants.approximation import Dense
from zoo.converters.variants.stored import Stored
from zoo.errors import RefusedError

if TYPE_CHECKING:
    from torch import Tensor

MAX_SEED = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectral:
    """FourierFT: a few entries of the update's spectrum, at places drawn from a seed.

    Source: peft 0.21.2, tuners/fourierft/layer.py, `get_delta_weight`; arXiv 2405.03003, eq. 3.

    Attributes:
        spectrum: float64 `[out, in]`, mostly zero.
        scale: what multiplies the update.
    """

    spectrum: "Tensor"
    scale: float

    def delta(self) -> "Tensor":
        """The real part of the inverse transform."""
        import torch

        back: Tensor = torch.fft.ifft2(self.spectrum).real
        return back * self.scale

    def update(self, x: "Tensor") -> "Tensor":
        """One transform of the input and one of the output, without the update itself."""
        import torch

        mixed = torch.fft.ifft(x) @ self.spectrum.T.to(torch.complex128)
        back: Tensor = torch.fft.ifft(mixed).real
        return back * self.scale


def fourierft(stored: Stored) -> Dense:
    """FourierFT's form; its places come from torch's generator on the CPU, as PEFT draws them."""
    import torch

    out, wide = stored.shape
    values = stored.take("fourierft_spectrum", None)
    seed = int(stored.number("random_loc_seed", 777))
    if not 0 <= seed < MAX_SEED or len(values) > out * wide:
        raise broken(f"{stored.path}: {len(values)} frequencies at seed {seed}")
    places = torch.randperm(out * wide, generator=torch.Generator().manual_seed(seed))[: len(values)]
    spectrum = torch.zeros(out * wide, dtype=torch.float64)
    spectrum[places] = values.double()
    return Spectral(spectrum=spectrum.view(out, wide), scale=stored.number("scaling", 150.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sparse:
    """SHiRA: single entries of the weight.

    Source: peft 0.21.2, tuners/shira/layer.py, `get_delta_weight`; arXiv 2406.13175.

    Attributes:
        values: float `[n]`.
        places: int64 `[2, n]`, rows and columns.
        shape: `(out, in)`.
    """

    values: "Tensor"
    places: "Tensor"
    shape: tuple[int, int]

    def delta(self) -> "Tensor":
        """The entries in their places; entries in one place add up."""
        import torch

        rows, columns = self.places
        flat = torch.zeros(self.shape[0] * self.shape[1], dtype=torch.float64)
        flat.index_add_(0, rows * self.shape[1] + columns, self.values.double())
        return flat.view(self.shape)

    def update(self, x: "Tensor") -> "Tensor":
        """Each entry carries one input to one output."""
        rows, columns = self.places
        total = x.new_zeros(x.shape[0], self.shape[0])
        return total.index_add_(1, rows, x[:, columns] * self.values.double())


def shira(stored: Stored) -> Dense:
    """SHiRA's form.

    Raises:
        RefusedError: ZV016, places outside the weight.
    """
    values = stored.take("shira_weight", None)
    places = stored.take("shira_indices", 2, values.shape[0]).long()
    out, wide = stored.shape
    if places.numel() and (places.min() < 0 or places[0].max() >= out or places[1].max() >= wide):
        raise broken(f"{stored.path}.shira_indices leaves the weight")
    return Sparse(values=values, places=places, shape=stored.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Supported:
    """Super-Tuning: single entries of the weight, and in its hybrid Supra a LoRA beside them.

    Source: peft 0.21.2, tuners/supertuning/layer.py, `Linear.forward`; arXiv 2607.09287.

    Attributes:
        entries: the single entries.
        plain: the LoRA, or None.
    """

    entries: Sparse
    plain: LowRank | None

    def delta(self) -> "Tensor":
        """The entries in their places, and the product."""
        delta = self.entries.delta()
        if self.plain is None:
            return delta
        return delta + self.plain.b.double() @ self.plain.a.double() * self.plain.scale

    def update(self, x: "Tensor") -> "Tensor":
        """Each entry carries one input to one output; the LoRA goes down and up."""
        total = self.entries.update(x)
        return total if self.plain is None else total + self.plain.update(x)


def supertuning(stored: Stored) -> Dense:
    """Super-Tuning's form; places that were not saved are those of the largest or smallest base weights.

    Raises:
        RefusedError: ZV016, places outside the weight; ZV025, two base weights of the same size.
    """
    out, wide = stored.shape
    values = stored.take("supertuning_values", None)
    if "supertuning_indices" in stored.tensors:
        flat = stored.take("supertuning_indices", values.shape[0]).long()
    else:
        flat = _by_magnitude(stored, values.shape[0])
    if flat.numel() and not 0 <= int(flat.min()) <= int(flat.max()) < out * wide:
        raise broken(f"{stored.path}.supertuning_indices leaves the weight")
    entries = Sparse(values=values, places=_rows_and_columns(flat, wide), shape=stored.shape)
    if "supertuning_lora_A" not in stored.tensors:
        return Supported(entries=entries, plain=None)
    a = stored.take("supertuning_lora_A", None, wide)
    b = stored.take("supertuning_lora_B", out, stored.agree(a.shape[0]))
    scale = stored.alpha / a.shape[0]
    return Supported(entries=entries, plain=LowRank(a=a, b=b, scale=scale))


def _rows_and_columns(flat: "Tensor", wide: int) -> "Tensor":
    import torch

    return torch.stack([flat // wide, flat % wide])


def _by_magnitude(stored: Stored, count: int) -> "Tensor":
    import torch

    sizes = stored.weight().abs().flatten()
    if count > sizes.numel():
        raise broken(f"{stored.path} has {count} entries")
    largest = bool(stored.settings.get("select_top", True))
    found, places = torch.topk(sizes, k=min(count + 1, sizes.numel()), largest=largest)
    if bool((found[1:] == found[:-1]).any()):
        raise RefusedError(
            f"{stored.path}: the places were not saved, and base weights of the same size leave them open",
            code="ZV025",
            hint="save it where it was trained with save_precomputed_indices",
        )
    return places[:count]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bases:
    """RandLoRA: a sum of scaled random low-rank matrices, as many as make full rank.

    Source: peft 0.21.2, tuners/randlora/layer.py, `get_scaled_bases` and `Linear.forward`; arXiv 2502.00987.

    Attributes:
        a: float64 `[k, in]`.
        b: float64 `[out, k]`.
        scale: what multiplies the product.
    """

    a: "Tensor"
    b: "Tensor"
    scale: float

    def delta(self) -> "Tensor":
        """The product."""
        return (self.b @ self.a) * self.scale

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: down, up."""
        return ((x @ self.a.T) @ self.b.T) * self.scale


def randlora(stored: Stored) -> Dense:
    """RandLoRA's form; the trained scales go on the factor of the smaller side."""
    out, wide = stored.shape
    small, large = min(out, wide), max(out, wide)
    factors = stored.take("randlora_lambda", None, None).double()
    r, count = factors.shape
    stored.agree(r)
    gamma = stored.take("randlora_gamma", count, small).double()
    if "randlora_A" not in stored.tensors:
        raise broken("its shared random bases were not saved (save_projection)")
    shared = stored.take("randlora_A", r, 1, None).double()[:, :, :small]
    others = stored.take("randlora_B", None, None, r).double()[:large, :count, :]
    if shared.shape[2] != small or tuple(others.shape) != (large, count, r):
        raise broken(f"the shared random bases are too small for {stored.path}")
    trained = (factors[:, :, None] * shared * gamma[None]).flatten(end_dim=1)
    scale = stored.number("randlora_alpha", 640) / r
    if small == wide:
        return Bases(a=trained, b=others.flatten(start_dim=1), scale=scale)
    return Bases(a=others.flatten(start_dim=1).T.contiguous(), b=trained.T.contiguous(), scale=scale)
