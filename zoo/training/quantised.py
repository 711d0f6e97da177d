"""A base model held in 4 bits, on which an adapter is trained: bitsandbytes, where it is installed.

Source: Dettmers et al. 2023, arXiv 2305.14314 (NF4, double quantisation); transformers 5.23,
`BitsAndBytesConfig`.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from zoo.errors import BaseMissingError, MissingExtraError
from zoo.models import BaseModel, Dtype

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load_in_4_bits(base: BaseModel, *, dtype: Dtype = "bfloat16", device: str = "cuda") -> "PreTrainedModel":
    """Loads a base's weights as NF4, in evaluation mode and frozen.

    Args:
        base: from `zoo.models.resolve`.
        dtype: in which each layer computes, and of the prefixes' keys and values.
        device: a torch device string.

    Raises:
        MissingExtraError: bitsandbytes is not installed.
        BaseMissingError: transformers cannot load the folder.
    """
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError(
            "a base in 4 bits wants the package bitsandbytes, which is not installed",
            hint="pip install 'alora-zoo[4bit]'",
        )
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    make: Any = BitsAndBytesConfig  # untyped
    wanted = make(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            base.folder,
            dtype=getattr(torch, dtype),
            quantization_config=wanted,
            device_map={"": device},
            trust_remote_code=False,
            local_files_only=True,
        )
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BaseMissingError(f"the base model {base.id} does not load in 4 bits: {reason}") from error
    model.requires_grad_(False)
    loaded: PreTrainedModel = model.eval()
    return loaded
