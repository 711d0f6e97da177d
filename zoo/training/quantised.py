"""A base model held in 4 bits, on which an adapter is trained: bitsandbytes, where it is installed.

Source: Dettmers et al. 2023, arXiv 2305.14314 (NF4, double quantisation); transformers 5.23,
`BitsAndBytesConfig`. bitsandbytes 0.50 computes on CPUs as well, slowly: it dequantises a weight each time.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from zoo.errors import BaseMissingError, MissingExtraError
from zoo.models import BaseModel, Dtype, load_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_in_4_bits(base: BaseModel, *, dtype: Dtype = "bfloat16", device: str = "cuda") -> "PreTrainedModel":
    """Loads a base's weights as NF4, in evaluation mode and frozen; its head and embeddings stay whole.

    Args:
        base: from `zoo.models.resolve`.
        dtype: in which each layer computes, and of the prefixes' keys and values.
        device: a torch device string.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
        UndecidedError: the device is not here.
        BaseMissingError: transformers cannot load the folder in 4 bits, or leaves some of it in more.
    """
    check_package()
    import torch
    from transformers import BitsAndBytesConfig

    make: Any = BitsAndBytesConfig  # untyped
    wanted = make(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    model = load_model(base, dtype=dtype, device=device, quantisation=wanted)
    _check_bits(model, base)
    _keep_differentiable(model)
    return model


def check_package() -> None:
    """Refuses what cannot be done without bitsandbytes.

    Raises:
        MissingExtraError: it is not installed.
    """
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError(
            "a base in 4 bits wants the package bitsandbytes, which is not installed",
            hint="pip install 'alora-zoo[4bit]'",
        )


def _keep_differentiable(model: Any) -> None:
    """Keeps layers from packing their weights for inference, for which no derivative is there.

    bitsandbytes 0.50 does so on CPUs with AVX512-BF16, in the first pass that wants no gradients (`forward`
    in `nn/modules.py`): a prefix is such a pass, and answers behind it would pass nothing back.
    """
    packed: Any = import_module("bitsandbytes.nn").Linear4bit
    for one in model.modules():
        if isinstance(one, packed):
            one.support_avx512bf16_for_cpu = False


def _check_bits(model: Any, base: BaseModel) -> None:
    """Every linear layer but the head is in 4 bits: one that is not would silently be the original."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    packed: Any = import_module("bitsandbytes.nn").Linear4bit  # an extra, which type checkers may lack
    head = model.get_output_embeddings()
    linears = [(name, one) for name, one in model.named_modules() if isinstance(one, nn.Linear | Conv1D)]
    whole = [name for name, one in linears if one is not head and not isinstance(one, packed)]
    if whole or not any(isinstance(one, packed) for _, one in linears):
        raise BaseMissingError(
            f"{base.id} does not load in 4 bits: {', '.join(whole[:3]) or 'it has no linear layer'} "
            f"{'stays' if len(whole) == 1 else 'stay'} as it is",
            hint="train on the whole base, or quantise another",
        )
