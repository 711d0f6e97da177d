"""PEFT as an engine for the vectors: as its users call it, and with the offsets of each call given."""

import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import peft_model
from zoo.activation import PEFT, Convention
from zoo.models import Dtype, load_model, resolve
from zoo.validators.conformance.kv import empty_cache
from zoo.validators.conformance.vectors.case import ADAPTERS, MODEL, Case
from zoo.validators.conformance.vectors.compare import LogProbs
from zoo.validators.conformance.vectors.exact import Wide, in_calls, run, shortened, told
from zoo.validators.conformance.vectors.layout import Layout
from zoo.validators.conformance.vectors.peft_rules import DEVIATIONS, chunk_size, shared
from zoo.validators.conformance.vectors.rules import Deviation, by_rule

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import DynamicCache


class PeftEngine:
    """PEFT's model of the tiny base with every adapter loaded, called as its users call it.

    Prompts go through `forward` with mask and positions; a prefill in equal chunks through
    `generate(prefill_chunk_size=)`, in others through a loop over `forward`; decoding through a loop over
    `forward`; and a prompt after an earlier one through `generate` on the earlier cache, cut back to the ids
    that both begin with.
    """

    convention: Convention = PEFT
    deviations: Sequence[Deviation] = DEVIATIONS

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
        base = load_model(resolve(str(model)), dtype=dtype, device=device)
        (first, folder), *others = adapters.items()
        self.model: PeftModel = peft_model.attach(base, folder, name=first)
        for name, other in others:
            self.model.load_adapter(str(other), name, torch_device=device)

    def lacks(self, case: Case) -> str:
        """Nothing: PEFT takes whatever a vector needs, rightly or not."""
        return ""

    def log_probs(self, case: Case) -> list[LogProbs]:
        """Runs the vector as a user would."""
        if case.history or chunk_size(case):
            return self._generated(case)
        layout = Layout.of(case)
        nobody = [[None] * len(ids) for ids in layout.ids]
        call = functools.partial(self._call, case)
        logits = in_calls(layout.ids, layout.real, nobody, layout.calls, call, empty_cache(), self._device)
        return told(case, layout, logits)

    def _call(self, case: Case, ids: "Tensor", acting: Wide, **rest: Any) -> "Tensor":
        return self._forward(case, ids, [row.adapter for row in case.rows], {}, **rest)

    def _forward(
        self,
        case: Case,
        ids: "Tensor",
        names: Sequence[str | None],
        more: Mapping[str, Any],
        *,
        attention_mask: "Tensor",
        position_ids: "Tensor",
        cache: "DynamicCache",
    ) -> "Tensor":
        import torch

        given: dict[str, Any] = {"input_ids": ids}
        if "inputs-embeds" in case.flags:
            given = {"inputs_embeds": self.model.get_input_embeddings()(ids)}
        if len(set(names)) > 1:
            given["adapter_names"] = [name or "__base__" for name in names]
        with torch.no_grad(), self._asking(names):
            output = self.model(
                **given,
                **more,
                attention_mask=attention_mask,
                position_ids=position_ids,
                past_key_values=cache,
                use_cache=True,
            )
        logits: Tensor = output.logits
        return logits

    def _generated(self, case: Case) -> list[LogProbs]:
        """The last position's answer out of `generate`, after the earlier requests in the same cache."""
        import torch

        row = case.rows[0]
        cache = empty_cache()
        ids: tuple[int, ...] = ()
        requests = [(one.adapter, one.ids) for one in case.history]
        logits = torch.empty(0)
        for adapter, wanted in (*requests, (row.adapter, row.ids)):
            cache = shortened(cache, shared(ids, wanted))
            logits = self._generate(adapter, wanted, cache, chunk_size(case))
            ids = wanted
        log_probs = torch.log_softmax(logits.float(), dim=-1)[0]
        return [{len(row.ids) - 1: dict(enumerate(log_probs.tolist()))}]

    def _generate(
        self, adapter: str | None, prompt: Sequence[int], cache: "DynamicCache", chunk: int | None
    ) -> "Tensor":
        import torch
        from transformers import GenerationConfig

        ids = torch.tensor([prompt], device=self._device)
        config = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False,
            max_new_tokens=1,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=0,
            prefill_chunk_size=chunk,
        )
        with torch.no_grad(), self._asking([adapter]):
            made: Any = self.model.generate(  # type: ignore[no-untyped-call]
                input_ids=ids,
                attention_mask=ids.new_ones(ids.shape),
                generation_config=config,
                past_key_values=cache,
            )
        logits: Tensor = made.logits[0]
        return logits

    @contextmanager
    def _asking(self, names: Sequence[str | None]) -> Iterator[None]:
        """The one adapter that the rows ask for active, or none; what PEFT warns of shows in its answer."""
        with ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            stack.enter_context(peft_model.guarded(self.model))
            if asked := [name for name in names if name is not None]:
                self.model.set_adapter(asked[0])
            else:
                stack.enter_context(self.model.disable_adapter())
            yield


class PeftWithOffsets(PeftEngine):
    """PEFT with `alora_offsets` given at each call: how it is right in everything that the vectors test."""

    deviations: Sequence[Deviation] = ()

    def log_probs(self, case: Case) -> list[LogProbs]:
        """Runs the vector by the rule's plans."""
        return run(case, by_rule(case), functools.partial(self._call, case), device=self._device)

    def _call(self, case: Case, ids: "Tensor", acting: Wide, **rest: Any) -> "Tensor":
        # an earlier request may ask for another adapter than the vector's row, and says so by what acts
        asked = [None if case.history else row.adapter for row in case.rows]
        names = [next((name for name in row if name), own) for row, own in zip(acting, asked, strict=True)]
        return self._forward(case, ids, names, {"alora_offsets": [_offset(row) for row in acting]}, **rest)


def _offset(acting: Sequence[str | None]) -> int:
    """Tokens from the call's end that PEFT shall adapt; padding behind them is adapted and never read."""
    first = next((at for at, name in enumerate(acting) if name), len(acting))
    return len(acting) - first
