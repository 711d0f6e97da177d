"""An adapter's `io.yaml` as training uses it: prompts and replies are those of inference."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.adapter import IO_NAME
from zoo.errors import ContractError, SpecError
from zoo.io import conversation, process
from zoo.io.prompt import Asked, identified, place, rewritten
from zoo.prompts import Invocation, Prompt, Prompter
from zoo.provenance import sha256_bytes
from zoo.specs.document import read_bounded
from zoo.specs.io import IOSpec
from zoo.specs.io_file import parse_io
from zoo.specs.yaml_tree import MAX_BYTES

if TYPE_CHECKING:
    from zoo.inference.grammar import Grammars
    from zoo.training.dataset import Sample
    from zoo.training.metric import Read

RENDER_BATCH = 256  # one sandbox process renders so many prompts, far below its limit on output
NO_JSON = "ZO120"


@dataclass(frozen=True, kw_only=True)
class Contract:
    """An `io.yaml`.

    Attributes:
        spec: what it says.
        content: the file's bytes, which the release takes over.
    """

    spec: IOSpec
    content: bytes

    @classmethod
    def read(cls, path: Path) -> "Contract":
        """Reads an `io.yaml`.

        Raises:
            NotFoundError: there is no such file.
            SpecError: ZO001 to ZO011, it breaks its specification.
        """
        return cls.parse(read_bounded(path, MAX_BYTES), name=path.name)

    @classmethod
    def parse(cls, content: bytes, *, name: str = IO_NAME) -> "Contract":
        """Reads the bytes of an `io.yaml`.

        Raises:
            SpecError: ZO001 to ZO011, they break its specification.
        """
        return cls(spec=parse_io(content, name=name).spec, content=content)

    @cached_property
    def sha256(self) -> str:
        """The file's digest."""
        return sha256_bytes(self.content)

    def prompts(
        self, samples: "Sequence[Sample]", prompter: Prompter, invocation: Invocation, *, name: str
    ) -> list[Prompt]:
        """The prompts that the adapter will read when it is asked what the samples ask.

        Args:
            samples: of a data file.
            prompter: of the base.
            invocation: the adapter's.
            name: the file's, for messages.

        Raises:
            SpecError: the contract's own code (ZO100 to ZO109, ZO152, ZO158), naming the line or the file.
            RefusedError: ZT001 or ZI004, the prompt cannot be rendered with the invocation in its place.
        """
        found: list[Prompt] = []
        for begin in range(0, len(samples), RENDER_BATCH):
            some = samples[begin : begin + RENDER_BATCH]
            asked = [self._asked(one, prompter, invocation, name) for one in some]
            try:
                found += place(asked, prompter, invocation)
            except ContractError as error:
                raise _refused(name, error) from None
        return found

    def answers(self, samples: "Sequence[Sample]", prompter: Prompter, *, name: str) -> list[str]:
        """What the adapter shall say to the samples, as text.

        An answer is the reply's JSON, spelt as constrained decoding spells it; a string that is that JSON's
        text already stays as it is.

        Args:
            samples: of a data file.
            prompter: of the base.
            name: the file's, for messages.

        Raises:
            SpecError: ZD001, an answer could be JSON and a JSON's text; ZD020, decoding under the schema
                would never say it; or the code with which the contract refuses it (ZO120 to ZO133).
            ContractError: ZO160, the reply's schema cannot be decoded to.
        """
        grammars = self._grammars(prompter)
        return [self._answer(one, prompter, grammars, f"{name}, line {one.line}") for one in samples]

    def reader(self, samples: "Sequence[Sample]") -> "Read":
        """Judges replies to samples by their line in the data file; see `zoo.training.metric`."""
        asked = {one.line: one for one in samples}

        def read(text: str, line: int) -> Any:
            return self._result(text, asked[line])

        return read

    def _asked(self, sample: "Sample", prompter: Prompter, invocation: Invocation, name: str) -> Asked:
        label = f"{name}, line {sample.line}"
        try:
            sent = rewritten(self.spec, _request(sample), sample.arguments, prompter, invocation)
            messages, documents = conversation(sent)
        except ContractError as error:
            raise _refused(label, error) from None
        # sentence numbers that are there already the rewriter refuses by itself
        if self.spec.instruction is not None and sample.messages[-1]["content"] == messages[-1]["content"]:
            raise SpecError(
                f"{label} has been through {IO_NAME} already: its last message is the instruction",
                code="ZD001",
                hint="give the requests as a caller makes them, not what zoo init --render made of them",
            )
        return Asked(messages=messages, documents=documents, tools=sent.get("tools"), label=label)

    def _answer(self, sample: "Sample", prompter: Prompter, grammars: "Grammars | None", label: str) -> str:
        text = self._spelt(sample, label)
        if grammars is not None and self.spec.reply_schema is not None:
            ids = prompter.encode(text) + prompter.end_ids
            if not grammars.constraint(self.spec.reply_schema).takes(ids):
                raise _never_said(text, prompter, grammars, label)
        return text

    def _spelt(self, sample: "Sample", label: str) -> str:
        """The answer's text: of two readings of a string the one that the contract allows."""
        readings = [json.dumps(sample.answer, ensure_ascii=False)]
        if isinstance(sample.answer, str):
            readings.append(sample.answer)
        allowed, refusals = [], []
        for text in readings:
            try:
                self._result(text, sample)
                allowed.append(text)
            except ContractError as error:
                refusals.append(error)
        if not allowed:
            raise _refused(label, refusals[0 if refusals[-1].code == NO_JSON else -1])
        if len(allowed) > 1:
            raise SpecError(
                f"{label}: the answer {sample.answer[:80]!r} could be a reply's JSON, or its text",
                code="ZD001",
                hint=f'write the JSON itself: "answer": {sample.answer[:80]}',
            )
        return allowed[0]

    def _result(self, text: str, sample: "Sample") -> Any:
        return process(self.spec, self._certain(text), _request(sample))

    def _certain(self, text: str) -> str | dict[str, Any]:
        """A reply in which every token is certain, where the contract weighs probabilities."""
        if not any(step.type == "likelihood" for step in self.spec.transformations):
            return text
        tokens = [{"token": character, "logprob": 0.0} for character in text]
        return {"message": {"content": text}, "logprobs": {"content": tokens}}

    def _grammars(self, prompter: Prompter) -> "Grammars | None":
        if self.spec.reply_schema is None:
            return None
        from zoo.inference.grammar import Grammars

        vocabulary = prompter.base.vocabulary
        return Grammars(prompter.tokenizer, vocabulary=vocabulary, end_ids=prompter.end_ids)


def _request(sample: "Sample") -> Mapping[str, Any]:
    request: dict[str, Any] = {"messages": [dict(message) for message in sample.messages]}
    if sample.documents:
        request["extra_body"] = {"documents": [dict(one) for one in sample.documents]}
    return identified(request)


def _never_said(text: str, prompter: Prompter, grammars: "Grammars", label: str) -> SpecError:
    spelt = b"".join(grammars.spelt(token) for token in prompter.encode(text)).decode(errors="replace")
    if spelt != text:
        return SpecError(
            f"{label}: to constrained decoding the tokens of {text[:60]!r} spell {spelt[:60]!r}: "
            f"the tokenizer.json of {prompter.base.id} is not in order",
            code="ZD020",
            hint="get the base anew, or made by another version of transformers; the data may be right",
        )
    return SpecError(
        f"{label}: decoding under the schema of {IO_NAME} would never say {text[:80]!r}",
        code="ZD020",
        hint="write the answer as JSON, with its keys in the order of the schema's properties",
    )


def _refused(label: str, error: ContractError) -> SpecError:
    return SpecError(f"{label}: {error.message}", hint=error.hint, code=error.code)
