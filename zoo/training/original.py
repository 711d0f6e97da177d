"""The teacher of a recovery whose start is not all that the source computes: the source as PEFT loads it.

What has no exact low-rank form is cut to the factors that the student begins with. What it is to come to is
the update that was cut, so PEFT loads the original and merges it: a method that changes weights, on every
token of the prompt, is another base model.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.models import BaseModel, Dtype, load_model
from zoo.peft_model import attach, merged

if TYPE_CHECKING:
    from peft import PeftModel


def original_teacher(
    folder: Path, *, base: BaseModel, relabelled: Path, dtype: Dtype = "float32", device: str = "cpu"
) -> "PeftModel":
    """The original's model in the student's form: merged weights, under an adapter that adds nothing.

    Args:
        folder: the original, of any of PEFT's methods that change weights.
        base: the base model, of which this takes a second copy.
        relabelled: the student's start, whose modules the idle adapter has.
        dtype: of the merged weights: in 16 bits they are rounded as every merge in 16 bits is.
        device: torch device.

    Raises:
        RefusedError: ZP001, PEFT cannot load or merge it.
        UndecidedError: the device has too little memory.
    """
    import torch

    teacher = attach(merged(load_model(base, dtype=dtype, device=device), folder), relabelled)
    with torch.no_grad():
        for name, parameter in teacher.named_parameters():
            if ".lora_B." in name:
                parameter.zero_()
    teacher.eval()
    return teacher
