"""Passes over rows of different lengths that stand in one line, each continuing its stored prefix."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import UndecidedError
from zoo.training.adapted import everywhere
from zoo.training.attention import Pass, Stopped, packed
from zoo.training.entry import Entry, Recorder
from zoo.training.exact import Row, joined
from zoo.training.ragged import Ragged
from zoo.training.update import Span

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from zoo.training.entry import Layers


def record(
    model: "PeftModel",
    runs: Sequence[Sequence[int]],
    pieces: "Sequence[Sequence[Layers]]",
    *,
    adapted: bool,
) -> list[Entry]:
    """Keys and values of some runs of tokens, without gradients; nothing after the last layer's is computed.

    Args:
        model: base and adapter.
        runs: token ids, none empty.
        pieces: per run, what it continues.
        adapted: whether the adapter acts.

    Returns:
        One entry a run.

    Raises:
        UndecidedError: the base does not attend in its last layer.
    """
    import torch

    base: Any = model.get_base_model()
    rows = _rows(runs, pieces)
    last = base.config.get_text_config(decoder=True).num_hidden_layers - 1
    made = Recorder([(row.begin, row.end) for row in rows], last + 1)
    device = next(base.parameters()).device
    ragged = Ragged.of(rows, device) if serves_rows(device) else None
    given = Pass(rows=rows, keep=made.add, last=last, ragged=ragged)
    ids, positions = _line(runs, rows, device)
    with torch.no_grad(), everywhere(model, on=adapted), packed(base, given):
        try:
            base(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=1)
        except Stopped:
            pass
        else:
            raise UndecidedError(f"{type(base).__name__} does not attend in layer {last}")
    return made.entries()


def logits(
    model: "PeftModel",
    runs: Sequence[Sequence[int]],
    pieces: "Sequence[Sequence[Layers]]",
    keep: Sequence[Sequence[int]],
    *,
    adapted: bool,
    spans: Sequence[Span] = (),
) -> "Tensor":
    """Logits at some tokens of some runs; the vocabulary is read for these alone.

    Args:
        model: base and adapter.
        runs: token ids, none empty.
        pieces: per run, what it continues.
        keep: per run, at which of its tokens.
        adapted: whether the adapter acts.
        spans: whose adapter acts where, instead of the active one everywhere.

    Returns:
        `[kept tokens, vocabulary]` in the model's dtype, run after run.
    """
    import torch

    base: Any = model.get_base_model()
    rows = _rows(runs, pieces)
    device = next(base.parameters()).device
    ids, positions = _line(runs, rows, device)
    places = torch.tensor(
        [row.begin + place for row, kept in zip(rows, keep, strict=True) for place in kept], device=device
    )
    given = _pass(rows, device)
    with everywhere(model, on=adapted, spans=spans), packed(base, given):
        output = base(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=places)
    found: Tensor = output.logits[0]
    return found


def laid_out(
    model: "PeftModel", runs: Sequence[Sequence[int]], pieces: "Sequence[Sequence[Layers]]"
) -> "tuple[Pass, Tensor, Tensor, list[Row]]":
    """A pass for who runs the layers one by one: with token ids and positions `[1, tokens]`, and its rows.

    Args:
        model: base and adapter.
        runs: token ids, none empty.
        pieces: per run, what it continues.
    """
    rows = _rows(runs, pieces)
    device = next(model.get_base_model().parameters()).device
    return (_pass(rows, device), *_line(runs, rows, device), rows)


def serves_rows(device: Any) -> bool:
    """Whether there is a kernel that takes many rows at once; a CPU reads them where they lie."""
    return bool(device.type == "cuda")


def _pass(rows: Sequence[Row], device: Any) -> Pass:
    """Rows that continue the same prefix are taken as one."""
    import torch

    found, order = joined(rows)
    ragged = Ragged.of(found, device) if serves_rows(device) and not torch.is_grad_enabled() else None
    if not order:
        return Pass(rows=found, ragged=ragged)
    there = torch.tensor(order, device=device)
    return Pass(rows=found, order=(there, there.argsort()), ragged=ragged)


def _rows(runs: Sequence[Sequence[int]], pieces: "Sequence[Sequence[Layers]]") -> list[Row]:
    found, begin = [], 0
    for ids, prefix in zip(runs, pieces, strict=True):
        found.append(Row(begin=begin, end=begin + len(ids), pieces=prefix))
        begin += len(ids)
    return found


def _line(runs: Sequence[Sequence[int]], rows: Sequence[Row], device: Any) -> "tuple[Tensor, Tensor]":
    """Token ids and positions, int64 `[1, tokens]`."""
    import torch

    starts = [row.before for row in rows]
    ids = [token for run in runs for token in run]
    positions = [start + i for start, run in zip(starts, runs, strict=True) for i in range(len(run))]
    return torch.tensor([ids], device=device), torch.tensor([positions], device=device)
