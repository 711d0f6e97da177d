"""LoRA-RITE a pair at a time, as it was written first: the reference of `zoo.training.rite`."""

from typing import TYPE_CHECKING, Any

from zoo.training import rite

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter


class LoraRite(rite.LoraRite):
    """Only what it is told and what it holds are shared; the arithmetic of a step is all its own."""

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
