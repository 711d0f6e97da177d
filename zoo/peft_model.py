"""PEFT's model of an adapter on a base, behind guards for the ways it goes wrong without a word.

peft 0.21.2 registers forward hooks that carry the activation offsets and does not remove them when the
call raises: every later call then runs with stale offsets. And a call that does not go through
`PeftModelForCausalLM.forward` is the base model's. Both are closed here.
Source: peft 0.21.2, tuners/lora/model.py, `_enable_peft_forward_hooks`; facts measured by running it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import DefectError, RefusedError

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import DynamicCache, PreTrainedModel


def attach(
    model: "PreTrainedModel", folder: Path, *, name: str = "default", trainable: bool = False
) -> "PeftModel":
    """Puts the adapter in `folder` onto a base model, in place.

    Args:
        model: the base; its linear layers are wrapped, its weights are not changed.
        folder: an adapter folder that passed the static checks (PEFT sets no bounds of its own).
        name: the adapter's name in the PEFT model.
        trainable: whether its weights take gradients.

    Raises:
        RefusedError: ZP001, PEFT cannot load it.
    """
    from peft import PeftModel, PeftModelForCausalLM

    device = next(model.parameters()).device
    try:
        attached = PeftModel.from_pretrained(
            model, folder, adapter_name=name, is_trainable=trainable, torch_device=str(device)
        )
    except (ValueError, KeyError, RuntimeError, TypeError) as error:
        raise RefusedError(
            f"PEFT does not load {folder.name}: {str(error)[:200]}",
            code="ZP001",
            hint="zoo validate --static",
        ) from error
    if not isinstance(attached, PeftModelForCausalLM):
        raise RefusedError(
            f"PEFT loads {folder.name} as {type(attached).__name__}, which never activates an aLoRA",
            code="ZC002",
            hint='set "task_type": "CAUSAL_LM"',
        )
    return attached


@contextmanager
def guarded(model: "PeftModel") -> Iterator[None]:
    """Removes the hooks that PEFT leaves behind when a call in the block raises.

    Raises:
        DefectError: hooks were already there at the start: an earlier call ran without this guard.
    """
    if count := _offset_hooks(model):
        raise DefectError(f"{count} stale PEFT hooks with old activation offsets are registered")
    try:
        yield
    finally:
        _offset_hooks(model, remove=True)


def forward(
    model: "PeftModel",
    ids: "Tensor",
    *,
    offsets: Sequence[int | None],
    attention_mask: "Tensor | None" = None,
    position_ids: "Tensor | None" = None,
    cache: "DynamicCache | None" = None,
    logits_to_keep: int = 0,
) -> "Tensor":
    """One forward pass with the activation given, never guessed.

    Args:
        model: from `attach`.
        ids: int64 `[batch, tokens]`.
        offsets: per row, how many tokens from the end are adapted; None or 0 is the base model. A number
            beyond the row's length adapts all of it: that is how a decode step on a cache is done.
        attention_mask: int64 `[batch, cached + tokens]`, 1 where there is a token.
        position_ids: int64 `[batch, tokens]`.
        cache: KV of earlier tokens; extended in place.
        logits_to_keep: compute logits for this many last positions; 0 is all.

    Returns:
        Logits, float `[batch, kept, vocabulary]`, in the model's dtype.
    """
    with guarded(model):
        output = model(
            input_ids=ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=logits_to_keep,
            alora_offsets=list(offsets),
        )
    logits: Tensor = output.logits
    return logits


@contextmanager
def base_only(model: "PeftModel") -> Iterator[None]:
    """The base model in the block: every adapter off."""
    with model.disable_adapter():
        yield


def _offset_hooks(model: "PeftModel", *, remove: bool = False) -> int:
    from functools import partial

    from peft.tuners.lora.layer import LoraLayer

    count = 0
    for module in model.modules():
        if not isinstance(module, LoraLayer):
            continue
        hooks = module._forward_pre_hooks
        stale = [
            key
            for key, hook in hooks.items()
            if isinstance(hook, partial) and "alora_offsets" in (hook.keywords or {})
        ]
        count += len(stale)
        if remove:
            for key in stale:
                del hooks[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)
    return count
