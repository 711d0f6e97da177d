"""Engines that remember: what they served before stands in for what they are asked."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tests.validators.conformance.mutations.cache_seam import Pairs, length_of
from zoo.validators.conformance.kv import Layers, empty_cache, filled_cache, prefix_kv

Right = Callable[..., Any]


def row(part: Tensor, rows: int) -> Tensor:
    """The first row, so many times."""
    return part[:1].expand(rows, -1, -1, -1)


class Recent:
    """Continues the prompt before instead of this one, where that is at least as long."""

    def __init__(self) -> None:
        self.last: Layers = []

    def __call__(self, layers: Layers) -> Pairs:
        length = layers[0][0].shape[-2]
        old, self.last = self.last, layers
        if not old or old[0][0].shape[-2] < length:
            return list(layers)
        rows = layers[0][0].shape[0]
        return [
            (row(keys[..., :length, :], rows), row(values[..., :length, :], rows)) for keys, values in old
        ]


class Longer(Recent):
    """Leaves what an earlier prompt had behind this one's prefix in the cache."""

    def __call__(self, layers: Layers) -> Pairs:
        old = self.last
        self.last = layers
        if not old:
            return list(layers)
        rows = layers[0][0].shape[0]
        return [
            (
                torch.cat([keys, row(old_keys[..., -1:, :], rows)], dim=-2),
                torch.cat([values, row(old_values[..., -1:, :], rows)], dim=-2),
            )
            for (keys, values), (old_keys, old_values) in zip(layers, old, strict=True)
        ]


class Served:
    """Answers a call from an earlier one's results where a key of the call is the same."""

    def __init__(self, key: Callable[[Any, dict[str, Any]], Any], *, cached: bool) -> None:
        self.key, self.cached = key, cached
        self.known: dict[Any, tuple[Any, Pairs]] = {}

    def __call__(self, right: Right, model: Any, **arguments: Any) -> Any:
        length, cache = length_of(arguments), arguments.get("past_key_values")
        if cache is None or bool(length) is not self.cached:
            return right(**arguments)
        key = (self.key(model, arguments), tuple(arguments["input_ids"].shape))
        if key not in self.known:
            found = right(**arguments)
            total = length + arguments["input_ids"].shape[1]
            pairs = [
                (keys[..., length:, :], values[..., length:, :]) for keys, values in prefix_kv(cache, total)
            ]
            self.known[key] = (found, pairs)
            return found
        found, pairs = self.known[key]
        for layer, (keys, values) in zip(cache.layers, pairs, strict=False):
            layer.keys = torch.cat([layer.keys, keys], dim=-2)
            layer.values = torch.cat([layer.values, values], dim=-2)
        return found


def ids_of(arguments: dict[str, Any]) -> tuple[int, ...]:
    return tuple(arguments["input_ids"].flatten().tolist())


def own_and_cached(arguments: dict[str, Any]) -> tuple[Any, ...]:
    """The call's ids and what stands in front of them."""
    keys = arguments["past_key_values"].layers[0].keys
    return (*ids_of(arguments), keys.shape[-2], float(keys.double().sum()))


class PrefixStore:
    """A server's prefix cache: a cold prompt continues the longest beginning that was seen before.

    Args:
        label: what a prefix is kept under besides its ids.
    """

    def __init__(self, label: Callable[[Any, dict[str, Any]], Any]) -> None:
        self.label = label
        self.seen: dict[Any, list[tuple[tuple[int, ...], Pairs, Tensor]]] = {}

    def __call__(self, right: Right, model: Any, **arguments: Any) -> Any:
        from peft.tuners.lora.variants import calculate_alora_offsets

        cache, ids = arguments.get("past_key_values"), arguments["input_ids"]
        if cache is None or length_of(arguments) or ids.shape[0] > 1:
            return right(**arguments)
        row, known = ids_of(arguments), self.seen.setdefault(self.label(model, arguments), [])
        best = max(known, key=lambda one: self.common(row, one[0]), default=None)
        own, shared = empty_cache(), self.common(row, best[0]) if best else 0
        if best and shared:
            own = filled_cache([(keys[..., :shared, :], values[..., :shared, :]) for keys, values in best[1]])
        offsets = arguments.get("alora_offsets") or calculate_alora_offsets(
            model.peft_config, model.active_adapter, ids
        )
        rest = {**arguments, "input_ids": ids[:, shared:], "past_key_values": own, "alora_offsets": offsets}
        found = right(**rest)
        if best:
            found.logits = torch.cat([best[2][:, :shared], found.logits], dim=1)
        kept = prefix_kv(own, len(row))
        for index, (keys, values) in enumerate(kept):
            cache.update(keys, values, index)
        known.append((row, kept, found.logits))
        return found

    @staticmethod
    def common(row: tuple[int, ...], old: tuple[int, ...]) -> int:
        same = next((at for at, (one, two) in enumerate(zip(row, old, strict=False)) if one != two), len(old))
        return min(len(row) - 1, len(old), same)


def switched_off(model: Any) -> bool:
    """Whether the adapter is switched off."""
    return bool(model.base_model.model.model.layers[0].self_attn.q_proj.disable_adapters)
