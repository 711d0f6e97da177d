"""Methods that work between singular vectors of the base weight: TinyLoRA, PSOFT, OSF and AdaMSS."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo.converters.forms import Form, Latent, LowRank
from zoo.converters.modules import broken
from zoo.converters.variants.approximation import Dense
from zoo.converters.variants.dense import neumann
from zoo.converters.variants.method import Settings, Size
from zoo.converters.variants.stored import Stored
from zoo.errors import MissingExtraError, RefusedError

if TYPE_CHECKING:
    from torch import Tensor

_CLOSE = 1e-4  # of AdaMSS's stored projection to the one made here, both float32


def tinylora(stored: Stored) -> Form:
    """TinyLoRA's form: LoRA-XS with the mapping `Σ v[i] P[i]` of a few numbers and fixed random matrices.

    Source: peft 0.21.2, tuners/tinylora/layer.py, `_compute_R` and `_init_projection`; arXiv 2602.04118.
    """
    import torch

    out, wide = stored.shape
    a = stored.take("tinylora_A", None, wide)
    r = a.shape[0]
    values = stored.take("tinylora_v", None)
    if "tinylora_P" in stored.tensors:
        fixed = stored.take("tinylora_P", values.shape[0], r, r)
    else:
        generator = torch.Generator().manual_seed(int(stored.number("projection_seed", 42)) + stored.index)
        fixed = torch.normal(0.0, 1.0 / (r**0.5), size=(values.shape[0], r, r), generator=generator)
    mapping = torch.einsum("i,ijk->jk", values.double(), fixed.double())
    plain = LowRank(a=a, b=stored.take("tinylora_B", out, r), scale=1.0)
    return Latent(plain=plain, mapping=mapping)


def tied(path: str, index: int, count: int, settings: Settings) -> str:
    """The group of modules that share TinyLoRA's numbers.

    Source: peft 0.21.2, tuners/tinylora/model.py, `_create_and_replace`.
    """
    tying = settings.get("weight_tying") or 0.0
    if not isinstance(tying, int | float) or not 0.0 <= tying <= 1.0:
        raise broken(f"weight_tying is {str(tying)[:40]!r}")
    groups = max(1, round(count * (1.0 - tying)))
    return str(min(index // max(1, count // groups), groups - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """PSOFT: leading singular vectors of the base weight with a rotation between them, `s B (R − 1) A`.

    Source: peft 0.21.2, tuners/psoft/layer.py, `Linear.forward` and `OrthLayer.get_matrix`; arXiv 2505.11235.

    Attributes:
        frozen: the factors without the rotation, and the scale.
        rotation: float64 `[r, r]`, with its scaling vectors.
    """

    frozen: LowRank
    rotation: "Tensor"

    def low_rank(self) -> LowRank:
        """The rotation less one multiplied into b."""
        import torch

        less = self.rotation - torch.eye(self.rotation.shape[0], dtype=torch.float64)
        return LowRank(a=self.frozen.a, b=self.frozen.b.double() @ less, scale=self.frozen.scale)

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: down, rotate, less unrotated, up."""
        hidden = x @ self.frozen.a.double().T
        return (hidden @ self.rotation.T - hidden) @ self.frozen.b.double().T * self.frozen.scale


def psoft(stored: Stored) -> Form:
    """PSOFT's form; its factors are not in the file and are decomposed again, as PEFT does on a CPU.

    Raises:
        RefusedError: ZV016, an unknown setting.
    """
    import torch

    r = stored.rank
    if not 0 < r <= min(stored.shape):
        raise broken(f"{stored.path} has rank {r}")
    scale = stored.number("psoft_alpha", 32) / r
    u, s, v = _leading(stored, r)
    if not scale or stored.settings.get("ab_svd_init", "psoft_init") not in ("psoft_init", "pissa_init"):
        raise broken(f"psoft_alpha or ab_svd_init of {stored.path} is unknown")
    if stored.settings.get("ab_svd_init") == "pissa_init":
        half = (s / scale).sqrt()
        a, b = half[:, None] * v, u * half
    else:
        a, b = v, u * (s / scale)
    rotation = _rotation(stored, r)
    if stored.settings.get("psoft_mag_b", True):
        rotation = stored.take("psoft_R.vector_b", r).double()[:, None] * rotation
    if stored.settings.get("psoft_mag_a", True):
        rotation = rotation * stored.take("psoft_R.vector_a", r).double()[None, :]
    if not torch.isfinite(rotation).all():
        raise broken(f"the rotation of {stored.path} is not finite")
    return Turned(frozen=LowRank(a=a.contiguous(), b=b.contiguous(), scale=scale), rotation=rotation)


