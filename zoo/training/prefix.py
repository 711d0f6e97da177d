"""The KV cache of sample prefixes, computed once without gradients, and forward passes that continue it.

An aLoRA never touches the tokens before its invocation, so their keys and values are the base model's and
carry no gradient: running the suffix on them gives the gradients of the full pass. The same code runs the
plain LoRA, whose prefix is adapted: `adapted_prefix=True` is how the teacher of a distillation reads.
Source: arXiv 2504.12397, section 3; the equality with PEFT's full pass is tested.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import UndecidedError
from zoo.peft_model import forward
from zoo.progress import Progress, silent
from zoo.training.dataset import Encoded

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import DynamicCache

    Layers = list[tuple[Tensor, Tensor]]

DEFAULT_BUDGET_BYTES = 6 << 30
BATCH = 16  # rows of one pass without gradients


class PrefixStore:
    """Prefix KV by sample index; kept in host memory while a budget lasts, recomputed beyond it."""

    def __init__(
        self,
        model: "PeftModel",
        samples: Sequence[Encoded],
        *,
        adapted: bool = False,
        budget_bytes: int = DEFAULT_BUDGET_BYTES,
    ) -> None:
        """Remembers what to compute; nothing is computed yet.

        Args:
            model: base and adapter.
            samples: whose prefixes.
            adapted: whether the adapter acts on the prefix: false is an aLoRA's view, true a plain LoRA's.
            budget_bytes: host memory that kept prefixes may take.
        """
        self.model = model
        self.samples = samples
        self.adapted = adapted
        self.budget_bytes = budget_bytes
        self.kept_bytes = 0
        self._kept: dict[int, Layers] = {}
        self._scanned = 0
        self._last: tuple[Sequence[int], Layers] | None = None
        self._device = next(model.parameters()).device

    def fill(self, progress: Progress = silent) -> None:
        """Computes prefixes in order until all are kept or the budget is used up, and says which."""
        total = len(self.samples)
        for index in range(total):
            self._layers(index)
            note = f"{self.kept_bytes / 2**20:,.0f} MiB"
            if index not in self._kept:
                note += f": the budget is full; {total - len(self._kept)} of {total} are recomputed"
                progress("prefix KV", done=total, total=total, note=note)
                return
            progress("prefix KV", done=index + 1, total=total, note=note)

    def batch(self, rows: Sequence[int]) -> tuple["DynamicCache", "Tensor"]:
        """A fresh cache of several prefixes, padded on the left, and its attention mask.

        Args:
            rows: sample indices.

        Returns:
            The cache, keys and values `[rows, kv_heads, longest, head]`, and int64 `[rows, longest]`.
        """
        import torch
        from torch.nn.functional import pad
        from transformers import DynamicCache

        lengths = [len(self.samples[row].prefix) for row in rows]
        longest = max(lengths)
        device = self._device
        cache = DynamicCache()
        if longest:
            stored = [self._layers(row) for row in rows]
            for layer in range(len(stored[0])):
                keys, values = (
                    torch.cat(
                        [
                            pad(layers[layer][part], (0, 0, longest - length, 0))
                            for layers, length in zip(stored, lengths, strict=True)
                        ]
                    ).to(device)
                    for part in (0, 1)
                )
                cache.update(keys, values, layer)
        mask = torch.tensor([[0] * (longest - n) + [1] * n for n in lengths], dtype=torch.int64)
        return cache, mask.reshape(len(rows), longest).to(device)

    def _layers(self, index: int) -> "Layers":
        if index in self._kept:
            return self._kept[index]
        layers = self._compute(index)
        size_bytes = sum(t.nbytes for pair in layers for t in pair)
        if self.kept_bytes + size_bytes <= self.budget_bytes:
            self._kept[index] = layers
            self.kept_bytes += size_bytes
        return layers

    def _compute(self, index: int) -> "Layers":
        import torch
        from transformers import DynamicCache

        # an empty prefix still needs tensors of the right shape: one token is run and cut off again
        ids = self.samples[index].prefix or (0,)
        # without the base's config every layer keeps all tokens, also one with a sliding window: the mask
        # hides what is out of its sight
        cache, shared = DynamicCache(), 0
        scanning = index == self._scanned
        if scanning and self._last:
            # neighbours often share a system prompt and a passage: their KV is the same up to the first
            # token that differs. One token at least is run. Only on the first pass in order: what a sample's
            # rounding depends on must not be the order in which a resumed run happens to ask for it.
            before, layers = self._last
            shared = min(common_length(before, ids), len(ids) - 1)
            for number, (keys, values) in enumerate(layers if shared else []):
                cache.update(
                    keys[:, :, :shared].to(self._device), values[:, :, :shared].to(self._device), number
                )
        with torch.no_grad():
            forward(
                self.model,
                torch.tensor([ids[shared:]], device=self._device),
                offsets=[len(ids) if self.adapted else None],
                cache=cache,
                logits_to_keep=1,
            )
        found = [_cut(layer, len(ids)) for layer in cache.layers]
        if scanning:
            self._scanned, self._last = index + 1, (ids, found)
        return found if self.samples[index].prefix else [(k[:, :, :0], v[:, :, :0]) for k, v in found]


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids two sequences have in common from their start on."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(first), len(second)))


def _cut(layer: Any, width: int) -> "tuple[Tensor, Tensor]":
    """One layer's keys and values on the host; all `width` tokens must be there."""
    keys = getattr(layer, "keys", None)
    if keys is None or keys.shape[2] != width:
        raise UndecidedError(
            "this base keeps a recurrent state beside its KV cache: its prefixes cannot be stored",
            hint="choose a base with attention in every layer",
        )
    return keys.cpu(), layer.values.cpu()


def batches(samples: int) -> list[list[int]]:
    """The sample indices 0 to `samples` - 1 in batches for passes without gradients."""
    return [list(range(begin, min(begin + BATCH, samples))) for begin in range(0, samples, BATCH)]


def answer_logits(
    store: PrefixStore,
    rows: Sequence[int],
    *,
    answers: Sequence[Sequence[int]] | None = None,
    adapted: bool = True,
) -> list["Tensor"]:
    """Logits that predict each answer token, computed on the stored prefixes.

    Args:
        store: prefixes; also says which samples.
        rows: sample indices, one batch.
        answers: answer ids per row; each sample's own unless told.
        adapted: whether the adapter acts on the suffix.

    Returns:
        Per row, float32 `[answer tokens, vocabulary]`: the logits from which that token is predicted.
    """
    import torch

    samples = [store.samples[row] for row in rows]
    wanted = [sample.answer for sample in samples] if answers is None else answers
    # the last answer token predicts nothing that counts, so it is not run
    suffixes = [sample.lead + tuple(answer[:-1]) for sample, answer in zip(samples, wanted, strict=True)]
    cache, mask = store.batch(rows)
    device, width = mask.device, max(map(len, suffixes))
    ids = torch.tensor(
        [[*suffix, *[suffix[-1]] * (width - len(suffix))] for suffix in suffixes], device=device
    )
    real = torch.tensor([[1] * len(s) + [0] * (width - len(s)) for s in suffixes], device=device)
    starts = mask.sum(dim=1, keepdim=True)
    logits = forward(
        store.model,
        ids,
        offsets=[width if adapted else None] * len(rows),
        attention_mask=torch.cat([mask, real], dim=1),
        position_ids=starts + torch.arange(width, device=device),
        cache=cache,
    )
    return [
        logits[row, len(sample.lead) - 1 : len(sample.lead) - 1 + len(answer)].float()
        for row, (sample, answer) in enumerate(zip(samples, wanted, strict=True))
    ]
