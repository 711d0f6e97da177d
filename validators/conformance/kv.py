"""Keys and values of a prefix: taking them out of a cache, comparing them, copying a cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.errors import UndecidedError
from zoo.validators.conformance.difference import difference, same_bits

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache

Layers = Sequence[tuple["Tensor", "Tensor"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class KvDifference:
    """Where two prefixes' keys and values first differ, and by how much anywhere.

    Attributes:
        layer: index of the first layer with a difference.
        part: `key` or `value`, whichever differs first.
        position: first token position with a difference in that layer and part.
        max_abs: largest absolute difference over all layers; infinite when something is not finite.
        layers: number of layers with a difference.
        by_layer: the largest absolute difference in each layer; empty where nobody looked.
    """

    layer: int
    part: str
    position: int
    max_abs: float
    layers: int
    by_layer: tuple[float, ...] = ()

    def __str__(self) -> str:
        """One clause for a finding."""
        return (
            f"first in layer {self.layer} ({self.part}) at position {self.position}; "
            f"{self.layers} layers differ, by up to {self.max_abs:.3g}"
        )


def empty_cache() -> "DynamicCache":
    """A cache that grows with each call and starts empty."""
    from transformers import DynamicCache

    return DynamicCache()


def filled_cache(layers: Layers) -> "DynamicCache":
    """A cache that starts with given keys and values, a pair a layer, `[batch, heads, tokens, head]`.

    Nothing is copied: such a cache grows by concatenating, which leaves what it was given alone.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache()
    for keys, values in layers:
        layer = DynamicLayer()  # type: ignore[no-untyped-call]
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def bit_print(tensor: "Tensor") -> int:
    """A number over the bits of a tensor: equal for equal ones, other for one that changed."""
    import torch

    return int(torch.hash_tensor(tensor).view(torch.int64))


def cut_back(cache: "DynamicCache", length: int) -> None:
    """Removes everything behind the first `length` positions, in place."""
    if surplus := cache.get_seq_length() - length:
        cache.crop(-surplus)  # a positive argument raises since transformers 5.23


def prefix_kv(cache: "DynamicCache", length: int) -> list[tuple["Tensor", "Tensor"]]:
    """Keys and values of the first `length` positions, a pair per layer, `[batch, heads, length, head]`.

    Raises:
        UndecidedError: a layer keeps something else than keys and values for every position.
    """
    found = []
    for index, layer in enumerate(cache.layers):
        keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
        if keys is None or values is None or keys.shape[-2] < length:
            raise UndecidedError(
                f"layer {index} keeps no key and value for each of {length} positions "
                f"({type(layer).__name__}): its prefix cannot be compared"
            )
        found.append((keys[..., :length, :], values[..., :length, :]))
    return found


def equal_bits(one: Layers, other: Layers) -> bool:
    """Whether two prefixes are the same bits; cheap, and blind to what is not finite in both."""
    import torch

    integers = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return all(
        torch.equal(a.view(integers[a.element_size()]), b.view(integers[b.element_size()]))
        for pair, counterpart in zip(one, other, strict=True)
        for a, b in zip(pair, counterpart, strict=True)
    )


def first_difference(one: Layers, other: Layers) -> KvDifference | None:
    """The first bit in which two prefixes differ, or None; what is not finite always differs.

    Args:
        one: from `prefix_kv`.
        other: of the same model and shapes.

    Raises:
        ValueError: the layer counts, shapes or dtypes differ.
    """
    if len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} layers cannot be compared")
    first: tuple[int, str, int] | None = None
    largest = [0.0] * len(one)
    layers = 0
    for index, (pair, counterpart) in enumerate(zip(one, other, strict=True)):
        differs = False
        for part, a, b in zip(("key", "value"), pair, counterpart, strict=True):
            wrong = ~same_bits(a, b)
            if not bool(wrong.any()):
                continue
            differs = True
            largest[index] = max(largest[index], difference(a, b).max_abs)
            if first is None:
                positions = wrong.any(dim=-1).flatten(0, -2).any(dim=0)
                first = (index, part, int(positions.nonzero()[0]))
        layers += differs
    if first is None:
        return None
    layer, part, position = first
    return KvDifference(
        layer=layer,
        part=part,
        position=position,
        max_abs=max(largest),
        layers=layers,
        by_layer=tuple(largest),
    )
