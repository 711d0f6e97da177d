"""LoRA-RITE: an optimiser whose steps on an update B·A do not depend on how it is split into B and A.

For every invertible R the pairs (A, B) and (R·A, B·R⁻¹) are the same update. AdamW moves it differently for
each of them; here it moves alike. With X the factor that is stepped, `[rank, n]`, G its gradient, Y the other
factor (X = A and Y = B; then X = Bᵀ and Y = Aᵀ), and Y = U·R with orthonormal columns U:

    g  = R⁻ᵀ·G                                       the unmagnified gradient: free of Y's size
    P  = Uᵀ·U₋                                       from the last step's basis to this one's
    V̂  = P·V₋·Pᵀ                                     the second moment, carried over
    d  = min( max(0, maxᵢ λᵢ(V₋) − λᵢ(V̂)), max(0, tr V₋ − tr V̂) )    what the projection lost
    e  = β₂·(e₋ + d)                                 the escaped mass
    V  = β₂·V̂ + (1 − β₂)·g·gᵀ / n
    S  = (V + e·I)^(−1/2)·g
    M  = β₁·P·M₋ + (1 − β₁)·S
    X ← X − η·R⁻¹·M

β₁ and β₂ are corrected for the zeros they begin with: β·(1 − βᵗ⁻¹) / (1 − βᵗ) at step t.
U and R come from the eigenvectors of Yᵀ·Y, those of QR would do as well: no step depends on the choice.
Where Y is zero, as B is at first, X has no unmagnified gradient: its moments begin a step later.
Source: Yen et al. 2024, arXiv 2410.20625, algorithm 1, which writes the moments as sums; as moving averages,
divided by n, and with d as above they are those of the authors' own PyTorch code (gkevinyen5418/LoRA-RITE).
Theirs leaves e out unless told, decomposes rank-deficient factors too, and skips a step whose gradient is
large; here e is always in, and the norm of all g together is clipped, which is as invariant as the rest.

Factors of one shape are stepped as one batch, and the small eigenproblems of all shapes are solved together:
three calls a step, however many layers there are. On a GPU each of them makes the host wait once, because
torch reads whether it converged; nothing else does.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

BETAS = (0.9, 0.999)
EPSILON = 1e-6  # the authors' own; beside singular values of the second moment's root


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Factors of one shape whose partners are of one shape too.

    Attributes:
        factors: what is stepped: A `[rank, n]`, or B `[n, rank]`.
        partners: the other factors of their pairs, in the same order.
        turned: whether they are Bs, which are stepped as their transposes.
    """

    factors: "Sequence[Parameter]"
    partners: "Sequence[Parameter]"
    turned: bool

    def others(self) -> "Tensor":
        """Y of the equations, `[count, m, rank]`."""
        import torch

        stacked = torch.stack([one.detach() for one in self.partners])
        return stacked.mT if self.turned else stacked

    def gradients(self) -> "Tensor":
        """G of the equations, `[count, rank, n]`."""
        import torch

        stacked = torch.stack([one.grad for one in self.factors if one.grad is not None])
        return stacked.mT if self.turned else stacked


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

        group, alike = self.param_groups[0], self._alike()
        if not alike:
            return
        with torch.no_grad():
            # both factors of a pair are read before either moves
            others = [one.others() for one in alike]
            factored = _factored(others)
            gradients = _unmagnified(alike, [inverse for _, inverse in factored])
            norm = torch.cat([one.square().sum((1, 2)) for one in gradients]).sum().sqrt()
            limit = group["clip"]
            scale = torch.where(norm > limit, limit / norm, 1.0) if limit else 1.0
            before = [self._state(*one) for one in zip(alike, gradients, factored, strict=True)]
            after = _moments(
                before,
                [gradient * scale for gradient in gradients],
                [basis for basis, _ in factored],
                group["betas"],
                group["eps"],
            )
            for index, one in enumerate(alike):
                live = others[index].any(2).any(1)  # a zero Y says nothing of X: it stays as it is
                state = {name: _where(live, new, before[index][name]) for name, new in after[index].items()}
                self._keep(one, state)
                _move(one, factored[index][1] @ state["moment"], live, group["lr"], group["weight_decay"])

    def _alike(self) -> list[Alike]:
        """The factors that have gradients, by their shapes."""
        found: dict[Any, list[tuple[Parameter, Parameter]]] = {}
        for a, b in self.pairs:
            for factor, partner in ((a, b), (b, a)):
                if factor.grad is not None:
                    key = factor is b, factor.shape, partner.shape, factor.dtype, factor.device
                    found.setdefault(key, []).append((factor, partner))
        return [
            Alike(factors=[one for one, _ in some], partners=[two for _, two in some], turned=key[0])
            for key, some in found.items()
        ]

    def _state(
        self, alike: Alike, gradient: "Tensor", factored: "tuple[Tensor, Tensor]"
    ) -> "dict[str, Tensor]":
        """What factors remember, as batches; zeros of those that were never stepped."""
        import torch

        basis, inverse = factored
        empty = {
            "moment": torch.zeros_like(gradient[0]),
            "second": torch.zeros_like(inverse[0]),
            "spectrum": gradient.new_zeros(gradient.shape[1]),
            "escaped": gradient.new_zeros(()),
            "basis": torch.zeros_like(basis[0]),
            "step": torch.zeros((), device=gradient.device),
        }
        held = [self.state.get(factor) or empty for factor in alike.factors]
        return {
            name: torch.stack([one[name].to(gradient.device) for one in held]).contiguous() for name in empty
        }

    def _keep(self, alike: Alike, state: "Mapping[str, Tensor]") -> None:
        for index, factor in enumerate(alike.factors):
            self.state[factor] = {name: tensor[index] for name, tensor in state.items()}


