"""The base model's keys and values of one prefix, made in several chunkings, ready to be continued from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.validators.conformance.kv import (
    KvDifference,
    Layers,
    empty_cache,
    equal_bits,
    filled_cache,
    first_difference,
    prefix_kv,
)
from zoo.validators.conformance.stepping import chunkings, run_base

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache, PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefill:
    """KV of one prefix by the pristine base; row r of each tensor was computed in the chunking `ways[r]`.

    Attributes:
        ids: the prefix.
        ways: names of the chunkings; `whole` is the first.
        layers: keys and values a layer, each `[ways, heads, tokens, head]`; nobody may write into them.
        versions: torch's count of writes into each of those tensors, from when they were made.
        finite: whether every number in them is.
    """

    ids: tuple[int, ...]
    ways: tuple[str, ...]
    layers: Layers
    versions: tuple[int, ...]
    finite: bool

    def cache(self, rows: Sequence[int] = (0,), *, length: int | None = None) -> "DynamicCache":
        """A cache that starts with the prefix, a batch row for each of the given rows.

        It shares memory with the prefill: a cache grows by concatenating, which leaves what it had alone.
        An engine that writes into it in place taints the prefill, and `taint` then says so.

        Args:
            rows: indices into `ways`, repetitions allowed.
            length: only so many tokens of the prefix; all of them when None.
        """
        return filled_cache(
            [(_taken(keys, rows, length), _taken(values, rows, length)) for keys, values in self.layers]
        )

    def taint(self, cache: "DynamicCache", rows: Sequence[int] = (0,)) -> KvDifference | None:
        """Where the first tokens of a used cache differ from this prefix by a bit, or None.

        What was written into the shared memory itself is no longer there to compare with: only its layer is
        known then, and that it changed.
        """
        now = _versions(self.layers)
        if changed := [place for place, count in enumerate(self.versions) if count != now[place]]:
            part = ("key", "value")[changed[0] % 2]
            return KvDifference(
                layer=changed[0] // 2, part=part, position=0, max_abs=math.inf, layers=len(changed)
            )
        expected = [(_taken(keys, rows), _taken(values, rows)) for keys, values in self.layers]
        found = prefix_kv(cache, len(self.ids))
        if self.finite and equal_bits(found, expected):
            return None
        return first_difference(found, expected)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(part.nbytes for pair in self.layers for part in pair)


def prefill(model: "PreTrainedModel", ids: Sequence[int]) -> Prefill:
    """Runs the base over a prefix in every chunking.

    Args:
        model: the pristine base.
        ids: the prefix, at least one token.

    Raises:
        UndecidedError: a layer of this architecture keeps something else than keys and values a position.
    """
    import torch

    row = torch.tensor([list(ids)], dtype=torch.int64, device=model.device)
    made = []
    ways = chunkings(len(ids))
    for sizes in ways.values():
        cache = empty_cache()
        for piece in torch.split(row, sizes, dim=1):
            run_base(model, piece, cache, logits_to_keep=1)
        made.append(prefix_kv(cache, len(ids)))
    layers = [
        (torch.cat([keys for keys, _ in layer]), torch.cat([values for _, values in layer]))
        for layer in zip(*made, strict=True)
    ]
    finite = all(bool(part.isfinite().all()) for pair in layers for part in pair)
    return Prefill(ids=tuple(ids), ways=tuple(ways), layers=layers, versions=_versions(layers), finite=finite)


def _versions(layers: Layers) -> tuple[int, ...]:
    """How often each tensor was written into, through itself or through a view of it."""
    return tuple(part._version for pair in layers for part in pair)


def _taken(part: "Tensor", rows: Sequence[int], length: int | None = None) -> "Tensor":
    """Rows of a tensor: a view where they are consecutive, else a copy."""
    first, count = rows[0], len(rows)
    consecutive = list(rows) == list(range(first, first + count))
    return (part[first : first + count] if consecutive else part[list(rows)])[..., :length, :]
