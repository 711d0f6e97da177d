"""Batches of suffixes as lines of packed rows, for who runs a base layer by layer on stored prefixes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.training.attention import Pass, Stopped, packed
from zoo.training.packed import laid_out
from zoo.training.prefix import PrefixStore, suffixes

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.training.entry import Layers
    from zoo.training.exact import Row
    from zoo.training.residual import Block


class Near(Sequence["tuple[Tensor, Tensor]"]):
    """The layers of a stored prefix, of which only the one asked for last is copied to the device."""

    def __init__(self, layers: "Layers", device: Any) -> None:
        """Nothing is copied yet; `layers` may lie in host memory."""
        self._layers = layers
        self._device = device
        self._last: tuple[int, tuple[Tensor, Tensor]] | None = None

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, layer: Any) -> Any:
        if self._last is None or self._last[0] != layer:
            keys, values = self._layers[layer]
            self._last = (layer, (keys.to(self._device), values.to(self._device)))
        return self._last[1]


@dataclass(slots=True, kw_only=True)
class Line:
    """One batch before a layer.

    Attributes:
        given: the pass.
        rows: one a sample, in the batch's order.
        stream: `[tokens, hidden]`, in the base's dtype.
        kwargs: what else a layer is called with.
    """

    given: Pass
    rows: "Sequence[Row]"
    stream: "Tensor"
    kwargs: dict[str, Any]


def laid(store: PrefixStore, samples: Sequence[int]) -> "tuple[Pass, dict[str, Tensor], Sequence[Row]]":
    """Some samples' suffixes, answers included: the pass, what the base is called with, and the rows.

    Args:
        store: prefixes; also says which samples.
        samples: their indices.
    """
    found = [store.samples[row] for row in samples]
    runs, _ = suffixes(found, [sample.answer for sample in found])
    paths = store.entries(samples, lying=True)
    near = {id(entry): Near(entry.layers(), store.device) for path in paths for entry in path}
    pieces = [[near[id(entry)] for entry in path] for path in paths]
    given, ids, positions, rows = laid_out(store.model, runs, pieces)
    return given, {"input_ids": ids, "position_ids": positions}, rows


def entered(blocks: "Sequence[Block]", store: PrefixStore, samples: Sequence[int]) -> Line:
    """A batch before the first layer; arguments as `laid`."""
    base: Any = store.model.get_base_model()
    given, called, rows = laid(store, samples)
    kept: dict[str, Any] = {}

    def stop(_: Any, args: Any, kwargs: Any) -> None:
        kept.update(kwargs, hidden_states=args[0] if args else kwargs["hidden_states"])
        raise Stopped

    handle = blocks[0].layer.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with packed(base, given):
            base(**called, use_cache=False, logits_to_keep=1)
    except Stopped:
        pass
    finally:
        handle.remove()
    stream = kept.pop("hidden_states")[0]
    return Line(given=given, rows=rows, stream=stream, kwargs=kept)
