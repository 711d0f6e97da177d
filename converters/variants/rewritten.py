"""Methods of full rank that write a weight anew from the base's: GLoRA, RoAd, FRoD, MiSS's mode `bat`.

`delta` is the matrix as its definition gives it; `update` is the library's forward, which takes another way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from zoo.converters.modules import broken
from zoo.converters.variants.approximation import Dense
from zoo.converters.variants.method import Settings
from zoo.converters.variants.stored import Stored

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Generalised:
    """GLoRA: the base weight multiplied elementwise, and something added, `W₀ ⊙ A + B`.

    Source: peft 0.21.2, tuners/glora/layer.py, `GloraLinear.forward`; arXiv 2306.07967, eq. 10.

    Attributes:
        factor: float64, of the weight's shape or broadcast to it.
        added: float64, in the same way.
        weight: loads the base weight, float `[out, in]`.
    """

    factor: "Tensor"
    added: "Tensor"
    weight: "Callable[[], Tensor]"

    def delta(self) -> "Tensor":
        """The product and the sum."""
        return self.weight().double() * self.factor + self.added

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: through the whole new weight, less the base's."""
        weight = self.weight().double()
        return x @ (weight + weight * self.factor + self.added).T - x @ weight.T


def glora(stored: Stored) -> Dense:
    """GLoRA's form.

    Raises:
        RefusedError: ZV011, it changes a bias.
    """
    for side in "CDE":
        for part in ("Xd", "Xu", "X", "zeros"):
            name = f"glora_{side}.{part}"
            if name in stored.tensors:
                stored.taken.add(name)
                if stored.tensors[name].any():
                    stored.no_bias("GLoRA changes")
    factor, added = _path(stored, "glora_A"), _path(stored, "glora_B")
    return Generalised(factor=factor, added=added, weight=stored.weight)


