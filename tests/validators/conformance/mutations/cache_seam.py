"""Where a cache can be broken: between the prefix that an engine is given and the call that continues it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from tests.validators.conformance.mutations.seams import Seam, calls
from zoo.validators.conformance.kv import Layers, filled_cache, prefix_kv

Pairs = list[tuple[Tensor, Tensor]]
Change = Callable[[Layers], Pairs]


def length_of(arguments: dict[str, Any]) -> int:
    """Tokens in the cache that a call is given; 0 without one."""
    cache = arguments.get("past_key_values")
    return cache.get_seq_length() if cache is not None else 0


def where(arguments: dict[str, Any], first: int) -> Tensor:
    """Position ids of a call's own tokens, counted from `first`."""
    ids: Tensor = arguments["input_ids"]
    return torch.arange(first, first + ids.shape[1]).expand(ids.shape)


def read_as(change: Change) -> Seam:
    """The engine continues from a copy of its own that it got wrong; what it was given stays as it is.

    Only `forward`: `generate` looks at the copy's length and computes what is missing.
    """

    def call(right: Callable[..., Any], model: Any, **arguments: Any) -> Any:
        if not (length := length_of(arguments)):
            return right(**arguments)
        given = arguments["past_key_values"]
        held = prefix_kv(given, length)
        own = filled_cache(change(held))
        kept = own.get_seq_length()
        if arguments.get("position_ids") is None and "generation_config" not in arguments:
            arguments["position_ids"] = where(arguments, length)
        found = right(**{**arguments, "past_key_values": own})
        grown = prefix_kv(own, own.get_seq_length())
        for layer, mine, held_pair in zip(given.layers, grown, held, strict=True):
            layer.keys, layer.values = (
                torch.cat([old, new[..., kept:, :]], dim=-2) for old, new in zip(held_pair, mine, strict=True)
            )
        return found

    return calls(call, generate=False)


def parts(change: Callable[[Tensor], Tensor]) -> Seam:
    """Every key and value tensor, `[batch, heads, tokens, head]`, read wrongly."""
    return read_as(lambda layers: [(change(keys), change(values)) for keys, values in layers])


def in_layer(index: int, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Seam:
    """One layer's keys and values read wrongly."""
    return read_as(lambda layers: [change(*pair) if at == index else pair for at, pair in enumerate(layers)])


@contextmanager
def labelled() -> Iterator[None]:
    """While the block lasts a cache that starts with a prefix knows the prefix's ids."""
    from zoo.validators.conformance.prefill import Prefill

    right = Prefill.cache

    def cache(self: Prefill, rows: Any = (0,), *, length: int | None = None) -> Any:
        made: Any = right(self, rows, length=length)
        made.prefix_ids = self.ids[:length]
        return made

    with mock.patch.object(Prefill, "cache", cache):
        yield
