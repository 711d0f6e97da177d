"""PEFT's model of an adapter on a base, behind guards for the ways it goes wrong without a word.

peft 0.21.2 registers forward hooks that carry the activation offsets and does not remove them when the
call raises: every later call then runs with stale offsets. And a call that does not go through
`PeftModelForCausalLM.forward` is the base model's. Both are closed here.
Source: peft 0.21.2, tuners/lora/model.py, `_enable_peft_forward_hooks`; facts measured by running it.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from zoo.adapter import WEIGHTS_NAME
from zoo.errors import DefectError, RefusedError, UndecidedError

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn
    from transformers import DynamicCache, PreTrainedModel

# What PEFT may raise on a malformed adapter; MemoryError is not among them.
_LOAD_ERRORS = (
    ValueError, KeyError, RuntimeError, TypeError, AttributeError, IndexError, AssertionError, OSError,
    re.error,
)  # fmt: skip
# peft 0.21.2, peft_model.py, only warns of it, though the adapter is incomplete then
_MISSING = "Found missing adapter keys"
_CALL_STATE = frozenset({"alora_offsets", "adapter_names"})
_LAYERS: WeakKeyDictionary["PeftModel", list["nn.Module"]] = WeakKeyDictionary()


def attach(
    model: "PreTrainedModel", folder: Path, *, name: str = "default", trainable: bool = False
) -> "PeftModel":
    """Puts the adapter in `folder` onto a base model, in place.

    Args:
        model: the base; its linear layers are wrapped. Some initialisations change its weights too.
        folder: an adapter folder that passed the static checks (PEFT sets no bounds of its own).
        name: the adapter's name in the PEFT model.
        trainable: whether its weights take gradients.

    Raises:
        RefusedError: ZP001, PEFT cannot load it, or leaves a part of it at its initial value.
        UndecidedError: the device has too little memory.
    """
    from peft import PeftModelForCausalLM

    attached = _loaded(model, folder, name, trainable)
    if not isinstance(attached, PeftModelForCausalLM):
        raise RefusedError(
            f"PEFT loads {folder.name} as {type(attached).__name__}, which never activates an aLoRA",
            code="ZP001",
            hint='set "task_type": "CAUSAL_LM"',
        )
    return attached


def merged(model: "PreTrainedModel", folder: Path) -> "PreTrainedModel":
    """A base model to whose weights PEFT has added the update of an adapter of any of its methods.

    Args:
        model: the base; its weights are changed, in its own dtype.
        folder: the adapter, read and found sound before.

    Raises:
        RefusedError: ZP001, PEFT cannot load or merge it.
        UndecidedError: the device has too little memory.
    """
    attached: Any = _loaded(model, folder, "default", False)
    try:
        whole: PreTrainedModel = attached.merge_and_unload(safe_merge=True)
    except _LOAD_ERRORS as error:
        raise _refused(folder, " ".join(f"{type(error).__name__}: {error}".split())[:200]) from error
    return whole


def _loaded(model: "PreTrainedModel", folder: Path, name: str, trainable: bool) -> "PeftModel":
    import torch
    from peft import PeftModel
    from safetensors import SafetensorError

    if not (folder / WEIGHTS_NAME).is_file():  # PEFT would look for a pickle, then on the Hub
        raise _refused(folder, f"it holds no {WEIGHTS_NAME}")
    device = next(model.parameters()).device
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            attached = PeftModel.from_pretrained(
                model, folder, adapter_name=name, is_trainable=trainable, torch_device=str(device)
            )
    except torch.OutOfMemoryError as error:
        raise UndecidedError(f"no memory on {device} for the adapter {folder.name}") from error
    except (*_LOAD_ERRORS, SafetensorError) as error:
        raise _refused(folder, " ".join(f"{type(error).__name__}: {error}".split())[:200]) from error
    if lacking := [str(one.message) for one in said if _MISSING in str(one.message)]:
        raise _refused(folder, f"weights are missing and would stay as initialised: {lacking[0][:200]}")
    return attached


def _refused(folder: Path, why: str) -> RefusedError:
    return RefusedError(
        f"PEFT does not load {folder.name}: {why}", code="ZP001", hint="zoo validate --static"
    )


@contextmanager
def guarded(model: "PeftModel") -> Iterator[None]:
    """Removes the hooks that PEFT leaves behind when a call in the block raises.

    Raises:
        DefectError: hooks were already there at the start: an earlier call ran without this guard.
    """
    if count := offset_hooks(model):
        raise DefectError(f"{count} stale PEFT hooks with old activation offsets are registered")
    try:
        yield
    finally:
        offset_hooks(model, remove=True)


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


def forward_by_rule(
    model: "PeftModel",
    ids: "Tensor",
    *,
    attention_mask: "Tensor | None" = None,
    position_ids: "Tensor | None" = None,
    cache: "DynamicCache | None" = None,
) -> "Tensor":
    """One forward pass without gradients in which PEFT itself looks for the invocation, as users call it.

    This is what a conformance run tests; anything that must be right uses `forward`.

    Args:
        model: from `attach`.
        ids: int64 `[batch, tokens]`; the whole invocation must be in them, not in the cache.
        attention_mask: int64 `[batch, cached + tokens]`, 1 where there is a token.
        position_ids: int64 `[batch, tokens]`.
        cache: KV of earlier tokens; extended in place.

    Returns:
        Logits, float `[batch, tokens, vocabulary]`, in the model's dtype.
    """
    import torch

    with torch.no_grad(), guarded(model):
        output = model(
            input_ids=ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=0,
        )
    logits: Tensor = output.logits
    return logits


def forward_switched_off(model: "PeftModel", ids: "Tensor", *, cache: "DynamicCache") -> "Tensor":
    """One forward pass without gradients of the base that the adapter sits on, the adapter switched off.

    Args:
        model: from `attach`.
        ids: int64 `[batch, tokens]`.
        cache: KV of earlier tokens; extended in place.

    Returns:
        Logits, float `[batch, tokens, vocabulary]`, in the model's dtype.
    """
    with model.disable_adapter():
        return forward_by_rule(model, ids, cache=cache)


@contextmanager
def negated(model: "PeftModel", *, name: str = "negated") -> Iterator[None]:
    """In the block a second adapter is the active one: the active adapter's with its update negated.

    Args:
        model: from `attach`.
        name: what PEFT calls the second adapter; it is gone after the block.
    """
    first = model.active_adapter
    model.add_adapter(name, model.peft_config[first], low_cpu_mem_usage=True)
    model.train(model.training)  # a new adapter's dropout begins switched on
    for module in lora_layers(model):
        a: Any = module.lora_A
        b: Any = module.lora_B
        if first in a:
            a[name].load_state_dict(a[first].state_dict(), assign=True)
            update = {key: -value for key, value in b[first].state_dict().items()}
            b[name].load_state_dict(update, assign=True)
    model.set_adapter(name)
    try:
        yield
    finally:
        model.set_adapter(first)
        model.delete_adapter(name)


def generate(
    model: "PeftModel",
    ids: "Tensor",
    *,
    attention_mask: "Tensor",
    max_new_tokens: int,
    end_ids: Sequence[int],
    pad_id: int,
    cache: "DynamicCache | None" = None,
) -> "Tensor":
    """Greedy decoding through PEFT's own `generate`, which looks for the invocation in `ids`.

    The ids go in as `input_ids`: as `inputs` PEFT would not find them and run the base model.

    Args:
        model: from `attach`.
        ids: int64 `[batch, tokens]`, the whole prompts, those in `cache` included.
        attention_mask: int64 `[batch, tokens]`, 1 where there is a token. Always needed: where the padding
            id also ends a turn, generate would guess wrongly.
        max_new_tokens: decoded at most.
        end_ids: ids that end a row.
        pad_id: fills rows that ended.
        cache: the base model's KV of a prefix of `ids` that ends before the invocation; extended in place.

    Returns:
        Prompts and decoded tokens, int64 `[batch, tokens + decoded]`.
    """
    import torch
    from transformers import GenerationConfig

    # of our own: the base's generation_config may sample, penalise repetition, or stop at other tokens
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=list(end_ids) or None,
        pad_token_id=pad_id,
    )
    with torch.no_grad(), guarded(model):
        made: Tensor = model.generate(  # type: ignore[no-untyped-call]
            input_ids=ids, attention_mask=attention_mask, generation_config=config, past_key_values=cache
        )
    return made


def offset_hooks(model: "PeftModel", *, remove: bool = False) -> int:
    """Counts the hooks in which PEFT keeps one call's offsets or row names; between calls there are none.

    Args:
        model: from `attach`.
        remove: also removes them.

    Returns:
        How many there were.
    """
    from functools import partial

    count = 0
    for module in lora_layers(model):
        hooks = module._forward_pre_hooks
        stale = [
            key
            for key, hook in hooks.items()
            if isinstance(hook, partial) and not _CALL_STATE.isdisjoint(hook.keywords)
        ]
        count += len(stale)
        if remove:
            for key in stale:
                del hooks[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)
    return count


def lora_layers(model: "PeftModel") -> list["nn.Module"]:
    """The layers that PEFT wrapped; looked for once a model, since every guarded call asks twice."""
    from peft.tuners.lora.layer import LoraLayer

    if model not in _LAYERS:
        _LAYERS[model] = [module for module in model.modules() if isinstance(module, LoraLayer)]
    return _LAYERS[model]
