"""A cache of fixed memory that one sequence at a time is continued in, behind a copy of its prefix."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from zoo.inference import attention
from zoo.inference.graphs import Graphs
from zoo.inference.prefix import CachedSequence, Prefix

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

SMALLEST = 512
LONGEST = 512  # tokens of a call that is still padded and captured


class FixedCache:
    """Keys and values in memory that stays where it is, so that calls can be captured as CUDA graphs.

    A prefix is copied in once and stays until another takes its place; what follows is written behind it.
    Tokens are addressed by tensors (`slots`), and attention masks what lies behind a token's own slot: one
    graph serves every prefix length within a window. On a CPU nothing is padded and the window is exact.

    It is what transformers' models take for their cache: they call `update` and `get_seq_length`.
    """

    def __init__(self, model: "PreTrainedModel", *, padded: bool, captured: bool) -> None:
        """Takes no memory yet.

        Args:
            model: the base, for which `fits` holds.
            padded: whether calls and windows are padded to a few sizes.
            captured: whether padded calls are captured; needs a CUDA device.
        """
        self._heads: int = model.config.num_attention_heads
        self._device = model.device
        self._padded = padded
        self._graphs = Graphs() if captured else None
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._sequence: CachedSequence | None = None
        self._valid = 0  # leading tokens of the sequence that lie in the buffers
        self._next = 0  # the slot of the next token
        self._slots: Any = None
        self._window = 0

    def begin(self, prefix: Prefix, *, room: int) -> None:
        """See `Continuation`."""
        self._make_room(prefix.sequence, prefix.length + room + (LONGEST if self._padded else 0))
        held = min(self._valid, prefix.length) if self._sequence is prefix.sequence else 0
        if held < prefix.length:
            for mine, theirs in zip(self._layers, prefix.sequence.layers, strict=True):
                for target, source in zip(mine, theirs, strict=True):
                    target[:, :, held : prefix.length].copy_(source[:, :, held : prefix.length])
        self._sequence, self._valid, self._next = prefix.sequence, prefix.length, prefix.length

    def step(self, model: "PreTrainedModel", ids: Sequence[int], *, last: bool) -> "Tensor":
        """See `Continuation`."""
        import torch

        count = len(ids)
        short = self._padded and count <= LONGEST
        width = _tokens(count) if short else count
        begin, self._next = self._next, self._next + count
        window = round_up(begin + width) if self._padded else begin + width
        row = torch.tensor([[*ids, *[ids[-1]] * (width - count)]], device=self._device)
        slots = torch.arange(begin, begin + width, device=self._device)
        if not short:
            return self._run(model, row, slots, window=window, keep=int(last))
        call = partial(self._run, model, window=window, keep=0)
        if self._graphs is None:
            logits = call(row, slots)
        else:
            logits = self._graphs.run(model, (width, window), (row, slots), call)
        return logits[count - 1 : count] if last else logits[:count]

    def wipe(self) -> None:
        """See `Continuation`: zero times what is not a number would not be zero behind a mask."""
        for pair in self._layers:
            for part in pair:
                part.zero_()
        self._sequence, self._valid = None, 0

    def update(
        self, keys: "Tensor", values: "Tensor", layer: int, *_: object, **__: object
    ) -> tuple["Tensor", "Tensor"]:
        """Writes one layer's keys and values at this call's slots.

        Returns:
            What lies in the window: keys and values, `[1, heads, window, head]`.
        """
        mine = self._layers[layer]
        for target, source in zip(mine, (keys, values), strict=True):
            target.index_copy_(2, self._slots, source)
        return mine[0][:, :, : self._window], mine[1][:, :, : self._window]

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens before the next call."""
        return self._next

    def _run(self, model: Any, row: "Tensor", slots: "Tensor", *, window: int, keep: int) -> "Tensor":
        """One forward call: logits `[tokens, vocabulary]`, or of the last `keep` tokens."""
        import torch

        self._slots, self._window = slots, window
        keys = self._layers[0][0]
        mask = attention.packed_mask(
            slots, window, heads_shared=self._heads // keys.shape[1], dtype=keys.dtype
        )
        with torch.no_grad():
            output = model(
                input_ids=row,
                attention_mask=mask,
                position_ids=slots[None],
                past_key_values=self,
                use_cache=True,
                logits_to_keep=keep,
            )
        logits: Tensor = output.logits[0]
        return logits

    def _make_room(self, like: CachedSequence, tokens: int) -> None:
        """Buffers for so many tokens; graphs hold the addresses of the old ones and go with them."""
        if self._layers and self._layers[0][0].shape[2] >= tokens:
            return
        self._layers, self._sequence, self._valid = [], None, 0
        if self._graphs is not None:
            self._graphs.clear()
        capacity = round_up(max(tokens, SMALLEST) * 5 // 4)
        for pair in like.layers:
            keys, values = (p.new_zeros(*p.shape[:2], capacity, p.shape[3]) for p in pair)
            self._layers.append((keys, values))


def fits(model: "PreTrainedModel") -> bool:
    """Whether every layer of a model attends to all tokens before, in the way that `attention` computes.

    Others (sliding windows, attention sinks, capped scores, recurrent layers, positions that depend on the
    length) are continued by `Growing`.
    """
    config = model.config
    rope = getattr(config, "rope_parameters", None)
    kinds = getattr(config, "layer_types", None) or ["full_attention"]
    sliding = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    return (
        bool(getattr(model, "_can_compile_fullgraph", False))
        and bool(getattr(model, "_supports_attention_backend", False))
        and isinstance(rope, dict)
        and rope.get("rope_type", "default") in ("default", "linear", "llama3", "yarn")
        and set(kinds) == {"full_attention"}
        and not sliding
        and not getattr(config, "attn_logit_softcapping", None)
        and bool(getattr(config, "num_attention_heads", None))
    )


def round_up(tokens: int) -> int:
    """The next window: eighths between powers of two, so that at most an eighth is looked at for nothing."""
    eighth = max(SMALLEST // 4, 1 << max(0, (tokens - 1).bit_length() - 4))
    return -(-tokens // eighth) * eighth


def _tokens(count: int) -> int:
    """To how many tokens a call is padded: one is a decode step, then 16 and its doubles."""
    return 1 if count == 1 else max(16, 1 << (count - 1).bit_length())
