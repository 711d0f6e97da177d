"""Our reference forward pass as an engine for the vectors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.activation import PEFT, Convention
from zoo.adapter import AdapterRepo
from zoo.models import Dtype, load_model, resolve
from zoo.validators.conformance.reference import Reference
from zoo.validators.conformance.vectors.case import ADAPTERS, MODEL, Case
from zoo.validators.conformance.vectors.compare import LogProbs
from zoo.validators.conformance.vectors.exact import Wide, run
from zoo.validators.conformance.vectors.rules import Deviation, Plan, by_rule

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache


class ReferenceEngine:
    """The reference over the tiny model; it follows the rule in everything that it can do."""

    convention: Convention = PEFT
    deviations: Sequence[Deviation] = ()

    def __init__(
        self,
        model: Path = MODEL,
        adapters: Mapping[str, Path] = ADAPTERS,
        *,
        dtype: Dtype = "float32",
        device: str = "cpu",
    ) -> None:
        """Loads the model and every adapter.

        Args:
            model: model folder.
            adapters: adapter folders by name.
            dtype: of the weights.
            device: a torch device string.
        """
        self._device = device
        loaded = load_model(resolve(str(model)), dtype=dtype, device=device)
        self._base = Reference(loaded, {})
        self._adapted = {
            name: Reference.from_folder(loaded, AdapterRepo.open(folder)) for name, folder in adapters.items()
        }

    def lacks(self, case: Case) -> str:
        """It takes ids only."""
        return "the reference takes token ids, not embeddings" if "inputs-embeds" in case.flags else ""

    def log_probs(self, case: Case) -> list[LogProbs]:
        """Runs the vector; rows of different adapters in a pass each, in which the others are the base's."""
        plans = by_rule(case)
        asked = [row.adapter for row in case.rows]
        answers: list[LogProbs] = [{} for _ in asked]
        for adapter in dict.fromkeys(asked):
            own = [
                plan if row == adapter else (None,) * len(plan)
                for plan, row in zip(plans, asked, strict=True)
            ]
            for index, answer in enumerate(self._pass(case, own)):
                if asked[index] == adapter:
                    answers[index] = answer
        return answers

    def _pass(self, case: Case, plans: Sequence[Plan]) -> list[LogProbs]:
        return run(case, plans, self._call, device=self._device)

    def _call(
        self,
        ids: "Tensor",
        acting: Wide,
        *,
        attention_mask: "Tensor",
        position_ids: "Tensor",
        cache: "DynamicCache",
    ) -> "Tensor":
        import torch

        names = {name for row in acting for name in row if name is not None}
        reference = self._adapted[names.pop()] if names else self._base
        mask = torch.tensor([[name is not None for name in row] for row in acting], device=self._device)
        return reference.logits(
            ids, mask, attention_mask=attention_mask, position_ids=position_ids, cache=cache
        )
