"""One base model, loaded once, that many adapters answer on."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.adapter import AdapterRepo
from zoo.errors import UndecidedError
from zoo.inference import attention
from zoo.inference.adapted import Adapted
from zoo.inference.continuation import Continuation, Growing, filled
from zoo.inference.fixed_cache import FixedCache, fits
from zoo.inference.merged import merged, shell
from zoo.inference.norms import fuse_norms
from zoo.inference.prefix import CachedSequence, Prefix, PrefixCache
from zoo.models import BaseModel, Dtype, load_model

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel

LEAST_BUDGET = 1 << 28  # bytes
CHUNK = 4096  # tokens of one prefill call: a mask over a long cache is as large as their product


class SharedBase:
    """The pristine base, the prefixes it has computed, and the adapters made on it.

    Attributes:
        base: what was loaded.
        model: its weights, which nothing here changes.
        prefix_cache: keys and values of conversations; their `budget` in bytes may be set.
    """

    def __init__(self, base: BaseModel, model: "PreTrainedModel", *, budget: int = 0) -> None:
        """Takes a loaded model; `open` loads one.

        Args:
            base: what the model was loaded from.
            model: in evaluation mode and frozen.
            budget: bytes of conversations to hold; 0 takes a quarter of the memory that is free now.
        """
        self.base = base
        self.model = model
        self.prefix_cache = PrefixCache(budget or max(LEAST_BUDGET, _free_bytes(model) // 4))
        self._in_place = fits(model)
        gpu = model.device.type == "cuda"
        self._continuation: Continuation = (
            FixedCache(model, padded=gpu, captured=gpu) if self._in_place else Growing()
        )

    @classmethod
    def open(cls, base: BaseModel, *, device: str, dtype: Dtype, attention: str = "") -> "SharedBase":
        """Loads the base.

        Args:
            base: from `zoo.models.resolve`.
            device: a torch device.
            dtype: of the weights.
            attention: transformers' attention implementation for prefixes; empty takes its default.

        Raises:
            BaseMissingError: it does not load.
        """
        return cls(base, load_model(base, dtype=dtype, device=device, attention=attention))

    def prefill(self, ids: Sequence[int]) -> Prefix:
        """The base's keys and values of a prefix: of the longest part that is held, and the rest computed.

        Args:
            ids: the prefix; may be empty.

        Raises:
            UndecidedError: a layer of this architecture keeps something else than keys and values a position.
        """
        wanted = tuple(ids)
        held = self.prefix_cache.longest(wanted) if wanted else None
        if held and held.length == len(wanted):
            return held
        # an empty prefix still needs tensors of the right shapes: one token is run, and none of it used
        sequence = self._computed(held, wanted or (0,))
        if wanted:
            self.prefix_cache.hold(sequence)
        return Prefix(sequence=sequence, length=len(wanted))

    def adapter(self, repo: AdapterRepo) -> Adapted:
        """An adapter, merged into copies of the weights it adapts; all others are the base's own.

        Raises:
            RefusedError: ZV… or ZR001, see `zoo.inference.merged.merged`.
        """
        return self._adapted(merged(self.model, self.base, repo))

    def plain(self) -> Adapted:
        """The base itself, without any adapter."""
        return self._adapted(shell(self.model))

    def _adapted(self, model: "PreTrainedModel") -> Adapted:
        if self._in_place:
            model.config._attn_implementation = attention.register()
            if self.model.device.type == "cuda":
                fuse_norms(model)
        return Adapted(model, self._continuation)

    def _computed(self, held: Prefix | None, ids: tuple[int, ...]) -> CachedSequence:
        import torch

        cache = filled(held) if held else _empty(self.model)
        done = held.length if held else 0
        for begin in range(done, len(ids), CHUNK):
            row = torch.tensor([ids[begin : begin + CHUNK]], device=self.model.device)
            with torch.no_grad():
                self.model(input_ids=row, past_key_values=cache, use_cache=True, logits_to_keep=1)
        if not cache.layers:
            raise _unshareable(type(self.model).__name__)
        return CachedSequence(ids=ids, layers=[_whole(layer, len(ids)) for layer in cache.layers])


def _empty(model: "PreTrainedModel") -> "DynamicCache":
    """A cache that keeps all tokens of every layer, for a model whose layers keep nothing else."""
    from transformers import DynamicCache
    from transformers.cache_utils import LinearAttentionCacheLayerMixin

    for layer in DynamicCache(config=model.config).layers:  # what transformers itself would keep
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            raise _unshareable(type(layer).__name__)
    return DynamicCache()


def _whole(layer: Any, tokens: int) -> tuple[Any, Any]:
    """One layer's keys and values; every token must be there."""
    keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
    if keys is None or values is None or keys.shape[-2] != tokens:
        raise _unshareable(type(layer).__name__)
    return keys, values


def _unshareable(kind: str) -> UndecidedError:
    return UndecidedError(
        f"this base keeps other things than a key and a value for each token ({kind}): "
        "its prefixes cannot be shared",
        hint="choose a base with attention in every layer",
    )


def _free_bytes(model: "PreTrainedModel") -> int:
    import torch

    if model.device.type == "cuda":
        return torch.cuda.mem_get_info(model.device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    found = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((int(kib) * 1024 for kib in found), 0)
