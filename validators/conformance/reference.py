"""Our own activated-LoRA forward pass, in plain PyTorch over an unmodified transformers model.

It shares no code with PEFT, so the two can be held against each other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from zoo.activation import active_mask
from zoo.adapter import AdapterRepo
from zoo.errors import DefectError, RefusedError
from zoo.validators.conformance.low_rank import LowRank, read_updates

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import DynamicCache, PreTrainedModel


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
    rounded once to the model's dtype, as PEFT does with its default `autocast_adapter_dtype`; a float64
    model stays float64 throughout and serves as an oracle.

    Source: arXiv 2504.12397, section 3; peft 0.21.2, tuners/lora/variants.py, `ALoraLinearVariant`
    and `calculate_alora_offsets`.
    """

    def __init__(self, model: "PreTrainedModel", updates: Mapping[str, LowRank]) -> None:
        """Pairs updates with the modules of a model.

        Args:
            model: a causal language model; it is hooked during a call and otherwise left as it is.
            updates: by module path.

        Raises:
            RefusedError: ZR001, the model has no such module.
        """
        self.model = model
        self.updates = dict(updates)
        self._modules = {path: self._module(path) for path in self.updates}

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
        cache: "DynamicCache | None" = None,
    ) -> "Tensor":
        """One forward pass.

        Args:
            ids: int64 `[batch, tokens]`, the tokens of this call.
            mask: bool `[batch, tokens]`, True where the adapter acts.
            attention_mask: int64 `[batch, cached + tokens]`, 1 where there is a token.
            position_ids: int64 `[batch, tokens]`.
            cache: KV of earlier tokens; extended in place.

        Returns:
            Logits `[batch, tokens, vocabulary]`, in the model's dtype.

        Raises:
            DefectError: the mask does not have the shape of the ids.
        """
        import torch

        if mask.shape != ids.shape or mask.dtype is not torch.bool:
            raise DefectError(f"a mask of shape {list(mask.shape)} for ids of shape {list(ids.shape)}")
        with torch.no_grad(), self._hooked(mask):
            output = self.model(
                input_ids=ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=0,
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
        cache: "DynamicCache | None" = None,
    ) -> "Tensor":
        """`logits` as log-probabilities, float32 (float64 for a float64 model), same shape."""
        import torch

        logits = self.logits(ids, mask, attention_mask=attention_mask, position_ids=position_ids, cache=cache)
        return torch.log_softmax(logits.to(torch.promote_types(torch.float32, logits.dtype)), dim=-1)

    def masks(self, rows: Sequence[Sequence[int]], invocation: Sequence[int]) -> "Tensor":
        """The rule's masks for rows of equal length: bool `[batch, tokens]` on the model's device."""
        import torch

        return torch.tensor([active_mask(row, invocation) for row in rows], device=self.model.device)

    @contextmanager
    def _hooked(self, mask: "Tensor") -> Iterator[None]:
        handles = []
        try:
            for path, module in self._modules.items():
                handles.append(module.register_forward_hook(_adds(path, self.updates[path], mask)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _module(self, path: str) -> "nn.Module":
        try:
            return self.model.get_submodule(path)
        except AttributeError:
            raise RefusedError(
                f"the adapter has weights for {path}, which the base model does not have",
                code="ZR001",
                hint="give the base model that the adapter was made for with --base",
            ) from None


def _adds(path: str, update: LowRank, mask: "Tensor") -> Callable[..., Any]:
    import torch

    def hook(module: "nn.Module", args: tuple["Tensor", ...], output: "Tensor") -> "Tensor":
        x = args[0]
        if x.shape[-1] != update.a.shape[1] or output.shape[-1] != update.b.shape[0]:
            raise RefusedError(
                f"{path} maps {x.shape[-1]} features to {output.shape[-1]}, its update "
                f"{update.a.shape[1]} to {update.b.shape[0]}",
                code="ZR001",
                hint="give the base model that the adapter was made for with --base",
            )
        rows = mask if x.ndim == 3 else mask.flatten()  # some models flatten batch and tokens in their MLP
        if x.shape[:-1] != rows.shape:
            raise DefectError(f"{path} sees tokens of shape {list(x.shape[:-1])}, not {list(mask.shape)}")
        adapted = (output + update.delta(x)).to(output.dtype)
        # chosen, not multiplied: an inactive token keeps the base's bits even where the update is not finite
        return torch.where(rows.unsqueeze(-1), adapted, output)

    return hook
