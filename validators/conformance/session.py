"""One adapter under test: its models and what was measured on them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.adapter import AdapterRepo
from zoo.errors import UndecidedError
from zoo.progress import Progress, silent
from zoo.prompts import Prompt
from zoo.validators.conformance.control import Control, run_control
from zoo.validators.conformance.evidence import PromptEvidence, measure
from zoo.validators.conformance.reference import Reference
from zoo.validators.conformance.rig import Rig

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import DynamicCache, PreTrainedModel

    from zoo.validators.check import Context

# The base prefills each prompt once, whatever the number of adapters, and each adapter runs its suffix: that
# bounds the length of prompts only loosely. Whole runs cost every adapter every token.
MAX_TOKENS = 8192  # of one prompt
WHOLE_TOKENS = 256  # of all prompts that are also run whole
WHOLE_PROMPTS = 2
STAGE = "conformance"


@dataclass(kw_only=True)
class Session:
    """One adapter's models and measurements; each is made when first asked for.

    Attributes:
        repo: the adapter.
        invocation: its token ids.
        prompts: what to measure on, the release's own samples first.
        rig: the base, shared with the sessions of other adapters.
        pad_id: fills short rows of a batch.
        end_ids: ids that end an answer.
        progress: told about each prompt.
        alone: PEFT's log-probabilities from the start on in one call over a whole prompt, `[suffix,
            vocabulary]`, by the prompt's ids; filled while `evidence` is measured.
    """

    repo: AdapterRepo
    invocation: tuple[int, ...]
    prompts: tuple[Prompt, ...]
    rig: Rig
    pad_id: int = 0
    end_ids: tuple[int, ...] = ()
    progress: Progress = field(default=silent)
    alone: "dict[tuple[int, ...], Tensor]" = field(default_factory=dict)

    @classmethod
    def open(cls, context: "Context") -> "Session":
        """Picks the prompts and takes the base from the context's rigs, loading it if need be.

        Raises:
            BaseMissingError: the base cannot be loaded.
            RefusedError: ZI004, a prompt lacks the invocation.
            UndecidedError: no prompt is short enough to run.
        """
        prompts = choose(context.prompts, most=context.prompts_at_most)
        return cls(
            repo=context.repo,
            invocation=context.invocation.ids,
            prompts=prompts,
            rig=context.bases.rigs.of(
                context.known_base,
                dtype=context.dtype,
                device=context.device,
                attention=context.attention,
                progress=context.progress,
            ),
            pad_id=context.prompter.pad_id or 0,
            end_ids=context.prompter.end_ids,
            progress=context.progress,
        )

    def close(self) -> None:
        """Drops the adapter's models; the base stays in the rig."""
        for name in ("peft", "reference", "evidence", "control"):
            self.__dict__.pop(name, None)
        self.alone.clear()
        self.rig.detach()

    @property
    def model(self) -> "PreTrainedModel":
        """The pristine base, which no engine ever touches."""
        return self.rig.model

    @cached_property
    def peft(self) -> "PeftModel":
        """The adapter on a base of its own, loaded by PEFT.

        Raises:
            RefusedError: ZP001, PEFT cannot load it.
        """
        return self.rig.attach(self.repo)

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
    def kind(self) -> object:
        """What decides the way an adapter takes through an engine: all but the numbers in its factors."""
        config = self.repo.config.model_dump(mode="json", exclude={"base_model_name_or_path", "revision"})
        shapes = {path: (one.a.shape, one.b.shape) for path, one in sorted(self.reference.updates.items())}
        return repr((self.invocation, sorted(config.items()), shapes, self.pad_id, self.end_ids))

    @property
    def layers(self) -> int:
        """Number of layers that keep keys and values."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @cached_property
    def short_prompts(self) -> list[Prompt]:
        """The prompts, shortest first: for measurements that need few tokens."""
        return sorted(self.prompts, key=lambda prompt: len(prompt.ids))

    @cached_property
    def whole_prompts(self) -> tuple[Prompt, ...]:
        """The prompts that every adapter runs whole: the shortest ones, within a budget; at least one."""
        chosen: list[Prompt] = []
        for prompt in self.short_prompts:
            tokens = sum(len(one.ids) for one in (*chosen, prompt))
            if chosen and (tokens > WHOLE_TOKENS or len(chosen) == WHOLE_PROMPTS):
                break
            chosen.append(prompt)
        return tuple(chosen)

    @property
    def control_prompt(self) -> Prompt | None:
        """The shortest prompt with a prefix: what is tried on one prompt only is tried on it."""
        return next((prompt for prompt in self.short_prompts if prompt.start), None)

    @cached_property
    def control(self) -> Control:
        """The control.

        Raises:
            UndecidedError: no prompt has a prefix.
        """
        if self.control_prompt is None:
            raise UndecidedError(
                "every prompt begins with the invocation: there is no prefix to compare",
                hint="add a sample to zoo.yaml that has text before the invocation",
            )
        return run_control(self, self.control_prompt)

    def compares(self, prompt: Prompt) -> bool:
        """Whether a hand-over is also held against the reference: of whole prompts and the longest."""
        return prompt in self.whole_prompts or prompt == self.short_prompts[-1]

    def wrapped_modules(self) -> set[str]:
        """Paths of the modules that PEFT wrapped, as the base names them."""
        from peft.tuners.lora.layer import LoraLayer

        inner = self.peft.get_base_model()
        return {path for path, module in inner.named_modules() if isinstance(module, LoraLayer)}

    def tensor(self, rows: Sequence[Sequence[int]]) -> "Tensor":
        """Token ids as int64 `[batch, tokens]` on the model's device."""
        return self.rig.tensor(rows)

    def active_step(self, ids: "Tensor", cache: "DynamicCache") -> "Tensor":
        """One call of PEFT's model with every token of the call adapted."""
        return peft_model.forward(self.peft, ids, offsets=[ids.shape[1]] * ids.shape[0], cache=cache)


def choose(prompts: Sequence[Prompt], *, most: int) -> tuple[Prompt, ...]:
    """The first prompts that are short enough, without repetitions, and the shortest of the rest.

    Args:
        prompts: the release's own first.
        most: how many; at least 1.

    Raises:
        UndecidedError: none is short enough.
    """
    unique = list({prompt.ids: prompt for prompt in prompts if len(prompt.ids) <= MAX_TOKENS}.values())
    if not unique:
        raise UndecidedError(
            f"none of the {len(prompts)} prompts has at most {MAX_TOKENS} tokens",
            hint="add a short sample to zoo.yaml",
        )
    rest = sorted(unique[most - 1 :], key=lambda prompt: len(prompt.ids))
    return (*unique[: most - 1], *rest[:1])
