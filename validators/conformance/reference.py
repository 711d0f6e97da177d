"""Our own activated-LoRA forward pass, in plain PyTorch over an unmodified transformers model.

It shares no code with PEFT, so the two can be held against each other.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.activation import active_mask
from zoo.adapter import AdapterRepo
from zoo.errors import DefectError, RefusedError
from zoo.validators.conformance.low_rank import LowRank, read_updates
from zoo.validators.conformance.target import fitted, linear_at

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import Cache, PreTrainedModel


class Reference:
    """The definition of an activated LoRA, runnable.

    For every target module with base weight W (and base bias b), a token at position t with input x_t gives

        y_t = W x_t + b                          for t <  s
        y_t = W x_t + b + scale * B (A x_t)      for t >= s

    where s is the position of the first token of the *last* full occurrence of the invocation ids in the
    prompt; the start is inclusive, and every token after it is adapted, decoded ones included. Without an
    occurrence there is no s and every token is the base model's. Since attention is causal, nothing at a
    position before s depends on the adapter: the keys and values of the prefix are the base model's.

    The rule itself (s, and the mask t >= s) is `zoo.activation.active_mask`; here the mask is an argument,
    boolean `[batch, tokens]` for the tokens of the call, so that a chunk of a prompt or a decode step says
    for itself what is active.

    Precision: the update is computed in float32 from the module's input, added to its output in float32 and
    rounded once to the model's dtype, as PEFT does with its default `autocast_adapter_dtype`. It is computed
    for the active tokens only; an inactive one keeps the base's bits. `oracle.Oracle` is the same in float64.

    Nothing is left out silently: each adapted module must be a linear layer that sees every token of the call
    exactly once, else the call is refused with the module's name.

    Attributes:
        model: the base, which is hooked during a call and otherwise left as it is.
        updates: by module path, on their module's device, float32 (float64 for a float64 model).

    Source: arXiv 2504.12397, section 3; peft 0.21.2, tuners/lora/variants.py, `ALoraLinearVariant`
    and `calculate_alora_offsets`.
    """

    def __init__(self, model: "PreTrainedModel", updates: Mapping[str, LowRank]) -> None:
        """Pairs updates with the modules of a model.

        Args:
            model: a causal language model.
            updates: by module path.

        Raises:
            RefusedError: ZR001, the model has no such linear layer, or one with other features.
        """
        self.model = model
        self._modules = {path: linear_at(model, path) for path in updates}
        self.updates = {path: fitted(path, self._modules[path], update) for path, update in updates.items()}

    @classmethod
    def from_folder(cls, model: "PreTrainedModel", repo: AdapterRepo) -> "Reference":
        """Reads an adapter's factors and scales from its files.

        Raises:
            RefusedError: ZR001, the files do not hold the updates of modules of this model.
            UndecidedError: the config scales by a regular expression.
        """
        return cls(model, read_updates(repo, device=str(model.device)))

    def logits(
        self,
        ids: "Tensor",
        mask: "Tensor",
        *,
        attention_mask: "Tensor | None" = None,
        position_ids: "Tensor | None" = None,
        cache: "Cache | None" = None,
        logits_to_keep: int = 0,
    ) -> "Tensor":
        """One forward pass.

        Args:
            ids: int64 `[batch, tokens]`, the tokens of this call.
            mask: bool `[batch, tokens]`, True where the adapter acts.
            attention_mask: int64 `[batch, cached + tokens]`, 1 where there is a token.
            position_ids: int64 `[batch, tokens]`.
            cache: KV of earlier tokens; extended in place.
            logits_to_keep: compute logits for this many last positions; 0 is all.

        Returns:
            Logits `[batch, kept, vocabulary]`, in the model's dtype.

        Raises:
            DefectError: the mask does not have the shape of the ids.
            RefusedError: ZR001, an adapted module does not see every token of the call exactly once.
        """
        import torch

        if mask.shape != ids.shape or mask.dtype is not torch.bool:
            raise DefectError(f"a mask of shape {list(mask.shape)} for ids of shape {list(ids.shape)}")
        with torch.no_grad(), self._arithmetic(), self._hooked(mask, logits_to_keep):
            output = self.model(
                input_ids=ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=logits_to_keep,
            )
        logits: Tensor = output.logits
        return logits

    def log_probs(
        self,
        ids: "Tensor",
        mask: "Tensor",
        *,
        attention_mask: "Tensor | None" = None,
        position_ids: "Tensor | None" = None,
        cache: "Cache | None" = None,
        logits_to_keep: int = 0,
    ) -> "Tensor":
        """`logits` as log-probabilities, float32 (float64 for a float64 model), same shape."""
        import torch

        logits = self.logits(
            ids,
            mask,
            attention_mask=attention_mask,
            position_ids=position_ids,
            cache=cache,
            logits_to_keep=logits_to_keep,
        )
        return torch.log_softmax(logits.to(torch.promote_types(torch.float32, logits.dtype)), dim=-1)

    def masks(self, rows: Sequence[Sequence[int]], invocation: Sequence[int]) -> "Tensor":
        """The rule's masks for rows of equal length: bool `[batch, tokens]` on the model's device."""
        import torch

        return torch.tensor([active_mask(row, invocation) for row in rows], device=self.model.device)

    def _arithmetic(self) -> AbstractContextManager[object]:
        """What the forward pass runs under; the oracle has its own."""
        return nullcontext()

    @contextmanager
    def _hooked(self, mask: "Tensor", kept: int) -> Iterator[None]:
        if not mask.any():  # the base's own pass, with nothing in its way
            yield
            return
        active = _Active.of(mask)
        # the head, and only it, is given the kept positions alone
        head = self.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        heads = {head: _Active.of(mask[:, -kept:])} if kept else {}
        calls: Counter[str] = Counter()
        handles = []
        try:
            for path, module in self._modules.items():
                hook = _adds(path, self.updates[path], heads.get(module, active), calls)
                handles.append(module.register_forward_hook(hook, with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()
        for path in self._modules:
            if calls[path] != 1:
                raise _unfollowed(path, f"is called {calls[path]} times in one forward pass, not once")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Active:
    """The tokens of one call at which an adapter acts.

    Attributes:
        shape: batch and tokens of the call.
        rows: int64 `[active]`, their indices with batch and tokens flattened; found once a call, because
            finding them waits for a GPU.
    """

    shape: tuple[int, ...]
    rows: "Tensor"

    @classmethod
    def of(cls, mask: "Tensor") -> "_Active":
        return cls(shape=tuple(mask.shape), rows=mask.flatten().nonzero().squeeze(1))

    @property
    def tokens(self) -> int:
        return math.prod(self.shape)


def _adds(path: str, update: LowRank, active: _Active, calls: "Counter[str]") -> Callable[..., Any]:
    """A forward hook that adds the update at the active tokens and counts its calls."""

    def hook(_: "nn.Module", args: tuple[Any, ...], kwargs: dict[str, Any], output: "Tensor") -> "Tensor":
        calls[path] += 1
        x: Tensor = args[0] if args else kwargs["input"]
        seen = tuple(x.shape[:-1])
        # some models flatten batch and tokens in their MLP
        if seen not in (active.shape, (active.tokens,)) or tuple(output.shape[:-1]) != seen:
            raise _unfollowed(path, f"sees tokens of shape {list(seen)}, not {list(active.shape)}")
        if len(active.rows) == active.tokens:
            return (output + update.delta(x)).to(output.dtype)
        rows = active.rows.to(x.device)
        if not len(rows):
            return output
        flat = output.reshape(-1, output.shape[-1])
        adapted = flat[rows] + update.delta(x.reshape(-1, x.shape[-1])[rows])
        # put in, not added as a product with the mask: an inactive token keeps the base's bits even where
        # the update is not finite
        return flat.index_copy(0, rows, adapted.to(output.dtype)).view(output.shape)

    return hook


def _unfollowed(path: str, what: str) -> RefusedError:
    return RefusedError(
        f"{path} {what}, so that the reference cannot tell which tokens to adapt",
        code="ZR001",
        hint="leave this module out of target_modules",
    )
