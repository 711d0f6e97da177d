"""Engines in this process, on torch: our reference, PEFT, and transformers' own adapter loading.

None keeps anything between requests. A prefix is prefilled by the base model into a cache of the request's
own, and the engine continues from it.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.activation import Convention, active_mask
from zoo.adapter import AdapterRepo
from zoo.errors import EngineError
from zoo.validators.conformance.engines.engine import Request
from zoo.validators.conformance.kv import empty_cache
from zoo.validators.conformance.reference import Reference
from zoo.validators.conformance.stepping import log_probs, run_base

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache, PreTrainedModel


class TorchEngine(ABC):
    """An engine over a transformers model in this process."""

    exact = True  # the very weights of the base that it is compared with

    def __init__(self, model: "PreTrainedModel", repo: AdapterRepo, convention: Convention) -> None:
        """Keeps a model of its own.

        Args:
            model: the base; subclasses that change it are given a copy.
            repo: the adapter.
            convention: what this version is known to do.
        """
        self.model = model
        self._invocation = tuple(repo.config.alora_invocation_tokens or ())
        self._convention = convention
        self.reused: int | None = None

    @property
    def convention(self) -> Convention:
        """What this version is known to do with an aLoRA."""
        return self._convention

    def log_probs(self, request: Request) -> Mapping[int, float]:
        """The whole vocabulary's log-probabilities; see the protocol.

        Raises:
            EngineError: the prefix leaves no token to run.
        """
        import torch

        cache = empty_cache()
        prefix = request.prefix
        if not 0 <= prefix < len(request.ids):
            raise EngineError(f"a prefix of {prefix} leaves nothing of {len(request.ids)} tokens to run")
        with torch.no_grad():
            if prefix:
                self.base(self._tensor(request.ids[:prefix]), cache)
            rest = self._tensor(request.ids[prefix:])
            logits = self.adapted(request.ids, rest, cache) if request.adapter else self.base(rest, cache)
            last: list[float] = log_probs(logits[0, -1]).tolist()
        self.reused = prefix
        return dict(enumerate(last))

    def close(self) -> None:
        """Lets go of the model."""
        self.__dict__.pop("model", None)

    @abstractmethod
    def adapted(self, ids: tuple[int, ...], rest: "Tensor", cache: "DynamicCache") -> "Tensor":
        """Logits of the adapter for `rest`, int64 `[1, tokens]`, the end of `ids` that is not in `cache`."""

    def base(self, ids: "Tensor", cache: "DynamicCache") -> "Tensor":
        """Logits of the base model for `ids`, int64 `[1, tokens]`."""
        return run_base(self.model, ids, cache)

    def _tensor(self, ids: tuple[int, ...]) -> "Tensor":
        import torch

        return torch.tensor([list(ids)], dtype=torch.int64, device=self.model.device)


class ReferenceEngine(TorchEngine):
    """The definition, over the pristine base, which is left as it is."""

    def __init__(self, model: "PreTrainedModel", repo: AdapterRepo, convention: Convention) -> None:
        """Reads the adapter's factors.

        Raises:
            RefusedError: ZR001, the adapter's files do not fit the base.
        """
        super().__init__(model, repo, convention)
        self._reference = Reference.from_folder(model, repo)

    def adapted(self, ids: tuple[int, ...], rest: "Tensor", cache: "DynamicCache") -> "Tensor":
        """The rule's mask on our own forward pass."""
        import torch

        mask = torch.tensor([active_mask(ids, self._invocation)[-rest.shape[1] :]], device=rest.device)
        return self._reference.logits(rest, mask, cache=cache)


class PeftEngine(TorchEngine):
    """PEFT as users call it: it looks for the invocation itself, in the ids of the call."""

    def __init__(self, model: "PreTrainedModel", repo: AdapterRepo, convention: Convention) -> None:
        """Attaches the adapter to a copy of the base.

        Raises:
            RefusedError: ZP001, PEFT does not load it.
        """
        super().__init__(model, repo, convention)
        self._peft = peft_model.attach(copy.deepcopy(model), repo.root)

    def adapted(self, ids: tuple[int, ...], rest: "Tensor", cache: "DynamicCache") -> "Tensor":
        """PEFT's own search, on the ids of this call."""
        return peft_model.forward_by_rule(self._peft, rest, cache=cache)

    def base(self, ids: "Tensor", cache: "DynamicCache") -> "Tensor":
        """The same model with no token adapted."""
        return peft_model.forward(self._peft, ids, offsets=[None], cache=cache)

    def close(self) -> None:
        """Lets go of both models."""
        super().close()
        self.__dict__.pop("_peft", None)


class TransformersEngine(TorchEngine):
    """`load_adapter` on a plain transformers model, which knows nothing of invocations."""

    def __init__(self, model: "PreTrainedModel", repo: AdapterRepo, convention: Convention) -> None:
        """Loads the adapter into a copy of the base.

        Raises:
            EngineError: transformers does not load it.
        """
        super().__init__(copy.deepcopy(model), repo, convention)
        try:
            self.model.load_adapter(str(repo.root), adapter_name="default")
        except (ValueError, KeyError, RuntimeError, TypeError, OSError) as error:
            raise EngineError(f"transformers does not load {repo.name}: {error!s:.200}") from error

    def adapted(self, ids: tuple[int, ...], rest: "Tensor", cache: "DynamicCache") -> "Tensor":
        """An ordinary call with the adapter switched on."""
        self.model.enable_adapters()
        return run_base(self.model, rest, cache)

    def base(self, ids: "Tensor", cache: "DynamicCache") -> "Tensor":
        """An ordinary call with the adapter switched off."""
        self.model.disable_adapters()
        return run_base(self.model, ids, cache)
