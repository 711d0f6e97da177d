"""Base weights by module, as their forward uses them: `[out, in]`, whatever the checkpoint's layout."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from zoo.converters.base_weights import BaseWeights, open_base_weights
from zoo.converters.modules import OUTERMOST
from zoo.models import BaseModel

if TYPE_CHECKING:
    from torch import Tensor

LM_HEAD = "lm_head.weight"
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")


@dataclass(frozen=True, kw_only=True)
class ModuleWeights:
    """The linear weights of one base model, of which one is kept and the next one read ahead.

    Attributes:
        base: the base model.
        order: paths as they will be asked for, as far as that is known; each is read while the one before it
            is worked on.
    """

    base: BaseModel
    order: Sequence[str] = ()
    _last: dict[str, "Tensor"] = field(default_factory=dict, repr=False)
    _next: dict[str, "Future[Tensor]"] = field(default_factory=dict, repr=False)

    def load(self, path: str) -> "Tensor":
        """One module's weight: `[out, in]`, in the checkpoint's dtype.

        Raises:
            RefusedError: ZV050, the checkpoint has no such weight, or quantised.
        """
        if path not in self._last:
            self._last.clear()  # before the next one is read: they are what memory goes to
            coming = self._next.pop(path, None)
            self._next.clear()
            self._last[path] = coming.result() if coming else self._read(path)
            if following := self._following.get(path):
                self._next[following] = self._reader.submit(self._read, following)
        return self._last[path]

    def _read(self, path: str) -> "Tensor":
        weight = self._weights.tensor(stored_name(f"{path}.weight", self.base))
        return weight.T if self.base.turns(f"{path}.weight") else weight

    @cached_property
    def _following(self) -> Mapping[str, str]:
        return dict(pairwise(self.order))

    @cached_property
    def _reader(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix="base-weights")

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
    if name == LM_HEAD:
        return tied_embedding(base.tensors) or name
    return name


def tied_embedding(names: Iterable[str]) -> str:
    """The input embedding's weight among a checkpoint's tensors, which a tied lm_head is; empty for none."""
    found = [name for name in names if name.endswith(_EMBEDDINGS)]
    return found[0] if len(found) == 1 else ""
