"""The residual stream of a base model's layers: who writes into it, and how much of what they write.

A layer reads the stream, its attention's output projection adds to it, its MLP's reads that and adds again.
Bases whose layers do something else (norms behind the projections, parallel branches, gates) are not of this
kind, and are told from it by what a layer really computes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from zoo.converters.widen import WRITERS
from zoo.errors import UndecidedError
from zoo.peft_model import lora_layers

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn

ASKER = "q_proj"  # as transformers names it where it is not one with keys' and values'
OFF = {"float32": 1e-3, "bfloat16": 0.03, "float16": 0.01}  # of what a layer adds: rounding of the stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One layer.

    Attributes:
        layer: takes the stream and gives it back.
        writers: its attention's and its MLP's output projections, as PEFT wrapped them.
        asker: its attention's query projection, if it has one of its own and the adapter is on it.
    """

    layer: "nn.Module"
    writers: "tuple[Any, Any]"
    asker: Any = None


def blocks_of(model: "PeftModel") -> list[Block]:
    """A base's layers in order.

    Raises:
        UndecidedError: the adapter is not on the two output projections of every layer.
    """
    base: Any = model.get_base_model()
    count = base.config.get_text_config(decoder=True).num_hidden_layers
    wrapped = {id(layer) for layer in lora_layers(model)}
    layers = next((m for m in base.modules() if type(m).__name__ == "ModuleList" and len(m) == count), ())
    found = []
    for layer in layers:
        named = [
            (name.rpartition(".")[2], module)
            for name, module in layer.named_modules()
            if id(module) in wrapped
        ]
        writers = [module for name, module in named if name in WRITERS]
        asker = next((module for name, module in named if name == ASKER), None)
        if len(writers) == 2:
            found.append(Block(layer=layer, writers=(writers[0], writers[1]), asker=asker))
    if not found or len(found) != count:
        raise UndecidedError(
            f"{type(base).__name__}: the adapter is not on the two output projections of every layer",
            hint="leave --calibrate out",
        )
    return found


@dataclass(slots=True, kw_only=True)
class Seen:
    """What one pass saw of one layer; each `[tokens, hidden]`, in the base's dtype.

    Attributes:
        begin: the stream before it.
        written: what its two writers gave.
        end: the stream behind it.
    """

    begin: "Tensor | None" = None
    written: "list[Tensor]" = field(default_factory=list)
    end: "Tensor | None" = None

    @property
    def stream(self) -> "tuple[Tensor, Tensor]":
        """Before and behind the layer.

        Raises:
            UndecidedError: a pass has not run it, or not as one layer with two writers.
        """
        if self.begin is None or self.end is None or len(self.written) != 2:
            raise UndecidedError("a layer was not run, or in another way than a packed pass runs it")
        return self.begin, self.end


@contextmanager
def watched(blocks: Sequence[Block]) -> "Iterator[list[Seen]]":
    """In the block, passes of packed lines are seen layer by layer; the last one is what is left."""
    seen = [Seen() for _ in blocks]
    handles: list[Any] = []

    def see(place: Seen, block: Block) -> None:
        def before(_: Any, args: Any, kwargs: Any) -> None:
            place.begin = _stream(args[0] if args else kwargs["hidden_states"])
            place.written.clear()  # a pass over prefixes may have come before

        def behind(_: Any, __: Any, out: Any) -> None:
            place.end = _stream(out)

        def wrote(_: Any, __: Any, out: Any) -> None:
            place.written.append(_stream(out))

        handles.append(block.layer.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(block.layer.register_forward_hook(behind))
        handles.extend(writer.register_forward_hook(wrote) for writer in block.writers)

    for place, block in zip(seen, blocks, strict=True):
        see(place, block)
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def share(seen: Seen) -> float:
    """How much of what its writers gave a layer added to the stream: 1, or Granite's residual multiplier.

    Args:
        seen: of one layer.

    Raises:
        UndecidedError: the layer added something else.
    """
    begin, end = seen.stream
    added = (end - begin).double()
    given = (seen.written[0] + seen.written[1]).double()
    found = float((added * given).sum() / given.square().sum().clamp_min(1e-300))
    off = float((added - found * given).norm() / added.norm().clamp_min(1e-300))
    if not off <= OFF.get(str(end.dtype).removeprefix("torch."), 0.0):
        raise UndecidedError(
            f"a layer of this base adds something else than its output projections give ({off:.1%} off)",
            hint="leave --calibrate out",
        )
    return found


def _stream(value: Any) -> "Tensor":
    """The stream in what a layer takes or gives, without the batch."""
    import torch

    found = value if isinstance(value, torch.Tensor) else value[0]
    return found.detach()[0]
