"""LoRA-RITE a pair at a time, as it was written first: the reference of `zoo.training.rite`."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

BETAS = (0.9, 0.999)
EPSILON = 1e-6  # the authors' own; beside singular values of the second moment's root


class LoraRite:
    """Steps pairs of LoRA factors so that their product moves alike however it is factored.

    It has what the training loop uses of a `torch.optim.Optimizer`; being one would import torch with this
    module.

    Attributes:
        state: of each factor that is stepped; tensors.
        param_groups: one group.
        defaults: its options, as they were given.
    """

    def __init__(
        self,
        pairs: "Sequence[tuple[Parameter, Parameter]]",
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = BETAS,
        eps: float = EPSILON,
        weight_decay: float = 0.0,
        clip: float = 0.0,
    ) -> None:
        """Remembers the pairs; a factor that takes no gradient is read and never stepped.

        Args:
            pairs: A `[rank, in]` and B `[out, rank]` of every adapted module.
            lr: learning rate; the root mean square of M is about 1, as with Adam, but it steps B·A.
            betas: of the first and the second moment.
            eps: added to the roots of the second moment's eigenvalues.
            weight_decay: decoupled, as AdamW's; the only part that sees a factor's size.
            clip: limit of the norm of all unmagnified gradients together; 0 is none.
        """
        self.pairs = list(pairs)
        self.defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "clip": clip}
        stepped = [factor for pair in pairs for factor in pair if factor.requires_grad]
        self.param_groups: list[dict[str, Any]] = [{"params": stepped, **self.defaults}]
        self.state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients; they are always set to None."""
        for factor in self.param_groups[0]["params"]:
            factor.grad = None

    def step(self) -> None:
        """One step of every pair, from gradients that all belong to the same weights."""
        import torch

        group = self.param_groups[0]
        with torch.no_grad():
            # both factors of a pair are read before either moves
            seen = [one for a, b in self.pairs for one in (_seen(a, b, b), _seen(b, a.T, a)) if one]
            if not seen:
                return
            norm = torch.stack([one["gradient"].square().sum() for one in seen]).sum().sqrt()
            limit = group["clip"]
            scale = torch.where(norm > limit, limit / norm, 1.0) if limit else 1.0
            for one in seen:
                self._move(one, scale, group)

    def _move(self, one: dict[str, Any], scale: "Tensor | float", group: dict[str, Any]) -> None:
        factor, state = one["factor"], self.state[one["factor"]]
        found = _moments(state, one["gradient"] * scale, one["basis"], group["betas"], group["eps"])
        state.update(found)
        step = one["inverse"] @ state["moment"]
        factor.mul_(1 - group["lr"] * group["weight_decay"])
        factor.add_(step.T if one["turned"] else step, alpha=-group["lr"])


def _seen(factor: "Parameter", other: "Tensor", partner: "Parameter") -> dict[str, Any] | None:
    """A factor's unmagnified gradient `[rank, n]`, with the other factor's basis and inverse size."""
    if factor.grad is None or not bool(partner.any()):
        return None
    turned = other is not partner  # B is `[out, rank]`: it is stepped as its transpose
    basis, inverse = _factored(other.detach())
    gradient = factor.grad.T if turned else factor.grad
    return {
        "factor": factor, "turned": turned, "basis": basis, "inverse": inverse,
        "gradient": inverse.T @ gradient,
    }  # fmt: skip


def _factored(matrix: "Tensor") -> tuple["Tensor", "Tensor"]:
    """U `[m, rank]` with orthonormal columns and R⁻¹ `[rank, rank]`, where the matrix is U·R.

    A direction that the matrix lacks, to float32's precision, is zero in both. One small eigenproblem costs
    less than QR and a pseudo-inverse; in float64, since the product squares the spread of singular values.
    """
    import torch

    wide = matrix.double()
    values, vectors = torch.linalg.eigh(wide.T @ wide)
    sizes = values.clamp(min=0).sqrt()
    least = sizes[-1] * max(matrix.shape) * torch.finfo(torch.float32).eps
    inverse = vectors * torch.where(sizes > least, 1 / sizes, 0.0)
    return (wide @ inverse).to(matrix.dtype), inverse.to(matrix.dtype)


def _moments(
    state: dict[str, Any], gradient: "Tensor", basis: "Tensor", betas: tuple[float, float], eps: float
) -> dict[str, "Tensor"]:
    """The next state of one factor.

    Args:
        state: the last; empty at the first step.
        gradient: unmagnified, `[rank, n]`.
        basis: of the other factor, orthonormal columns `[m, rank]`.
        betas: of the moments.
        eps: see `LoraRite`.

    Returns:
        `step` (float32, on the host), `moment [rank, n]`, `second [rank, rank]` and its `spectrum [rank]`,
        `escaped` (a scalar), `basis [m, rank]`.
    """
    import torch

    count = int(state["step"]) + 1 if state else 1
    first, second = (beta * (1 - beta ** (count - 1)) / (1 - beta**count) for beta in betas)
    now = gradient @ gradient.T / gradient.shape[1]
    escaped = gradient.new_zeros(())
    moment = torch.zeros_like(gradient)
    if state:
        carry = basis.T @ state["basis"]
        carried = _symmetric(carry @ state["second"] @ carry.T)
        lost = _escaped(state["spectrum"], torch.linalg.eigvalsh(carried))
        escaped = second * (state["escaped"] + lost)
        now = second * carried + (1 - second) * now
        moment = carry @ state["moment"]
    now = _symmetric(now)
    spectrum, vectors = torch.linalg.eigh(now)
    root = _inverse_root(spectrum, vectors, escaped, eps)
    moment = first * moment + (1 - first) * (root @ gradient)
    # laid out as a checkpoint gives them back: products of another layout may be rounded otherwise
    found = {"moment": moment, "second": now, "spectrum": spectrum, "escaped": escaped, "basis": basis}
    step = torch.tensor(float(count))
    return {"step": step, **{name: tensor.contiguous() for name, tensor in found.items()}}


def _escaped(before: "Tensor", after: "Tensor") -> "Tensor":
    """What a second moment lost when it was carried to another basis, from its spectra: a scalar."""
    import torch

    # the sum of the eigenvalues is the trace
    return torch.minimum((before - after).max(), before.sum() - after.sum()).clamp(min=0)


def _inverse_root(spectrum: "Tensor", vectors: "Tensor", escaped: "Tensor", eps: float) -> "Tensor":
    import torch

    # below its rounding an eigenvalue says nothing; dividing by it would blow rounding up to whole steps
    values = torch.maximum(spectrum, spectrum[-1] * torch.finfo(spectrum.dtype).eps) + escaped
    root: Tensor = (vectors / (values.sqrt() + eps)) @ vectors.T
    return root


def _symmetric(matrix: "Tensor") -> "Tensor":
    return (matrix + matrix.T) / 2
