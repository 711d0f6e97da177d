"""Several adapters' samples in one pass of the base: its products are computed once for all of them.

The tokens of one adapter's samples stand together in the line. What is not the adapters' own (projections,
feed-forward layers, the prefix's keys and values, the vocabulary) does not know whose tokens they are; each
adapter's factors see its own alone, so each gets the gradients that it would get alone.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from zoo.peft_model import lora_layers
from zoo.training.factors import Factors
from zoo.training.optimise import Together
from zoo.training.prefix import PrefixStore, suffixes
from zoo.training.share import StoreView
from zoo.training.update import Span, plain

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    Parts = Mapping[str, Sequence[int]]


def joinable(store: PrefixStore) -> bool:
    """Whether the adapters on a store's model can share passes, and gain by it.

    They cannot where rows are padded for transformers' own cache, or an adapted layer is no plain LoRA. And
    steps recorded on a GPU, each of one adapter, are taken to be faster than one that is not recorded.
    """
    from zoo.training.graphs import recordable

    model: PeftModel = store.model
    name = model.active_adapter
    layers = [layer for layer in lora_layers(model) if name in layer.lora_A]  # type: ignore[operator]
    if not store.packable or not all(plain(layer, str(name)) for layer in layers):
        return False
    return store.device.type != "cuda" or not recordable(model)


def together(stores: Mapping[str, StoreView], factors: Mapping[str, Factors]) -> Together:
    """How adapters are optimised in passes of one model.

    Args:
        stores: the samples of each, views of one store.
        factors: the adapters, by the same names.
    """
    whole = next(iter(stores.values())).whole

    def places(parts: "Parts") -> list[int]:
        return [place for name, rows in parts.items() for place in stores[name].places(rows)]

    def losses(parts: "Parts") -> "dict[str, Tensor]":
        return _losses(whole, {name: (stores[name], rows) for name, rows in parts.items()}, factors)

    return Together(losses=losses, prefetch=lambda parts: whole.prefetch(places(parts)))


def _losses(
    whole: PrefixStore,
    parts: Mapping[str, tuple[StoreView, Sequence[int]]],
    factors: Mapping[str, Factors],
) -> "dict[str, Tensor]":
    """The cross-entropy of each adapter's rows' answers, summed over their tokens."""
    import torch
    from torch.nn.functional import cross_entropy

    from zoo.training import packed

    members = {name: [store.samples[row] for row in rows] for name, (store, rows) in parts.items()}
    samples = [sample for some in members.values() for sample in some]
    runs, keep = suffixes(samples, [sample.answer for sample in samples])
    spans = [
        Span(
            tokens=sum(len(one.lead) + len(one.answer) - 1 for one in some),
            kept=sum(len(one.answer) for one in some),
            factors=factors[name],
        )
        for name, some in members.items()
    ]
    places = [place for store, rows in parts.values() for place in store.places(rows)]
    found = packed.logits(whole.model, runs, whole.pieces(places), keep, adapted=True, spans=spans).float()
    ids = torch.tensor([token for sample in samples for token in sample.answer], device=found.device)
    lines, wanted = (torch.split(x, [span.kept for span in spans]) for x in (found, ids))
    return {
        name: cross_entropy(line, answer, reduction="sum")
        for name, line, answer in zip(members, lines, wanted, strict=True)
    }
