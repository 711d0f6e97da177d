"""Caches that hold, or give, something else than the base's keys and values of the prefix."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

from tests.validators.conformance.mutations.cache_memory import (
    Longer,
    PrefixStore,
    Recent,
    Served,
    ids_of,
    own_and_cached,
    switched_off,
)
from tests.validators.conformance.mutations.cache_seam import (
    in_layer,
    labelled,
    length_of,
    parts,
    read_as,
    where,
)
from tests.validators.conformance.mutations.mutant import CONSTRUCTED, Mutant
from tests.validators.conformance.mutations.seams import Seam, calls, method
from zoo.validators.conformance.kv import empty_cache, filled_cache, prefix_kv

WINDOW = 8  # tokens
BLOCK = 8  # numbers that share a scale in the quantised cache
Right = Callable[..., Any]


def through(dtype: torch.dtype) -> Seam:
    return parts(lambda part: part.to(dtype).to(part.dtype))


def quantised(part: Tensor) -> Tensor:
    """Eight bits a number, a scale a block."""
    blocks = part.reshape(*part.shape[:-1], -1, BLOCK)
    scale = blocks.abs().amax(dim=-1, keepdim=True).clamp(min=1e-12) / 127
    return ((blocks / scale).round() * scale).reshape(part.shape)


def prefilled_by_the_adapter() -> AbstractContextManager[None]:
    """The prefix is what the adapter computed for it in an earlier request."""

    def call(right: Right, model: Any, **arguments: Any) -> Any:
        cache = arguments.get("past_key_values")
        ids = getattr(cache, "prefix_ids", ())
        if ids and cache is not None:
            own, rows = empty_cache(), cache.layers[0].keys.shape[0]
            right(input_ids=torch.tensor([ids] * rows), past_key_values=own, use_cache=True,
                  alora_offsets=[len(ids)] * rows)  # fmt: skip
            for layer, (keys, values) in zip(cache.layers, prefix_kv(own, len(ids)), strict=True):
                layer.keys = torch.cat([keys, layer.keys[..., len(ids) :, :]], dim=-2)
                layer.values = torch.cat([values, layer.values[..., len(ids) :, :]], dim=-2)
            cache.prefix_ids = ()
        return right(**arguments)

    @contextmanager
    def patched() -> Iterator[None]:
        with labelled(), calls(call, generate=False)():
            yield

    return patched()


def at_positions(first: Callable[[int], int]) -> Seam:
    """The call's own tokens get other positions; `first` makes the first one from the cache's length."""

    def call(right: Right, model: Any, **arguments: Any) -> Any:
        if (length := length_of(arguments)) and arguments.get("position_ids") is None:
            arguments["position_ids"] = where(arguments, first(length))
        return right(**arguments)

    return calls(call, generate=False)


def behind_mask(hidden: Callable[[int], slice]) -> Seam:
    """A part of the cache is masked out."""

    def call(right: Right, model: Any, **arguments: Any) -> Any:
        if length := length_of(arguments):
            ids: Tensor = arguments["input_ids"]
            mask = torch.ones(ids.shape[0], length + ids.shape[1], dtype=torch.int64)
            mask[:, hidden(length)] = 0
            arguments["attention_mask"] = mask
            if arguments.get("position_ids") is None:
                arguments["position_ids"] = where(arguments, length)
        return right(**arguments)

    return calls(call, generate=False)


def rotated_again(right: Right, model: Any, **arguments: Any) -> Any:
    """Rotary embedding is applied to keys that have it already."""
    from transformers.models.llama.modeling_llama import rotate_half

    if length := length_of(arguments):
        cache = arguments["past_key_values"]
        rotary = model.get_base_model().model.rotary_emb
        cos, sin = rotary(cache.layers[0].keys, torch.arange(length)[None])
        for layer in cache.layers:
            layer.keys = layer.keys * cos[:, None] + rotate_half(layer.keys) * sin[:, None]
    return right(**arguments)


def in_place(change: Callable[[Tensor], Tensor], *, when: str) -> Seam:
    """Writes into the very tensors that it was given, `before` the call, or `after` it into its cache."""

    def call(right: Right, model: Any, **arguments: Any) -> Any:
        length = length_of(arguments)
        found = right(**arguments) if when == "after" else None
        for layer in arguments["past_key_values"].layers if length else ():
            for part in (layer.keys, layer.values):
                part[..., :length, :].copy_(change(part[..., :length, :]))
        return found if when == "after" else right(**arguments)

    return calls(call, generate=False)


def cropped(difference: int) -> Seam:
    """A cache that is cut back keeps one token too many, or one too few."""

    def owner() -> Any:
        from transformers.cache_utils import DynamicLayer

        return DynamicLayer

    return method(owner, "crop", lambda right, layer, length: right(layer, length + difference))


def without_update(right: Right, model: Any, **arguments: Any) -> Any:
    """Keeps the base's keys and values of the adapted tokens, so that the cache stays shareable."""
    length = length_of(arguments)
    found = None
    if length:
        cache = arguments["past_key_values"]
        own = filled_cache(prefix_kv(cache, length))
        found = right(**arguments)
        right(**{**arguments, "past_key_values": own, "alora_offsets": [0] * arguments["input_ids"].shape[0]})
        for layer, pair in zip(cache.layers, prefix_kv(own, own.get_seq_length()), strict=True):
            layer.keys, layer.values = pair
    return found if length else right(**arguments)


