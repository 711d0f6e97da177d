"""What goes on behind a prefix: a call for the suffix, then a call for every decoded token."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from zoo.inference.prefix import Prefix

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache, PreTrainedModel


class Continuation(Protocol):
    """One sequence at a time; every call extends it, and none writes into the prefix."""

    def begin(self, prefix: Prefix, *, room: int) -> None:
        """Takes place behind a prefix, forgetting what was there.

        Args:
            prefix: the base's.
            room: how many tokens will follow at most.
        """

    def step(self, model: "PreTrainedModel", ids: Sequence[int], *, last: bool) -> "Tensor":
        """Runs tokens that follow all before.

        Args:
            model: a shell over the base.
            ids: at least one.
            last: only the last token's logits are wanted.

        Returns:
            Logits `[tokens, vocabulary]`, or `[1, vocabulary]` for `last`, in the model's dtype. Valid until
            the next call.
        """

    def wipe(self) -> None:
        """Leaves nothing of what was computed; called after something that is not a number."""


class Growing:
    """For every architecture: transformers' own cache, mask and attention, and a longer cache each call."""

    def __init__(self) -> None:
        """Starts behind nothing."""
        self._cache: DynamicCache | None = None

    def begin(self, prefix: Prefix, *, room: int) -> None:
        """See `Continuation`; such a cache grows by concatenating, which leaves the prefix alone."""
        self._cache = filled(prefix)

    def step(self, model: "PreTrainedModel", ids: Sequence[int], *, last: bool) -> "Tensor":
        """See `Continuation`."""
        import torch

        row = torch.tensor([list(ids)], device=model.device)
        with torch.no_grad():
            output = model(
                input_ids=row, past_key_values=self._cache, use_cache=True, logits_to_keep=int(last)
            )
        logits: Tensor = output.logits[0]
        return logits

    def wipe(self) -> None:
        """See `Continuation`."""
        self._cache = None


def filled(prefix: Prefix) -> "DynamicCache":
    """A growing cache that starts with a prefix, sharing its memory.

    It is made without the base's config: every layer then keeps all tokens, also one with a sliding window,
    whose mask hides what is out of its sight.
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    cache = DynamicCache()
    if not prefix.length:
        return cache
    for keys, values in prefix.layers:
        layer: Any = DynamicLayer()  # type: ignore[no-untyped-call]
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache
