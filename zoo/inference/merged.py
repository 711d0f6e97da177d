"""A base model with an adapter's updates merged into copies of the few weights they belong to."""

import copy
from typing import TYPE_CHECKING, Any

from zoo.adapter import AdapterRepo
from zoo.errors import RefusedError
from zoo.models import BaseModel

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from zoo.converters.forms import LowRank


def shell(model: "PreTrainedModel") -> "PreTrainedModel":
    """The same model once more: modules and config of its own, every weight shared."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    return copy.deepcopy(model, shared)


def merged(model: "PreTrainedModel", base: BaseModel, repo: AdapterRepo) -> "PreTrainedModel":
    """A shell whose adapted linear layers hold `W + scale * B A`, computed in float32 and rounded once.

    Every token of an aLoRA's suffix is adapted, so the suffix needs neither a mask nor the extra products of
    an unmerged adapter. The update's bits below the weight's precision are lost, as in every merge; for half
    precision the conformance tolerance is what bounds that.

    Args:
        model: the base's weights, which stay as they are.
        base: what they were loaded from.
        repo: an adapter on it.

    Raises:
        RefusedError: ZV…, the adapter is no aLoRA in exact low-rank form; ZR001, it does not fit the model.
    """
    import torch

    from zoo.converters.readers import read_checkpoint
    from zoo.converters.source import Source

    made = shell(model)
    checkpoint = read_checkpoint(Source.open(repo.root), base)
    with torch.no_grad():
        for path, load in checkpoint.modules.items():
            linear = _linear_at(made, path)
            weight = _sum(path, linear, load().low_rank())
            linear.weight = torch.nn.Parameter(weight, requires_grad=False)
    return made


def _linear_at(model: "PreTrainedModel", path: str) -> "nn.Module":
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    try:
        module = model.get_submodule(path)
    except AttributeError:
        module = model
    if not isinstance(module, nn.Linear | Conv1D):
        raise _unfit(f"the adapter has weights for {path}, which is no linear layer of the base model")
    return module


def _sum(path: str, linear: "nn.Module", update: "LowRank") -> "Tensor":
    """The merged weight of one layer, in its dtype; a `Conv1D` keeps its weight transposed."""
    import torch

    weight: Any = linear.weight
    precision = torch.promote_types(torch.float32, weight.dtype)
    a, b = (factor.to(weight.device, precision) for factor in (update.a, update.b))
    delta = b @ a if isinstance(linear, torch.nn.Linear) else (b @ a).T
    if delta.shape != weight.shape or not weight.is_floating_point():
        raise _unfit(f"{path} has a weight of shape {list(weight.shape)}, its update {list(delta.shape)}")
    result: Tensor = delta.mul_(update.scale).add_(weight).to(weight.dtype).contiguous()
    return result


def _unfit(what: str) -> RefusedError:
    return RefusedError(what, code="ZR001", hint="give the base model that the adapter was made for")