def mutant(id: str, what: str, source: str, codes: str, engine: Seam) -> Mutant:
    return Mutant(
        id=id, family="caches", what=what, source=source, codes=frozenset(codes.split()), engine=engine
    )


def fresh(make: Callable[[], Callable[..., Any]]) -> Seam:
    """A change that keeps something between calls, made anew for each run."""
    return lambda: calls(make(), generate=False)()


CACHES = (
    mutant("prefilled-by-the-adapter", "the prefix is what the adapter computed for it",
           "llama-server: a base request without a lora field after the adapter's", "ZK002",
           prefilled_by_the_adapter),
    mutant("prefix-in-float16", "reads the prefix through float16", "llama.cpp's default KV type", "ZK002",
           through(torch.float16)),
    mutant("prefix-in-bfloat16", "reads the prefix through bfloat16", CONSTRUCTED, "ZK002",
           through(torch.bfloat16)),
    mutant("prefix-in-fp8", "reads the prefix through fp8 e4m3", "vllm --kv-cache-dtype fp8", "ZK002",
           through(torch.float8_e4m3fn)),
    mutant("prefix-in-8-bits", "reads the prefix through 8 bits with a scale a block", "llama.cpp -ctk q8_0",
           "ZK002", parts(quantised)),
    mutant("quantised-in-place", "rounds the very tensors it was given to float16", CONSTRUCTED, "ZK003",
           in_place(lambda part: part.half().to(part.dtype), when="before")),
    mutant("written-afterwards", "writes into the prefix after it has read it", CONSTRUCTED, "ZK003",
           in_place(lambda part: part * 1.000001, when="after")),
    mutant("keys-and-values-swapped", "takes one layer's values for its keys", CONSTRUCTED, "ZK002",
           in_layer(1, lambda keys, values: (values, keys))),
    mutant("cache-layers-swapped", "each layer reads the other's cache", CONSTRUCTED, "ZK002",
           read_as(lambda layers: list(layers)[::-1])),
    mutant("heads-swapped", "the KV heads of one layer trade places", CONSTRUCTED, "ZK002",
           in_layer(0, lambda keys, values: (keys.flip(1), values.flip(1)))),
    mutant("one-layer-of-another-place", "one layer's cache is one position off", CONSTRUCTED, "ZK003 ZR002",
           in_layer(1, lambda keys, values: (keys.roll(1, 2), values.roll(1, 2)))),
    mutant("first-position-dropped", "the prefix's first token is gone",
           CONSTRUCTED,
           "ZK002", parts(lambda part: part[..., 1:, :])),
    mutant("last-position-dropped", "the prefix's last token is gone", CONSTRUCTED,
           "ZK002", parts(lambda part: part[..., :-1, :])),
    mutant("window", "the prefix beyond the last 8 tokens is gone",
           CONSTRUCTED,
           "ZK003 ZR001", parts(lambda part: part[..., -WINDOW:, :])),
    mutant("last-position-twice", "the prefix's last token is in the cache twice", CONSTRUCTED,
           "ZK002", parts(lambda part: torch.cat([part, part[..., -1:, :]], dim=-2))),
    mutant("positions-one-on", "positions go on one too far", CONSTRUCTED, "ZK002",
           at_positions(lambda length: length + 1)),
    mutant("positions-one-back", "positions go on one too early", CONSTRUCTED, "ZK002",
           at_positions(lambda length: length - 1)),
    mutant("positions-from-zero", "positions start again behind the prefix",
           CONSTRUCTED,
           "ZK002", at_positions(lambda length: 0)),
    mutant("rotated-twice", "keys of the prefix are rotated again", CONSTRUCTED,
           "ZK002 ZK003", calls(rotated_again, generate=False)),
    mutant("prefix-masked", "the suffix does not see the prefix", CONSTRUCTED,
           "ZK002", behind_mask(lambda length: slice(0, length))),
    mutant("mask-one-short", "the suffix does not see the prefix's first token",
           CONSTRUCTED,
           "ZK002", behind_mask(lambda length: slice(0, 1))),
    mutant("first-row-for-all", "every row of a batch continues the first row's prefix", CONSTRUCTED, "ZK005",
           parts(lambda part: part[:1].expand_as(part))),
    mutant("rows-swapped", "rows of a batch continue each other's prefixes", CONSTRUCTED, "ZK005",
           parts(lambda part: part.flip(0))),
    mutant("earlier-prompt", "continues an earlier prompt's prefix", CONSTRUCTED, "ZK002",
           lambda: read_as(Recent())()),
    mutant("rest-of-an-earlier-prompt", "something of an earlier prompt stands behind the prefix",
           CONSTRUCTED,
           "ZK002", lambda: read_as(Longer())()),
    mutant("crop-keeps-one", "a cache that is cut back keeps one adapted token", CONSTRUCTED,
           "ZK004", cropped(1)),
    mutant("crop-takes-one-more", "a cache that is cut back loses a token of the prefix",
           CONSTRUCTED, "ZK004", cropped(-1)),
    mutant("adapted-tokens-kept-as-base", "keeps the base's keys and values of adapted tokens", CONSTRUCTED,
           "ZK002", calls(without_update, generate=False)),
    mutant("suffix-from-another-prompt", "reuses the suffix's results whatever stands before it",
           CONSTRUCTED, "ZR001 ZK002",
           fresh(lambda: Served(lambda _, given: ids_of(given), cached=True))),
    mutant("served-across-adapters", "serves one adapter's results to another on the same tokens",
           "LMCache 2960, vllm 44250: keys without the adapter", "ZK004",
           fresh(lambda: Served(lambda _, given: own_and_cached(given), cached=True))),
    mutant("prefix-store-without-adapter", "a prefix cache keyed by token ids alone",
           "llama-server, host prompt cache (server-task.h:597)", "ZR002",
           fresh(lambda: PrefixStore(lambda model, given: given.get("alora_offsets") is None))),
    mutant("prefix-store-without-activation", "a later turn continues what an earlier activation computed",
           "llama-server, second aLoRA turn", "ZR006",
           fresh(lambda: PrefixStore(
               lambda model, given: (model.active_adapter, str(given.get("alora_offsets")),
                                     switched_off(model))))),
)  # fmt: skip
