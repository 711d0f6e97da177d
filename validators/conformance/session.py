"""The models of the dynamic part, loaded once for a validation."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.adapter import AdapterRepo
from zoo.errors import UndecidedError
from zoo.progress import Progress, silent
from zoo.prompts import Prompt
from zoo.validators.conformance.evidence import PromptEvidence, measure
from zoo.validators.conformance.reference import Reference
from zoo.validators.conformance.stepping import run_base

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import DynamicCache, PreTrainedModel

    from zoo.validators.check import Context

MAX_PROMPTS = 5
# Each token costs about eight forward passes: these bound a run's cost, whatever the samples are.
MAX_TOKENS = 1024  # of one prompt
MAX_TOKENS_IN_ALL = 1536
STAGE = "conformance"


@dataclass(kw_only=True)
class Session:
    """One adapter's models and measurements; each is made when first asked for.

    Attributes:
        repo: the adapter.
        invocation: its token ids.
        prompts: what to measure on, the release's own samples first.
        model: the pristine base, which PEFT never touches.
        pad_id: fills short rows of a batch.
        end_ids: ids that end an answer.
        progress: told about each prompt.
    """

    repo: AdapterRepo
    invocation: tuple[int, ...]
    prompts: tuple[Prompt, ...]
    model: "PreTrainedModel"
    pad_id: int = 0
    end_ids: tuple[int, ...] = ()
    progress: Progress = field(default=silent)

    @classmethod
    def open(cls, context: "Context") -> "Session":
        """Loads the base model and picks the prompts.

        Raises:
            BaseMissingError: the base cannot be loaded.
            RefusedError: ZI004, a prompt lacks the invocation.
            UndecidedError: no prompt is short enough to run.
        """
        from zoo.models import load_model

        prompts = choose(context.prompts)
        context.progress(STAGE, done=0, total=len(prompts), note="loading the base model")
        return cls(
            repo=context.repo,
            invocation=context.invocation.ids,
            prompts=prompts,
            model=in_own_memory(load_model(context.known_base, dtype=context.dtype, device=context.device)),
            pad_id=context.prompter.pad_id or 0,
            end_ids=context.prompter.end_ids,
            progress=context.progress,
        )

    @cached_property
    def peft(self) -> "PeftModel":
        """The adapter on a copy of the base, loaded by PEFT.

        A copy of its own, not the pristine model with the adapter switched off: some initialisations change
        the base weights themselves, which `disable_adapter` does not undo.

        Raises:
            RefusedError: ZP001, PEFT cannot load it.
        """
        return peft_model.attach(copy.deepcopy(self.model), self.repo.root)

    @cached_property
    def reference(self) -> Reference:
        """Our own forward pass over the pristine base.

        Raises:
            RefusedError: ZR001, the adapter's files do not fit the base.
        """
        return Reference.from_folder(self.model, self.repo)

    @cached_property
    def evidence(self) -> list[PromptEvidence]:
        """The measurements on every prompt."""
        found = []
        for index, prompt in enumerate(self.prompts):
            note = f"{len(prompt.ids)} tokens"
            self.progress(STAGE, done=index, total=len(self.prompts), note=note)
            found.append(measure(self, prompt, f"prompt {index}"))
        self.progress(STAGE, done=len(self.prompts), total=len(self.prompts))
        return found

    @property
    def layers(self) -> int:
        """Number of layers that keep keys and values."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @property
    def short_prompts(self) -> list[Prompt]:
        """The prompts, shortest first: for measurements that need few tokens."""
        return sorted(self.prompts, key=lambda prompt: len(prompt.ids))

    def wrapped_modules(self) -> set[str]:
        """Paths of the modules that PEFT wrapped, as the base names them."""
        from peft.tuners.lora.layer import LoraLayer

        inner = self.peft.get_base_model()
        return {path for path, module in inner.named_modules() if isinstance(module, LoraLayer)}

    def tensor(self, rows: Sequence[Sequence[int]]) -> "Tensor":
        """Token ids as int64 `[batch, tokens]` on the model's device."""
        import torch

        return torch.tensor([list(row) for row in rows], dtype=torch.int64, device=self.model.device)

    def base_step(self, ids: "Tensor", cache: "DynamicCache") -> "Tensor":
        """One call of the pristine base."""
        return run_base(self.model, ids, cache)

    def active_step(self, ids: "Tensor", cache: "DynamicCache") -> "Tensor":
        """One call of PEFT's model with every token of the call adapted."""
        return peft_model.forward(self.peft, ids, offsets=[ids.shape[1]] * ids.shape[0], cache=cache)


def in_own_memory(model: "PreTrainedModel") -> "PreTrainedModel":
    """Moves a model's weights, in place, from the mapped file into memory that torch allocated.

    A matrix product with one row gives other last bits for weights at another alignment (MKL, float32; found
    by comparing a model with its own copy): bitwise comparisons need both copies aligned alike.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()
    return model


def choose(prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """The first prompts that are short enough and fit together, without repetitions.

    Raises:
        UndecidedError: none is.
    """
    unique = list({prompt.ids: prompt for prompt in prompts}.values())
    chosen: list[Prompt] = []
    room = MAX_TOKENS_IN_ALL
    for prompt in unique:
        if len(prompt.ids) <= min(MAX_TOKENS, room) and len(chosen) < MAX_PROMPTS:
            chosen.append(prompt)
            room -= len(prompt.ids)
    if not chosen:
        raise UndecidedError(
            f"none of the {len(unique)} prompts has at most {MAX_TOKENS} tokens",
            hint="add a short sample to zoo.yaml",
        )
    return tuple(chosen)