def _path(stored: Stored, name: str) -> "Tensor":
    """One of GLoRA's matrices: a product, a column, a number, or zeros."""
    out, wide = stored.shape
    if f"{name}.Xd" in stored.tensors:
        down = stored.take(f"{name}.Xd", out, None).double()
        return down @ stored.take(f"{name}.Xu", down.shape[1], wide).double()
    if f"{name}.zeros" in stored.tensors:
        zeros = stored.take(f"{name}.zeros", out, wide).double()
        if zeros.any():
            raise broken(f"{stored.path}.{name}.zeros is not zero")
        return zeros
    if f"{name}.X" in stored.tensors and stored.tensors[f"{name}.X"].dim() == 1:
        return stored.take(f"{name}.X", 1).double()
    return stored.take(f"{name}.X", out, 1).double()


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """RoAd: outputs rotated in pairs and scaled, `y ⊙ c + rotated(y) ⊙ s` with y = W₀ x.

    Source: peft 0.21.2, tuners/road/layer.py, `_prepare_cols` and `_apply_road`; arXiv 2409.00119, eq. 4.

    Attributes:
        cosines: float64 `[out]`, the vector c.
        sines: float64 `[out]`, the vector s.
        group: outputs a group; partners are half a group apart.
        weight: loads the base weight, float `[out, in]`.
    """

    cosines: "Tensor"
    sines: "Tensor"
    group: int
    weight: "Callable[[], Tensor]"

    def delta(self) -> "Tensor":
        """Rows of the base weight mixed with their partners', less themselves."""
        weight = self.weight().double()
        partners = self._partner(weight.T).T
        return weight * (self.cosines - 1)[:, None] + partners * self.sines[:, None]

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: on the base's output, not on its weight."""
        y = x @ self.weight().double().T
        return y * self.cosines + self._partner(y) * self.sines - y

    def _partner(self, y: "Tensor") -> "Tensor":
        """Each output's partner, negative for the first half of a group: float64 `[rows, out]`."""
        import torch

        grouped = y.reshape(y.shape[0], -1, 2, self.group // 2)
        return torch.stack((-grouped[:, :, 1], grouped[:, :, 0]), dim=2).reshape(y.shape)


def road(stored: Stored) -> Dense:
    """RoAd's form, in its three variants."""
    out = stored.shape[0]
    stored.no_bias("RoAd rotates")
    group = int(stored.number("group_size", 64))
    if group < 2 or group % 2 or out % group:
        raise broken(f"groups of {group} do not divide {out} outputs of {stored.path}")
    variant = stored.settings.get("variant", "road_1")
    sizes = {"road_1": out // 2, "road_2": out, "road_4": 2 * out}
    if variant not in sizes:
        raise broken(f"RoAd's variant is {str(variant)[:40]!r}")
    angle = stored.take("road_theta", sizes[variant]).double()
    length = stored.take("road_alpha", sizes[variant]).double()
    if variant == "road_4":
        angles, lengths = angle.view(-1, 2, group), length.view(-1, 2, group)
        cosines = (lengths[:, 0] * angles[:, 0].cos()).flatten()
        sines = (lengths[:, 1] * angles[:, 1].sin()).flatten()
    else:
        if variant == "road_1":  # half a group's values serve both halves
            angle = angle.view(-1, group // 2).repeat_interleave(2, dim=0).flatten()
            length = length.view(-1, group // 2).repeat_interleave(2, dim=0).flatten()
        cosines, sines = length * angle.cos(), length * angle.sin()
    return Paired(cosines=cosines, sines=sines, group=group, weight=stored.weight)


@dataclass(frozen=True, kw_only=True)
class Decomposition:
    """FRoD: the base weight as `U diag(l₀) Vᵀ` over a shared V, with l trained and a few entries added.

    Source: peft 0.21.2, tuners/frod/layer.py, `_calculate_frod_u_and_lambda` and `get_delta_weight`.

    Attributes:
        shared: float `[in, in]`, V.
        diagonal: float `[in]`, the trained l.
        values: float `[n]`, the added entries.
        places: int64 `[2, n]`, their rows and columns.
        weight: loads the base weight, float `[out, in]`.
    """

    shared: "Tensor"
    diagonal: "Tensor"
    values: "Tensor"
    places: "Tensor"
    weight: "Callable[[], Tensor]"

    def delta(self) -> "Tensor":
        """The new product less the base weight."""
        import torch

        wide = self.shared.shape[0]
        middle = torch.diag(self.diagonal.double()).flatten()
        rows, columns = self.places
        middle = middle.index_add(0, rows * wide + columns, self.values.double()).view(wide, wide)
        return self._left @ middle @ self.shared.double().T - self.weight().double()

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: V, the diagonal and the entries one by one, U; less the base's."""
        hidden = x @ self.shared.double()
        rows, columns = self.places
        entries = hidden.new_zeros(hidden.shape).index_add(1, rows, hidden[:, columns] * self.values.double())
        mixed = hidden * self.diagonal.double() + entries
        return mixed @ self._left.T - x @ self.weight().double().T

    @cached_property
    def _left(self) -> "Tensor":
        """U, rounded to float32 as the library keeps it: float64 `[out, in]`."""
        import torch

        weight, shared = self.weight().double(), self.shared.double()
        try:
            columns = torch.linalg.solve(shared, weight.T).T
        except RuntimeError:  # singular
            columns = weight @ torch.linalg.pinv(shared, rtol=1e-6).T
        lengths = columns.norm(dim=0)
        kept = lengths > 1e-12
        left = torch.zeros_like(columns)
        left[:, kept] = columns[:, kept] / lengths[kept]
        return left.float().double()


def frod(stored: Stored) -> Dense:
    """FRoD's form.

    Raises:
        RefusedError: ZV016, the shared basis was not saved, or places outside of it.
    """
    wide = stored.shape[1]
    if "frod_V" not in stored.tensors:
        raise broken("its shared bases were not saved (save_projection)")
    values = stored.take("frod_lambda_s_values", None)
    places = stored.take("frod_s_indices", 2, values.shape[0]).long()
    size = stored.tensors["frod_s_size"].tolist() if "frod_s_size" in stored.tensors else None
    stored.taken.add("frod_s_size")
    if size != [wide, wide] or (places.numel() and not 0 <= int(places.min()) <= int(places.max()) < wide):
        raise broken(f"the entries of {stored.path} leave its basis")
    return Decomposition(
        shared=stored.take("frod_V", wide, wide),
        diagonal=stored.take("frod_lambda_l", wide),
        values=values,
        places=places,
        weight=stored.weight,
    )


def category(path: str, index: int, count: int, settings: Settings) -> str:
    """Which of FRoD's shared bases a module uses.

    Source: peft 0.21.2, tuners/frod/model.py, `_category_from_key`.
    """
    pieces = path.split(".")
    if len(pieces) == 1 or pieces[-2].isdigit():
        return pieces[-1]
    found = f"{pieces[-2]}_{pieces[-1]}"
    return "attention_output" if found == "output_dense" and pieces[-3:-2] == ["attention"] else found


@dataclass(frozen=True, slots=True, kw_only=True)
class Batched:
    """MiSS's mode `bat`: each r×r block of the base weight multiplied by a block of its row, and that added.

    Source: peft 0.21.2, tuners/miss/layer.py, `MissLinear.get_delta_weight`; arXiv 2409.15371.

    Attributes:
        blocks: float `[out / r, r, r]`.
        weight: loads the base weight, float `[out, in]`.
    """

    blocks: "Tensor"
    weight: "Callable[[], Tensor]"

    def delta(self) -> "Tensor":
        """`W B + B` block by block."""
        weight, blocks = self.weight().double(), self.blocks.double()
        r = blocks.shape[1]
        grid = weight.view(weight.shape[0] // r, r, weight.shape[1] // r, r).permute(2, 0, 1, 3)
        return (grid @ blocks + blocks).permute(1, 2, 0, 3).reshape(weight.shape)

    def update(self, x: "Tensor") -> "Tensor":
        """One row of blocks at a time: its block turns the input's pieces before the base meets them."""
        import torch

        weight, r = self.weight().double(), self.blocks.shape[1]
        pieces = x.view(x.shape[0], -1, r)
        results = []
        for number, block in enumerate(self.blocks.double()):
            turned = (pieces @ block.T).flatten(1)
            rows = weight[number * r : (number + 1) * r]
            results.append(turned @ rows.T + pieces.sum(dim=1) @ block.T)
        return torch.cat(results, dim=1)


def miss_bat(stored: Stored) -> Dense:
    """The form of MiSS's mode `bat`."""
    out, wide = stored.shape
    r = stored.rank
    if r < 1 or out % r or wide % r:
        raise broken(f"blocks of {r} do not divide {out}×{wide} of {stored.path}")
    return Batched(blocks=stored.take("miss_block", out // r, r, r), weight=stored.weight)
