"""Keys and values of many rows that are decoded together behind one beginning that they share.

The beginning is held once, however many rows continue it; what is a row's own lies in memory that does not
move. Every row gives one token a call. A token that shall not have been said is hidden, and its position is
given to the next.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.training import packed
from zoo.training.attention import Pass

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from zoo.training.entry import Layers
    from zoo.training.exact import Rule

PACK_TOKENS = 1024  # of rows run together
_NOTHING = -1  # the position of a slot in which nothing lies that may be seen


class Lanes:
    """Rows behind a shared beginning; `attend` is the attention of a packed pass with a token of each row."""

    def __init__(
        self,
        model: "PeftModel",
        shared: Sequence[int],
        rows: Sequence[Sequence[int]],
        *,
        adapted: bool,
        room: int,
    ) -> None:
        """Runs the beginning, and all but the last token of every row.

        Args:
            model: base and adapter.
            shared: what all rows begin with; may be empty.
            rows: how each goes on; none empty.
            adapted: whether the adapter acts, on every token.
            room: how many more tokens a row may take.
        """
        import torch

        self._device: Any = next(model.parameters()).device
        self._shared: Layers = (
            packed.record(model, [shared], [[]], adapted=adapted)[0].layers() if shared else []
        )
        self._begin = len(shared)
        self._layers: list[tuple[Tensor, Tensor]] = []
        size = max(map(len, rows)) + room
        self._positions = torch.full((len(rows), size), _NOTHING, device=self._device)
        self._slots = [0] * len(rows)
        self._next = [self._begin] * len(rows)
        self._now: Any = None
        for pack in _packs(rows):
            self._fill(model, rows, pack, adapted=adapted, size=size)
        if not self._layers:
            self._make_room(model, size)

    def given(self) -> Pass:
        """The packed pass of a step: one token a row, in the order of the rows."""
        return Pass(rows=(), attend=self.attend)

    def advance(self) -> "Tensor":
        """Makes place for one token of every row; its positions, int64 `[1, rows]`."""
        import torch

        rows = torch.arange(len(self._slots), device=self._device)
        slots = torch.tensor(self._slots, device=self._device)
        positions = torch.tensor(self._next, device=self._device)
        self._positions[rows, slots] = positions
        window = max(self._slots) + 1
        self._now = (rows, slots, positions, window)
        self._slots = [slot + 1 for slot in self._slots]
        self._next = [position + 1 for position in self._next]
        return positions[None]

    def forget(self, row: int, tokens: int) -> None:
        """Hides a row's last tokens."""
        if tokens:
            end = self._slots[row]
            self._positions[row, end - tokens : end] = _NOTHING
            self._next[row] -= tokens

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps these rows, in this order, and lets the others go."""
        import torch

        chosen = torch.tensor(rows, device=self._device)
        self._layers = [(k.index_select(1, chosen), v.index_select(1, chosen)) for k, v in self._layers]
        self._positions = self._positions.index_select(0, chosen)
        self._slots = [self._slots[row] for row in rows]
        self._next = [self._next[row] for row in rows]

    def attend(self, query: "Tensor", key: "Tensor", value: "Tensor", rule: "Rule", layer: int) -> "Tensor":
        """One layer's attention; query `[heads, rows, head]`, key and value `[kv_heads, rows, head]`."""
        import torch

        rows, slots, positions, window = self._now
        keys, values = self._layers[layer]
        keys[:, rows, slots], values[:, rows, slots] = key, value
        grouped = query.view(len(keys), -1, *query.shape[1:]) * rule.scale
        scores = torch.einsum("hgrd,hrtd->hgrt", grouped, keys[:, :, :window])
        places = self._positions[:, :window]
        if self._shared:
            before = self._shared[layer][0]
            scores = torch.cat([torch.einsum("hgrd,hpd->hgrp", grouped, before), scores], dim=-1)
            begin = torch.arange(self._begin, device=self._device).expand(len(places), -1)
            places = torch.cat([begin, places], dim=-1)
        scores = scores.float()
        if rule.softcap:
            scores = rule.softcap * torch.tanh(scores / rule.softcap)
        hidden = places < 0
        if rule.window is not None:
            hidden = hidden | (places <= positions[:, None] - rule.window)
        weights = scores.masked_fill(hidden, -torch.inf).softmax(dim=-1).to(value.dtype)
        mixed = torch.einsum("hgrt,hrtd->hgrd", weights[..., -window:], values[:, :, :window])
        if self._shared:
            mixed = mixed + torch.einsum("hgrp,hpd->hgrd", weights[..., :-window], self._shared[layer][1])
        return mixed.reshape(*query.shape[:2], -1)

    def _fill(
        self,
        model: "PeftModel",
        rows: Sequence[Sequence[int]],
        pack: Sequence[int],
        *,
        adapted: bool,
        size: int,
    ) -> None:
        import torch

        runs = [rows[row][:-1] for row in pack]
        before = [[self._shared] if self._shared else [] for _ in runs]
        for row, entry in zip(pack, packed.record(model, runs, before, adapted=adapted), strict=True):
            found = entry.layers()
            if not self._layers:
                self._layers = [
                    tuple(t.new_zeros(t.shape[0], len(rows), size, t.shape[2]) for t in pair)  # type: ignore[misc]
                    for pair in found
                ]
            for mine, theirs in zip(self._layers, found, strict=True):
                for target, source in zip(mine, theirs, strict=True):
                    target[:, row, : entry.tokens] = source
            self._slots[row] = entry.tokens
            self._next[row] = self._begin + entry.tokens
            places = torch.arange(self._begin, self._next[row], device=self._device)
            self._positions[row, : entry.tokens] = places

    def _make_room(self, model: "PeftModel", size: int) -> None:
        """Memory like the shared beginning's, or like that of a token which is run for it."""
        like = self._shared or packed.record(model, [(0,)], [[]], adapted=False)[0].layers()
        rows = len(self._slots)
        self._layers = [
            tuple(t.new_zeros(t.shape[0], rows, size, t.shape[2]) for t in pair)  # type: ignore[misc]
            for pair in like
        ]


def _packs(rows: Sequence[Sequence[int]]) -> list[list[int]]:
    """Rows that are run together: in order, up to a number of tokens; rows of one token need no run."""
    found: list[list[int]] = []
    used = PACK_TOKENS
    for index, row in enumerate(rows):
        if len(row) == 1:
            continue
        if used + len(row) > PACK_TOKENS:
            found.append([])
            used = 0
        found[-1].append(index)
        used += len(row)
    return found
