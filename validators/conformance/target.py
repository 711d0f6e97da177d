"""The linear layers of a base model that an adapter's updates belong to."""

from typing import TYPE_CHECKING, Any

from zoo.errors import RefusedError
from zoo.validators.conformance.low_rank import LowRank

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

_OTHER_BASE = "give the base model that the adapter was made for with --base"


def linear_at(model: "PreTrainedModel", path: str) -> "nn.Module":
    """The linear layer that an update belongs to.

    Args:
        model: the base.
        path: the module's, as the base names its modules.

    Raises:
        RefusedError: ZR001, there is no such module, or it is no linear layer. Experts that share one 3-D
            parameter, as transformers 5 keeps them, are none, and PEFT has no aLoRA for them.

    Source: peft 0.21.2, tuners/lora/layer.py, `Linear` and `ParamWrapper`.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    parent: nn.Module = model
    for name in path.split("."):
        if isinstance(child := parent._modules.get(name), nn.Module):
            parent = child
        elif any(parameter.ndim == 3 for parameter in parent.parameters(recurse=False)):
            raise _experts(path, parent)
        else:
            raise RefusedError(
                f"the adapter has weights for {path}, which the base model does not have",
                code="ZR001",
                hint=_OTHER_BASE,
            )
    if isinstance(parent, nn.Linear | Conv1D):
        return parent
    if any(parameter.ndim == 3 for parameter in parent.parameters(recurse=False)):
        raise _experts(path, parent)
    raise RefusedError(
        f"{path} is a {type(parent).__name__}; an activated LoRA adapts linear layers only",
        code="ZR001",
        hint="target linear layers",
    )


def _experts(path: str, module: "nn.Module") -> RefusedError:
    return RefusedError(
        f"the adapter has weights for {path}, but {type(module).__name__} keeps its experts in 3-D "
        "parameters; an activated LoRA adapts linear layers only",
        code="ZR001",
        hint="target the attention's linear layers",
    )


def fitted(path: str, module: "nn.Module", update: LowRank) -> LowRank:
    """The update on its module's device, float32, or float64 for a float64 module.

    Args:
        path: the module's, for the message.
        module: from `linear_at`.
        update: its update.

    Raises:
        RefusedError: ZR001, the update has other numbers of features.
    """
    import torch

    weight: Any = module.weight
    if isinstance(module, torch.nn.Linear):
        features = (module.in_features, module.out_features)
    else:
        features = tuple(weight.shape)
    if update.features != features:
        raise RefusedError(
            f"{path} maps {features[0]} features to {features[1]}, its update "
            f"{update.features[0]} to {update.features[1]}",
            code="ZR001",
            hint=_OTHER_BASE,
        )
    double = weight.dtype is torch.float64
    return update.to(weight.device, torch.float64 if double else torch.float32)