def _unmagnified(alike: Sequence[Alike], inverses: "Sequence[Tensor]") -> "list[Tensor]":
    return [inverse.mT @ one.gradients() for one, inverse in zip(alike, inverses, strict=True)]


def _move(alike: Alike, steps: "Tensor", live: "Tensor", rate: float, decay: float) -> None:
    acts = live.to(steps.dtype)  # 1 or 0 for each
    for factor, step, on in zip(alike.factors, steps.mT if alike.turned else steps, acts, strict=True):
        if decay:
            factor.mul_(1 - rate * decay * on)
        factor.add_(step * on, alpha=-rate)


def _factored(matrices: "Sequence[Tensor]") -> "list[tuple[Tensor, Tensor]]":
    """U `[count, m, rank]` with orthonormal columns and R⁻¹ `[count, rank, rank]` of matrices U·R.

    A direction that a matrix lacks, to float32's precision, is zero in both. One small eigenproblem costs
    less than QR and a pseudo-inverse; in float64, since the product squares the spread of singular values.
    """
    import torch

    wide = [matrix.double() for matrix in matrices]
    solved = _each(torch.linalg.eigh, [one.mT @ one for one in wide])
    found = []
    for matrix, one, (values, vectors) in zip(matrices, wide, solved, strict=True):
        sizes = values.clamp(min=0).sqrt()
        least = sizes[:, -1:] * max(matrix.shape[1:]) * torch.finfo(torch.float32).eps
        inverse = vectors * torch.where(sizes > least, 1 / sizes, 0.0)[:, None]
        found.append(((one @ inverse).to(matrix.dtype), inverse.to(matrix.dtype)))
    return found


