"""Keys and values of a prefix: taking them out of a cache, comparing them, copying a cache."""

import copy
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
    """

    layer: int
    part: str
    position: int
    max_abs: float
    layers: int

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


def copied(cache: "DynamicCache") -> "DynamicCache":
    """An independent copy: continuing it leaves the original alone."""
    return copy.deepcopy(cache)


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
    largest, layers = 0.0, 0
    for index, (pair, counterpart) in enumerate(zip(one, other, strict=True)):
        differs = False
        for part, a, b in zip(("key", "value"), pair, counterpart, strict=True):
            wrong = ~same_bits(a, b)
            if not bool(wrong.any()):
                continue
            differs = True
            largest = max(largest, difference(a, b).max_abs)
            if first is None:
                positions = wrong.any(dim=-1).flatten(0, -2).any(dim=0)
                first = (index, part, int(positions.nonzero()[0]))
        layers += differs
    if first is None:
        return None
    layer, part, position = first
    return KvDifference(layer=layer, part=part, position=position, max_abs=largest, layers=layers)
