"""Bases that route tokens to experts, in which tokens share a matrix product with tokens behind them.

All tokens of a call that go to one expert are multiplied together. An adapted token goes elsewhere than the
base's, the product of the tokens before it gets another number of rows, and with it other last bits. Shapes
are not identical inside such a layer: before the invocation the model equals the base as in another chunking,
up to rounding, and not bit by bit.

Measured: tiny Mixtral, Qwen2-MoE, Qwen3-MoE and Granite-MoE in float32 differ by 3e-7 to 1.5e-6 in logits of
prefix tokens; under transformers' `batched_mm` experts, which multiply each token by itself, by nothing.
"""

from typing import TYPE_CHECKING

from zoo.validators.conformance.tolerance import Noise

if TYPE_CHECKING:
    from torch import nn

    from zoo.validators.conformance.prefill import Prefill


def routes_tokens(model: "nn.Module") -> bool:
    """Whether the model has experts.

    Args:
        model: the base.
    """
    return any(path.rpartition(".")[2] == "experts" for path, _ in model.named_modules())


def logit_rounding(model: "nn.Module", noise: Noise) -> float:
    """How far logits before the invocation may leave the base's: 0, bit by bit, unless tokens are routed."""
    return noise.other_shape if routes_tokens(model) else 0.0


def kv_rounding(model: "nn.Module", made: "Prefill", noise: Noise) -> float:
    """As `logit_rounding` for the keys and values of a prefix: calibrated on its chunkings.

    Args:
        model: the base.
        made: the prefix; each row a chunking.
        noise: of the session.
    """
    import torch

    if not routes_tokens(model):
        return 0.0
    parts = [part for pair in made.layers for part in pair]
    between = max(float((part - part[:1]).abs().max()) for part in parts)
    floor = max(torch.finfo(part.dtype).eps * float(part.abs().max()) for part in parts)
    return noise.multiple * max(between, floor)