def _leading(stored: Stored, r: int) -> "tuple[Tensor, Tensor, Tensor]":
    """Singular triplets in float32, with the signs that PEFT's own calls give them."""
    import torch

    weight = stored.weight().to(torch.float32)
    if stored.settings.get("psoft_svd", "full") == "full":
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        return u[:, :r], s[:r], v[:r]
    rounds = int(stored.number("psoft_svd_lowrank_niter", 10))
    if not 0 <= rounds <= 1000:
        raise broken(f"psoft_svd_lowrank_niter is {rounds}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stored.number("random_seed", 0)))
        u, s, v = torch.svd_lowrank(weight, q=r, niter=rounds)
    return u, s, v.T


def _rotation(stored: Stored, r: int) -> "Tensor":
    import torch

    if not stored.settings.get("psoft_orth", True):
        return stored.take("psoft_R", r, r).double()
    skew = torch.zeros(r, r, dtype=torch.float64)
    rows, columns = torch.triu_indices(r, r, 1)
    skew[rows, columns] = stored.take("psoft_R", r * (r - 1) // 2).double()
    skew = skew - skew.T
    if not stored.settings.get("use_cayley_neumann"):
        one = torch.eye(r, dtype=torch.float64)
        solved: Tensor = torch.linalg.solve(one - skew, one + skew, left=False)
        return solved
    limit = stored.settings.get("cayley_neumann_eps")
    if limit is not None and float(skew.norm()) > stored.number("cayley_neumann_eps", 0):
        skew = skew * (stored.number("cayley_neumann_eps", 0) / (float(skew.norm()) + 1e-12))
    return neumann(skew[None], int(stored.number("num_cayley_neumann_terms", 5)))[0]


@dataclass(frozen=True, kw_only=True)
class Tail:
    """OSF: the trailing singular triplets of the base weight, trained; of rank 2r over the whole weight.

    Source: peft 0.21.2, tuners/osf/layer.py, `get_delta_weight`, and utils.py, `decompose_weight_matrix`.

    Attributes:
        trained: the triplets as they are now, with the values in b.
        weight: loads the base weight, float `[out, in]`.
    """

    trained: LowRank
    weight: "Callable[[], Tensor]"

    def low_rank(self) -> LowRank:
        """The trained triplets beside the initial ones, negated."""
        import torch

        before, now = self._before, self.trained
        if not now.a.shape[0]:  # nothing was left to train
            return LowRank(a=torch.zeros(1, now.a.shape[1]), b=torch.zeros(now.b.shape[0], 1), scale=1.0)
        a = torch.cat([now.a.double(), before.a])
        return LowRank(a=a, b=torch.cat([now.b.double(), -before.b], dim=1), scale=1.0)

    def delta(self) -> "Tensor":
        """What is trained less what it was."""
        now = self.trained.b.double() @ self.trained.a.double()
        return now - self._before.b @ self._before.a

    def update(self, x: "Tensor") -> "Tensor":
        """What is trained, and the leading part that was kept, less the whole base weight."""
        weight = self.weight().double()
        return self.trained.update(x) + x @ (weight - self._before.b @ self._before.a).T - x @ weight.T

    @cached_property
    def _before(self) -> LowRank:
        import torch

        u, s, v = torch.linalg.svd(self.weight().to(torch.float32), full_matrices=False)
        low = s.shape[0] - self.trained.a.shape[0]
        return LowRank(a=v[low:].double(), b=(u[:, low:] * s[low:]).double(), scale=1.0)


def osf(stored: Stored) -> Tail:
    """OSF's form, exact; of full rank where more than half of the singular values are trained."""
    out, wide = stored.shape
    values = stored.take("osf_svd_params.S_low", None)
    low = values.shape[0]
    if low > min(out, wide):
        raise broken(f"{stored.path} has {low} singular values")
    b = stored.take("osf_svd_params.U_low", out, low).double() * values.double()
    a = stored.take("osf_svd_params.V_low", low, wide)
    return Tail(trained=LowRank(a=a, b=b, scale=1.0), weight=stored.weight)


def osf_dense(stored: Stored) -> Dense:
    """OSF's form where its rank is full."""
    return osf(stored)


def osf_is_full(settings: Settings, sizes: Sequence[Size]) -> bool:
    """Whether the trained and the initial triplets together are as many as the weight has."""
    return any(2 * (size.parts.get("osf_svd_params.S_low") or (0,))[0] >= min(size.shape) for size in sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustered:
    """AdaMSS: one projection, and behind it a small LoRA for each cluster of outputs; of its rank.

    Source: peft 0.21.2, tuners/adamss/layer.py, `Linear.forward`.

    Attributes:
        projection: float `[r, in]`.
        pairs: down `[k, r]`, up `[rows, k]` and the outputs `[rows]` of each cluster.
        out: number of outputs.
    """

    projection: "Tensor"
    pairs: "tuple[tuple[Tensor, Tensor, Tensor], ...]"
    out: int

    def low_rank(self) -> LowRank:
        """Each cluster's product in its own rows of b."""
        import torch

        b = torch.zeros(self.out, self.projection.shape[0], dtype=torch.float64)
        for down, up, rows in self.pairs:
            b[rows] = up.double() @ down.double()
        return LowRank(a=self.projection, b=b, scale=1.0)

    def update(self, x: "Tensor") -> "Tensor":
        """The library's own forward: project, each cluster's down and up, scatter."""
        hidden = x @ self.projection.double().T
        total = x.new_zeros(x.shape[0], self.out)
        for down, up, rows in self.pairs:
            total[:, rows] = (hidden @ down.double().T) @ up.double().T
        return total


def adamss(stored: Stored) -> Form:
    """AdaMSS's form. The file does not say which outputs a cluster has: they are clustered again, by PEFT.

    Raises:
        RefusedError: ZV011, a base module with a bias; ZV025, another decomposition than the file's.
        MissingExtraError: scikit-learn, which PEFT clusters with, is missing.
    """
    out, wide = stored.shape
    stored.no_bias("AdaMSS adds to")
    projection = stored.take("adamss_newB", None, wide)
    r = projection.shape[0]
    count = stored.numbered("adamss_A")
    found, clusters = _clusters(stored, r)
    if tuple(found.shape) != (r, wide) or float((found - projection).norm()) > _CLOSE * float(found.norm()):
        raise _other_clusters(stored, "the projection")
    if len(clusters) != count:
        raise _other_clusters(stored, "the number of clusters")
    pairs = []
    for number, rows in enumerate(clusters):
        down = stored.take(f"adamss_A.{number}", None, r)
        up = stored.take(f"adamss_B.{number}", None, down.shape[0])
        if up.shape[0] != len(rows):
            raise _other_clusters(stored, "a cluster's size")
        pairs.append((down, up, rows))
    return Clustered(projection=projection, pairs=tuple(pairs), out=out)


def _clusters(stored: Stored, r: int) -> "tuple[Tensor, list[Tensor]]":
    import torch
    from peft.tuners import adamss

    utils: Any = adamss.utils  # PEFT's own steps; untyped
    weight = stored.weight().to(torch.float32)[None, None]
    most = int(stored.number("num_subspaces", 5))
    if not 0 < r <= min(stored.shape) or not 0 < most <= 4096:
        raise broken(f"{stored.path} has rank {r} in {most} subspaces")
    seed = int(stored.number("random_seed", 0))
    right, left = utils.slice_pca(weight, r, torch.device("cpu"), torch.float32, random_seed=seed)
    try:
        labels, _ = utils.clustering_Z(left[0, 0], most, 10)
    except ImportError:
        raise MissingExtraError(
            "AdaMSS does not say which outputs it changes; finding them again needs scikit-learn",
            hint="pip install scikit-learn",
        ) from None
    rows: dict[int, Any] = utils.seg_locations(labels)
    return right[0, 0], [rows[number].long() for number in sorted(rows)]


def _other_clusters(stored: Stored, what: str) -> RefusedError:
    return RefusedError(
        f"{stored.path}: {what} is not what PEFT makes of this base weight here, and without that the file "
        "does not say which outputs AdaMSS changes",
        code="ZV025",
        hint="merge it where it was trained (merge_and_unload) and convert that model with --extract RANK",
    )
