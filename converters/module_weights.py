"""Base weights by module, as their forward uses them: `[out, in]`, whatever the checkpoint's layout."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from zoo.converters.base_weights import BaseWeights, open_base_weights
from zoo.converters.modules import OUTERMOST
from zoo.models import BaseModel

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ModuleWeights:
    """The linear weights of one base model, read one at a time; the last one is kept for the next question.

    Attributes:
        base: the base model.
    """

    base: BaseModel
    _last: dict[str, "Tensor"] = field(default_factory=dict, repr=False)

    def load(self, path: str) -> "Tensor":
        """One module's weight: `[out, in]`, in the checkpoint's dtype.

        Raises:
            RefusedError: ZV050, the checkpoint has no such weight, or quantised.
        """
        if path not in self._last:
            self._last.clear()  # before the next one is read: they are what memory goes to
            name = stored_name(f"{path}.weight", self.base)
            weight = self._weights.tensor(name)
            self._last[path] = weight.T if self.base.turns(name) else weight
        return self._last[path]

    @cached_property
    def _weights(self) -> BaseWeights:
        return open_base_weights(self.base)


def stored_name(name: str, base: BaseModel) -> str:
    """The name under which the checkpoint holds a tensor of the loaded model.

    It may leave out the outermost name (GPT-2's has `h.0`), and a tied lm_head is the embedding's.
    """
    if name in base.tensors:
        return name
    shorter = name.partition(".")[2]
    if name.partition(".")[0] in OUTERMOST and shorter in base.tensors:
        return shorter
    if name == "lm_head.weight":
        return next((found for found in base.tensors if found.endswith("embed_tokens.weight")), name)
    return name
