"""PEFT's layers with the adapter on for every token or off, without hooks and without index arithmetic.

Where a pass runs the tokens from the invocation on and no others, an aLoRA is a plain LoRA. PEFT's own aLoRA
layer would pick the adapted tokens out by a mask, which costs copies, makes the host wait for the device, and
cannot be recorded in a CUDA graph.
Source: peft 0.21.2, tuners/lora/variants.py `ALoraLinearVariant.forward`, layer.py `Linear.forward`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peft import PeftModel


@contextmanager
def everywhere(model: "PeftModel", *, on: bool) -> Iterator[None]:
    """In the block, calls of the base model that `model` wraps run with its adapter on every token, or none.

    Args:
        model: from `zoo.peft_model.attach`, or PEFT's own.
        on: whether the active adapter acts.
    """
    from peft.tuners.lora.layer import LoraLayer
    from peft.tuners.lora.variants import ALoraLinearVariant

    before: list[tuple[Any, bool, dict[str, Any]]] = []
    try:
        for layer in model.modules():
            if isinstance(layer, LoraLayer):
                held: Any = layer
                before.append((held, held._disable_adapters, held.lora_variant))
                held._disable_adapters = not on or held._disable_adapters
                held.lora_variant = {
                    name: variant
                    for name, variant in held.lora_variant.items()
                    if not isinstance(variant, ALoraLinearVariant)
                }
        yield
    finally:
        for held, disabled, variants in before:
            held._disable_adapters, held.lora_variant = disabled, variants