def _moments(
    states: "Sequence[Mapping[str, Tensor]]",
    gradients: "Sequence[Tensor]",
    bases: "Sequence[Tensor]",
    betas: tuple[float, float],
    eps: float,
) -> "list[dict[str, Tensor]]":
    """The next states of batches of factors.

    A state of zeros is that of a factor which is stepped for the first time: β₁ and β₂ are then 0.

    Args:
        states: the last.
        gradients: unmagnified, `[count, rank, n]`.
        bases: of the other factors, orthonormal columns `[count, m, rank]`.
        betas: of the moments.
        eps: see `LoraRite`.

    Returns:
        `step [count]` (float32), `moment [count, rank, n]`, `second [count, rank, rank]` and its `spectrum
        [count, rank]`, `escaped [count]`, `basis [count, m, rank]`.
    """
    import torch

    steps = [state["step"] + 1 for state in states]
    carries = [basis.mT @ state["basis"] for basis, state in zip(bases, states, strict=True)]
    carried = [
        _symmetric(carry @ state["second"] @ carry.mT) for carry, state in zip(carries, states, strict=True)
    ]
    kept = _each(torch.linalg.eigvalsh, carried)
    escaped, seconds, firsts = [], [], []
    for index, gradient in enumerate(gradients):
        first, second = (_corrected(beta, steps[index]).to(gradient.dtype) for beta in betas)
        now = gradient @ gradient.mT / gradient.shape[2]
        lost = _escaped(states[index]["spectrum"], kept[index])
        escaped.append(second * (states[index]["escaped"] + lost))
        share = second[:, None, None]
        seconds.append(_symmetric(share * carried[index] + (1 - share) * now))
        firsts.append(first[:, None, None])
    solved = _each(torch.linalg.eigh, seconds)
    found = []
    for index, (spectrum, vectors) in enumerate(solved):
        root = _inverse_root(spectrum, vectors, escaped[index], eps)
        moment = carries[index] @ states[index]["moment"]
        moment = firsts[index] * moment + (1 - firsts[index]) * (root @ gradients[index])
        found.append(
            {
                "step": steps[index], "moment": moment, "second": seconds[index], "spectrum": spectrum,
                "escaped": escaped[index], "basis": bases[index],
            }
        )  # fmt: skip
    return found


def _corrected(beta: float, step: "Tensor") -> "Tensor":
    """β at each factor's step, corrected for the zeros it began with; float64."""
    count = step.double()
    return beta * (1 - beta ** (count - 1)) / (1 - beta**count)


def _escaped(before: "Tensor", after: "Tensor") -> "Tensor":
    """What second moments lost when they were carried to another basis, from their spectra `[..., rank]`."""
    import torch

    lost = before - after
    # the sum of the eigenvalues is the trace
    return torch.minimum(lost.amax(-1), before.sum(-1) - after.sum(-1)).clamp(min=0)


def _inverse_root(spectrum: "Tensor", vectors: "Tensor", escaped: "Tensor", eps: float) -> "Tensor":
    import torch

    # below its rounding an eigenvalue says nothing; dividing by it would blow rounding up to whole steps
    floor = spectrum[:, -1:] * torch.finfo(spectrum.dtype).eps
    values = torch.maximum(spectrum, floor) + escaped[:, None]
    root: Tensor = (vectors / (values.sqrt() + eps)[:, None]) @ vectors.mT
    return root


def _each(solve: Any, batches: "Sequence[Tensor]") -> list[Any]:
    """Solves the problems of all batches that are of one size in one call, and gives each batch its part."""
    import torch

    found: list[Any] = [None] * len(batches)
    kinds = [(batch.shape[1:], batch.dtype, batch.device) for batch in batches]
    for kind in dict.fromkeys(kinds):
        own = [index for index, one in enumerate(kinds) if one == kind]
        counts = [len(batches[index]) for index in own]
        solved = solve(torch.cat([batches[index] for index in own]))
        whole = isinstance(solved, torch.Tensor)
        parts = solved.split(counts) if whole else zip(*(one.split(counts) for one in solved), strict=True)
        for index, part in zip(own, parts, strict=True):
            found[index] = part
    return found


def _where(live: "Tensor", new: "Tensor", old: "Tensor") -> "Tensor":
    import torch

    return torch.where(live.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _symmetric(matrix: "Tensor") -> "Tensor":
    return (matrix + matrix.mT) / 2
