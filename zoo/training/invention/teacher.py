"""What the LoRA answers to written requests: decoded together, under the contract's schema if it has one."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.errors import ContractError, RefusedError, SpecError
from zoo.inference.constraint import Constraint
from zoo.progress import Progress, silent
from zoo.prompts import Invocation, Prompt, Prompter
from zoo.training.contract import Contract
from zoo.training.dataset import Sample
from zoo.training.invention.sampler import Drawing, decode

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from zoo.inference.grammar import Grammars

T = TypeVar("T")
TOKENS = 1 << 16  # of one batch, all rows as long as its longest


class Reply:
    """An answer while it is decoded; a `zoo.training.invention.sampler.Row`.

    Attributes:
        answer: its ids so far, without the one that ends it.
        ended: whether it is complete, or too long.
        cut: whether it was too long.
    """

    def __init__(
        self, ids: Sequence[int], *, ends: Sequence[int], most: int, constraint: Constraint | None
    ) -> None:
        """Stands behind a whole prompt, invocation included."""
        self.ids = ids
        self.answer: list[int] = []
        self.ended = False
        self.cut = False
        self._ends = ends
        self._most = most
        self._constraint = constraint

    def forced(self) -> int | None:
        """Nothing is."""
        return None

    def allowed(self) -> "Tensor | None":
        """What the schema allows."""
        return self._constraint.allowed() if self._constraint else None

    def take(self, token: int) -> int:
        """See `Row`."""
        if token in self._ends:
            self.ended = True
            return 0
        self.answer.append(token)
        if self._constraint:
            self._constraint.advance(token)
            self.ended = self._constraint.finished
        if not self.ended and len(self.answer) == self._most:
            self.ended = self.cut = True
        return 0


@dataclass(frozen=True, kw_only=True)
class Answering:
    """How written requests are answered.

    Attributes:
        model: base and adapter; the adapter on every token is the teacher.
        prompter: of the base.
        invocation: the adapter's.
        contract: its `io.yaml`, or None.
        most: tokens of an answer, unless the contract says it.
        longest: tokens of a prompt and its answer.
        batch: requests answered together.
    """

    model: "PeftModel"
    prompter: Prompter
    invocation: Invocation
    contract: Contract | None
    most: int
    longest: int
    batch: int

    def answers(
        self, samples: Sequence[Sample], drawing: Drawing, progress: Progress = silent
    ) -> list[tuple[Any, str]]:
        """An answer to each sample, and why there is none.

        Args:
            samples: requests; their own answers are not looked at.
            drawing: greedy, or sampled with a seed.
            progress: told of each batch.

        Returns:
            Per sample the answer, as a data file has it, and an empty reason; or None and the reason.
        """
        prompts = each_sound(samples, self._prompts)
        found: list[tuple[Any, str]] = [(None, "refused by the contract or the template")] * len(samples)
        rows = []
        for index, prompt in enumerate(prompts):
            if prompt and len(prompt.ids) + self._most > self.longest:
                found[index] = (None, "long")
            elif prompt:
                rows.append((index, prompt))
        rows.sort(key=lambda item: (len(item[1].ids), item[0]))
        for begin, end in self._batches([len(prompt.ids) for _, prompt in rows]):
            part = rows[begin:end]
            said = self._said([prompt for _, prompt in part], drawing)
            for (index, _), answer in zip(part, said, strict=True):
                found[index] = answer
            progress("teacher's answers", done=end, total=len(rows))
        return self._held(samples, found)

    def _prompts(self, samples: Sequence[Sample]) -> list[Prompt]:
        if self.contract:
            return self.contract.prompts(samples, self.prompter, self.invocation, name="invented requests")
        return self.prompter.prompts([sample.messages for sample in samples], self.invocation)

    def _said(self, prompts: Sequence[Prompt], drawing: Drawing) -> list[tuple[Any, str]]:
        replies = [
            Reply(prompt.ids, ends=self.prompter.end_ids, most=self._most, constraint=self._constraint())
            for prompt in prompts
        ]
        decode(self.model, replies, adapted=True, drawing=drawing, room=self._most)
        return [self._read(reply) for reply in replies]

    def _read(self, reply: Reply) -> tuple[Any, str]:
        text: str = self.prompter.tokenizer.decode(reply.answer, skip_special_tokens=True)
        if reply.cut:
            return None, "answer without end"
        if not text.strip():
            return None, "no answer"
        if not self.contract:
            return text, ""
        try:
            return json.loads(text), ""
        except (ValueError, RecursionError):
            return None, "answer breaks the contract"

    def _held(self, samples: Sequence[Sample], found: Sequence[tuple[Any, str]]) -> list[tuple[Any, str]]:
        """Answers that the contract allows to be trained on."""
        contract = self.contract
        if contract is None:
            return list(found)
        answered = [
            Sample(
                line=sample.line, messages=sample.messages, answer=answer, group=sample.group,
                documents=sample.documents, arguments=sample.arguments,
            )
            for sample, (answer, reason) in zip(samples, found, strict=True)
            if not reason
        ]  # fmt: skip
        sound = iter(
            each_sound(answered, lambda some: contract.answers(some, self.prompter, name="invented requests"))
        )
        return [
            one if one[1] or next(sound) is not None else (None, "answer breaks the contract")
            for one in found
        ]

    def _batches(self, lengths: Sequence[int]) -> list[tuple[int, int]]:
        """Runs of rows, shortest first, none of more than a number of tokens."""
        found, begin = [], 0
        for end, length in enumerate(lengths):
            if end > begin and (
                end - begin == self.batch or (end - begin + 1) * (length + self._most) > TOKENS
            ):
                found.append((begin, end))
                begin = end
        return [*found, (begin, len(lengths))] if lengths else []

    @cached_property
    def _most(self) -> int:
        said = (self.contract.spec.parameters or {}) if self.contract else {}
        stated = said.get("max_completion_tokens", said.get("max_tokens"))
        return stated if isinstance(stated, int) and 0 < stated < self.most else self.most

    @cached_property
    def _grammars(self) -> "Grammars":
        from zoo.inference.grammar import Grammars

        vocabulary = self.prompter.base.vocabulary
        return Grammars(self.prompter.tokenizer, vocabulary=vocabulary, end_ids=self.prompter.end_ids)

    def _constraint(self) -> Constraint | None:
        schema = self.contract.spec.reply_schema if self.contract else None
        return self._grammars.constraint(schema) if schema is not None else None


def each_sound(samples: Sequence[Sample], work: Callable[[Sequence[Sample]], Sequence[T]]) -> list[T | None]:
    """What a function gives for each sample, None for those that it refuses.

    It is asked for many at once, and where it refuses them for the halves: few are refused.
    """
    if not samples:
        return []
    try:
        return list(work(samples))
    except (ContractError, RefusedError, SpecError):
        if len(samples) == 1:
            return [None]
    middle = len(samples) // 2
    return each_sound(samples[:middle], work) + each_sound(samples[middle:], work)
