"""Attention without gradients of rows of different lengths, each behind its prefix, in one kernel call.

Row by row costs a dozen launches a row and layer, which for short rows is all the time there is.
Source: FlashAttention 2's packed call, whose causal mask is aligned to the last key of a row (Dao-AILab
flash-attention v2.1, CHANGELOG; torch 2.13, torch/nn/attention/bias.py `causal_lower_right`). Tested against
`zoo.training.exact` on the CPU with the kernel written out, the kernel against that on a GPU.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Self

from zoo.training.exact import Row, Rule
from zoo.training.flash import CUDA, Kernel, Lines, usable

if TYPE_CHECKING:
    from torch import Tensor

KEYS = 1 << 16  # tokens whose keys and values are copied into one line; an 8B base has 4 KB a token and layer


@dataclass(frozen=True, slots=True, kw_only=True)
class Ragged:
    """The rows of a pass, as one kernel call takes them.

    Attributes:
        rows: in the order of the line, one run each.
        queries: where each begins in the line, and where the last ends, int32 `[rows + 1]`.
        keys: where the keys of each begin, its prefix's first; likewise.
        longest: of all rows the most queries and the most keys.
        kernel: which computes.
    """

    rows: Sequence[Row]
    queries: "Tensor"
    keys: "Tensor"
    longest: tuple[int, int]
    kernel: Kernel

    @classmethod
    def of(cls, rows: Sequence[Row], device: Any, kernel: Kernel = CUDA) -> Self | None:
        """Makes it, or None where too much would be copied: such rows are read where they lie.

        Args:
            rows: which tokens belong together, in the order of the line, and their prefixes.
            device: of the model.
            kernel: which computes.
        """
        import torch

        alone = [one for row in rows for one in _runs(row)]
        own = [row.end - row.begin for row in alone]
        seen = [size + row.before for size, row in zip(own, alone, strict=True)]
        if sum(seen) > KEYS:
            return None
        marks = [[*accumulate(sizes, initial=0)] for sizes in (own, seen)]
        queries, keys = torch.tensor(marks, dtype=torch.int32, device=device)
        # of rows of one token each the kernel lays out the log-sum-exp in another way
        longest = (max(2, *own), max(2, *seen))
        return cls(rows=alone, queries=queries, keys=keys, longest=longest, kernel=kernel)

    @staticmethod
    def serves(query: "Tensor", value: "Tensor", rule: Rule) -> bool:
        """Whether the kernel computes what a layer asks for; shapes as in `attend`."""
        head = query.shape[-1]
        return head == value.shape[-1] and usable(rule, query.dtype, head)

    def attend(self, query: "Tensor", key: "Tensor", value: "Tensor", rule: Rule, layer: int) -> "Tensor":
        """Attention of every row to its prefix and its own earlier tokens.

        Args:
            query: `[heads, tokens, head]`, half precision on a GPU.
            key: `[kv_heads, tokens, head]`; each serves as many neighbouring heads.
            value: likewise.
            rule: of this layer: no window, no soft cap.
            layer: which layer of the prefixes.

        Returns:
            `[heads, tokens, head]`.
        """
        lines = Lines(
            queries=self.queries, keys=self.keys, longest_query=self.longest[0], longest_key=self.longest[1],
            causal=True, scale=rule.scale,
        )  # fmt: skip
        keys, values = (self._joined(own, layer, part) for part, own in enumerate((key, value)))
        out, _ = self.kernel.forward(query.transpose(0, 1), keys, values, lines)
        return out.transpose(0, 1)

    def _joined(self, own: "Tensor", layer: int, part: int) -> "Tensor":
        """Each row's prefix and its own tokens, one row after another, `[tokens, kv_heads, head]`."""
        import torch

        if not any(row.pieces for row in self.rows):
            return own.transpose(0, 1)
        line = []
        for row in self.rows:
            line += [piece[layer][part] for piece in row.pieces]
            line.append(own[:, row.begin : row.end])
        return torch.cat(line, dim=1).transpose(0, 1)


def _runs(row: Row) -> list[Row]:
    """A row of its own for each of several that were taken as one."""
    marks = [*accumulate(row.runs or (row.end - row.begin,), initial=row.begin)]
    return [Row(begin=begin, end=end, pieces=row.pieces) for begin, end in pairwise(marks)]
