"""What several adapters add to a linear layer's result, each on its own tokens of a line: one operation.

Autograd would keep five small operations a layer and adapter, and one more to join them. Here the gradients
are written out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import UndecidedError
from zoo.training.node import node

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.training.factors import Factors


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Neighbouring tokens of a line on which one adapter acts.

    Attributes:
        tokens: how many.
        kept: at how many of them logits are wanted.
        factors: the adapter's.
    """

    tokens: int
    kept: int
    factors: "Factors"


class Update:
    """Stands where PEFT asks a variant of LoRA what it adds."""

    def __init__(self, spans: Sequence[Span], head: Any) -> None:
        """Takes the division of a line.

        Args:
            spans: of the line.
            head: the layer that gives logits, and is run for the kept tokens alone.
        """
        self._spans = spans
        self._head = head

    def join(self, layer: Any) -> None:
        """Takes the place of a layer's active adapter; see `plain`."""
        for name in layer.active_adapters:
            if name in layer.lora_A:
                layer.lora_variant[name] = self

    def forward(
        self, layer: Any, *, active_adapter: str, x: "Tensor", result: "Tensor", **_: Any
    ) -> "Tensor":
        """PEFT's `LoraVariant.forward`: the base's result with the updates added, in the wider dtype.

        Raises:
            UndecidedError: the layer is given other tokens than the line's.
        """
        rows = x.numel() // x.shape[-1]
        sizes = [span.kept if layer is self._head else span.tokens for span in self._spans]
        if sum(sizes) != rows:  # as an expert, to whom some of them are sent
            raise UndecidedError(f"a layer sees {rows} of {sum(sizes)} tokens: whose they are is lost")
        factors = [factor for span in self._spans for factor in span.factors.of(layer)]
        add = node(_updated, _updated_back)
        found: Tensor = add(x, result, sizes, layer.scaling[active_adapter], *factors)
        return found


def plain(layer: Any, name: str) -> bool:
    """Whether a layer computes `base(x) + B·A·x·scale` with its adapter, and no more."""
    from peft.tuners.lora.layer import ParamWrapper
    from torch import nn

    linear = isinstance(layer.get_base_layer(), nn.Linear) and not isinstance(layer, ParamWrapper)
    if not linear or name in layer.lora_magnitude_vector or layer.lora_bias.get(name):
        return False
    return name not in layer.lora_dropout or isinstance(layer.lora_dropout[name], nn.Identity)


def _updated(
    ctx: Any, x: "Tensor", result: "Tensor", sizes: list[int], scale: float, *factors: "Tensor"
) -> "Tensor":
    import torch

    given = x.reshape(-1, x.shape[-1])
    out = result.to(torch.promote_types(x.dtype, result.dtype), copy=True)
    lines = torch.split(out.view(-1, out.shape[-1]), sizes)
    inner = []
    for line, tokens, a, b in zip(lines, torch.split(given, sizes), factors[::2], factors[1::2], strict=True):
        inner.append(tokens @ a.T)
        line.addmm_(inner[-1], b.T, alpha=scale)
    ctx.save_for_backward(given, *inner, *factors)
    ctx.sizes, ctx.scale, ctx.shape, ctx.dtype = sizes, scale, x.shape, result.dtype
    return out


def _updated_back(ctx: Any, *grads: "Tensor") -> "tuple[Tensor | None, ...]":
    import torch

    (grad,) = grads
    given, *rest = ctx.saved_tensors
    inner, factors = rest[: len(ctx.sizes)], rest[len(ctx.sizes) :]
    wanted, _, _, _, *of_factors = ctx.needs_input_grad
    grad_x = torch.empty_like(given) if wanted else None
    found: list[Tensor | None] = []
    begin = 0
    for place, wish in enumerate(torch.split(grad.reshape(-1, grad.shape[-1]), ctx.sizes)):
        a, b = factors[2 * place : 2 * place + 2]
        own = slice(begin, begin := begin + ctx.sizes[place])
        low = (wish @ b).mul_(ctx.scale)
        if grad_x is not None:
            torch.mm(low, a, out=grad_x[own])
        found.append(low.T @ given[own] if of_factors[2 * place] else None)
        found.append((wish.T @ inner[place]).mul_(ctx.scale) if of_factors[2 * place + 1] else None)
    return (
        None if grad_x is None else grad_x.view(ctx.shape),
        grad.to(ctx.dtype) if ctx.needs_input_grad[1] else None,
        None,
        None,
        *found,
    )
