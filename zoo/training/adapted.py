"""PEFT's layers with the adapter on for every token or off, without hooks and without index arithmetic.

Where a pass runs the tokens from the invocation on and no others, an aLoRA is a plain LoRA. PEFT's own aLoRA
layer would pick the adapted tokens out by a mask, which costs copies, makes the host wait for the device, and
cannot be recorded in a CUDA graph. The tokens of a line may also be divided among several adapters: the
base's products are then computed once for all of them.
Source: peft 0.21.2, tuners/lora/variants.py `ALoraLinearVariant.forward`, layer.py `Linear.forward`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zoo.peft_model import lora_layers
from zoo.training.update import Span, Update

if TYPE_CHECKING:
    from peft import PeftModel


@contextmanager
def everywhere(model: "PeftModel", *, on: bool, spans: Sequence[Span] = ()) -> Iterator[None]:
    """In the block, calls of the base model that `model` wraps run with its adapter on every token, or none.

    Args:
        model: from `zoo.peft_model.attach`, or PEFT's own.
        on: whether adapters act.
        spans: the tokens of the line divided among adapters that are not in the model; none leaves all of
            them to the active adapter.
    """
    from peft.tuners.lora.variants import ALoraLinearVariant

    base: Any = model.get_base_model()
    update = Update(spans, base.get_output_embeddings()) if spans else None
    before: list[tuple[Any, bool, dict[str, Any]]] = []
    try:
        for layer in lora_layers(model):
            held: Any = layer
            before.append((held, held._disable_adapters, held.lora_variant))
            held._disable_adapters = not on or held._disable_adapters
            held.lora_variant = {
                name: variant
                for name, variant in held.lora_variant.items()
                if not isinstance(variant, ALoraLinearVariant)
            }
            if update:
                update.join(held)
        yield
    finally:
        for held, disabled, variants in before:
            held._disable_adapters, held.lora_variant = disabled, variants
