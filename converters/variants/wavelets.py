"""WaveFT: a few entries of an update's wavelet transform, at places drawn from a seed."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.converters.modules import broken
from zoo.converters.variants.approximation import Dense
from zoo.converters.variants.scattered import MAX_SEED, Sparse
from zoo.converters.variants.stored import Stored

if TYPE_CHECKING:
    from torch import Tensor

_MAX_TAPS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Wavelets:
    """One step of an inverse wavelet transform in two dimensions, cropped to the weight.

    The spectrum's four quarters are the coefficients; the upper right one belongs to the high rows and the
    low columns, as the library has it.
    Source: peft 0.21.2, tuners/waveft/layer.py, `get_delta_weight`, and waverec2d.py, `waverec2d`.

    Attributes:
        spectrum: float64 `[rows, columns]`, both even, mostly zero.
        low: the low-pass synthesis filter, float64 `[taps]`.
        high: the high-pass one.
        shape: `(out, in)`.
        scale: what multiplies the update.
    """

    spectrum: "Tensor"
    low: "Tensor"
    high: "Tensor"
    shape: tuple[int, int]
    scale: float

    def delta(self) -> "Tensor":
        """The library's own synthesis: one transposed convolution with four filters, and a crop."""
        import torch

        low, high = self.low, self.high
        filters = torch.stack([torch.outer(a, b) for b in (low, high) for a in (low, high)])
        rows, columns = self.spectrum.shape[0] // 2, self.spectrum.shape[1] // 2
        upper, lower = self.spectrum[:rows], self.spectrum[rows:]
        quarters = torch.stack(
            [upper[:, :columns], upper[:, columns:], lower[:, :columns], lower[:, columns:]]
        )
        whole = torch.nn.functional.conv_transpose2d(quarters[None], filters[:, None], stride=2)[0, 0]
        trim = (2 * low.shape[0] - 3) // 2
        whole = whole[trim : whole.shape[0] - trim, trim : whole.shape[1] - trim]
        top, left = (whole.shape[0] - self.shape[0]) // 2, (whole.shape[1] - self.shape[1]) // 2
        return whole[top : top + self.shape[0], left : left + self.shape[1]] * self.scale

    def update(self, x: "Tensor") -> "Tensor":
        """The transform is one matrix for the rows and one for the columns: the input meets them in turn."""
        rows, columns = self.spectrum.shape[0] // 2, self.spectrum.shape[1] // 2
        swapped = self.spectrum.clone()
        swapped[:rows, columns:], swapped[rows:, :columns] = (
            self.spectrum[rows:, :columns],
            self.spectrum[:rows, columns:],
        )
        hidden = (x @ self._synthesis(columns, self.shape[1])) @ swapped.T
        return hidden @ self._synthesis(rows, self.shape[0]).T * self.scale

    def _synthesis(self, count: int, size: int) -> "Tensor":
        """What makes `size` values of `count` low and as many high coefficients: `[size, 2 count]`."""
        import torch

        taps = self.low.shape[0]
        matrix = torch.zeros(2 * count + taps - 2, 2 * count, dtype=torch.float64)
        for place in range(count):
            matrix[2 * place : 2 * place + taps, place] = self.low
            matrix[2 * place : 2 * place + taps, count + place] = self.high
        trim = (2 * taps - 3) // 2
        matrix = matrix[trim : matrix.shape[0] - trim]
        start = (matrix.shape[0] - size) // 2
        return matrix[start : start + size]


def waveft(stored: Stored) -> Dense:
    """WaveFT's form; its places come from torch's generator on the CPU, as PEFT draws them.

    Raises:
        RefusedError: ZV016, a wavelet that PEFT does not know, or settings that do not fit.
    """
    import torch

    out, wide = stored.shape
    values = stored.take("waveft_spectrum", None).double()
    seed = int(stored.number("random_loc_seed", 777))
    if not 0 <= seed < MAX_SEED or len(values) > out * wide:
        raise broken(f"{stored.path}: {len(values)} coefficients at seed {seed}")
    flat = torch.randperm(out * wide, generator=torch.Generator().manual_seed(seed))[: len(values)]
    places, scale = torch.stack([flat // wide, flat % wide]), stored.number("scaling", 25.0)
    if not stored.settings.get("use_idwt", True):
        return Sparse(values=values * scale, places=places, shape=stored.shape)
    low, high = _filters(str(stored.settings.get("wavelet_family", "db1")))
    rows, columns = _padded(out, len(low)), _padded(wide, len(low))
    spectrum = torch.zeros(rows, columns, dtype=torch.float64)
    spectrum[places[0] + (rows - out) // 2, places[1] + (columns - wide) // 2] = values
    return Wavelets(spectrum=spectrum, low=low, high=high, shape=stored.shape, scale=scale)


def _padded(size: int, taps: int) -> int:
    """The coefficients of an even number that give at least `size` values."""
    needed = size + taps - 2
    return needed + needed % 2


def _filters(family: str) -> "tuple[Tensor, Tensor]":
    import torch
    from peft.tuners.waveft.constants import WAVELET_REDUCTIONS
    from peft.tuners.waveft.wavelet import Wavelet

    try:
        known = Wavelet(family)
        reduction = WAVELET_REDUCTIONS[family]
    except (KeyError, ValueError):
        raise broken(f"the wavelet family {family[:40]!r} is unknown") from None
    low = torch.tensor(known.rec_lo, dtype=torch.float64)
    if len(low) > _MAX_TAPS or reduction != (len(low) - 2, len(low) - 2):
        raise broken(f"the wavelet family {family[:40]!r} shrinks a weight by {reduction}")
    return low, torch.tensor(known.rec_hi, dtype=torch.float64)
