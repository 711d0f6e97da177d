"""The optimisers a run can choose from, each over LoRA factors by PEFT's parameter names.

adamw     AdamW over both factors.
lora+     AdamW, B at a multiple of A's learning rate. Source: Hayou et al. 2024, arXiv 2402.12354.
lora-fa   AdamW over B; A stays as it was initialised. Source: Zhang et al. 2023, arXiv 2308.03303, version 1;
          PEFT's LoraFAOptimizer goes further and multiplies B's gradient by (A·Aᵀ)⁻¹, as version 2 has it.
lora-rite see `zoo.training.rite`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from zoo.errors import UsageError

if TYPE_CHECKING:
    from torch.nn import Parameter
    from torch.optim import Optimizer

    from zoo.training.rite import LoraRite

    Steps = Optimizer | LoraRite

Name = Literal["adamw", "lora+", "lora-fa", "lora-rite"]
PLUS_RATIO = 16.0  # the paper's recommendation, 2 to the 4th
A, B = ".lora_A.", ".lora_B."


def freeze(parameters: "Mapping[str, Parameter]", name: Name) -> "dict[str, Parameter]":
    """Freezes what an optimiser does not train.

    Args:
        parameters: by PEFT's names; A's factors lose `requires_grad` under lora-fa.
        name: of the optimiser.

    Returns:
        Those that are trained.
    """
    if name == "lora-fa":
        for key, parameter in parameters.items():
            if A in key:
                parameter.requires_grad_(False)
    return {key: parameter for key, parameter in parameters.items() if parameter.requires_grad}


def make(
    parameters: "Mapping[str, Parameter]", name: Name, *, weight_decay: float, clip: float, ratio: float
) -> "Steps":
    """An optimiser whose learning rates are set with `set_rate` before each step.

    Args:
        parameters: by PEFT's names, frozen ones included: lora-rite reads both factors.
        name: which.
        weight_decay: decoupled.
        clip: gradient norm limit, for lora-rite alone; see `clip_gradients`.
        ratio: B's learning rate as a multiple of A's, for lora+ alone.

    Raises:
        UsageError: ZD006, lora+ or lora-rite without pairs of LoRA factors, or nothing to train.
    """
    import torch

    trained = {key: parameter for key, parameter in parameters.items() if parameter.requires_grad}
    if name == "lora-rite":
        from zoo.training.rite import LoraRite

        pairs = [(parameters[key], parameters[other]) for key, other in _pairs(parameters)]
        return LoraRite(pairs, lr=0.0, weight_decay=weight_decay, clip=clip)
    groups: list[dict[str, object]] = [{"params": list(trained.values()), "ratio": 1.0}]
    if name == "lora+":
        _pairs(parameters)
        first = [parameter for key, parameter in trained.items() if B not in key]
        second = [parameter for key, parameter in trained.items() if B in key]
        groups = [{"params": first, "ratio": 1.0}, {"params": second, "ratio": ratio}]
        groups = [group for group in groups if group["params"]]
    # of hundreds of small factors: else each is a dozen calls a step, which on a CPU are not even grouped
    fused = all(parameter.device.type == "cpu" for parameter in trained.values())
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=weight_decay, fused=fused or None)


def set_rate(optimizer: "Steps", rate: float) -> None:
    """Sets the learning rate of the next step, each group's by its ratio."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("ratio", 1.0)


def clip_gradients(optimizer: "Steps", limit: float) -> float:
    """The norm of all gradients, which are scaled down to `limit`.

    LoRA-RITE clips its own, unmagnified gradients: the norm of the raw ones depends on how the update is
    factored. Theirs are left as they are.
    """
    import torch

    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    scaled = "clip" not in optimizer.defaults
    return float(torch.nn.utils.clip_grad_norm_(trained, limit if scaled else float("inf")))


def _pairs(parameters: "Mapping[str, Parameter]") -> list[tuple[str, str]]:
    keys = [(key, key.replace(A, B)) for key in parameters if A in key]
    if not keys or 2 * len(keys) != len(parameters) or any(other not in parameters for _, other in keys):
        raise UsageError(
            "this optimiser wants a LoRA's factors in pairs, and there is something else to train",
            hint="--optimizer adamw",
            code="ZD006",
        )
    return keys
