"""Training data: JSONL of chat messages and the expected answer, as samples and as token ids."""

import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import NotFoundError, RefusedError, SpecError
from zoo.prompts import Invocation, Prompt, Prompter
from zoo.provenance import sha256_bytes
from zoo.training.contract import RENDER_BATCH

if TYPE_CHECKING:
    from zoo.training.contract import Contract

MAX_FILE_BYTES = 4_000_000_000
MAX_LINE_BYTES = 4_000_000
ROLES = ("system", "developer", "user", "assistant", "tool", "document")
KEYS = {"messages", "answer", "group", "adapter", "documents", "arguments"}
Truncation = Literal["error", "left"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One line of a data file.

    Attributes:
        line: 1-based line number, for messages to people.
        messages: chat messages, each with `role` and `content`.
        answer: what the model shall say after the invocation: text, or under a contract the reply's JSON.
        group: samples of one group never straddle training and held-out data; a digest of the messages when
            not given, so that the same prompt never stands on both sides.
        adapter: whose answer it is, where several are trained on one file; else empty.
        documents: of the request, where a contract puts them in place.
        arguments: values of the contract's instruction.
    """

    line: int
    messages: tuple[dict[str, str], ...]
    answer: Any
    group: str
    adapter: str = ""
    documents: tuple[Mapping[str, Any], ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A data file's samples, its name and its digest."""

    name: str
    samples: tuple[Sample, ...]
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """One sample as token ids.

    Attributes:
        line: of the data file.
        prefix: everything before the invocation; its KV is the base model's.
        lead: the invocation and what stands between it and the answer.
        answer: the answer and the end-of-sequence token: the only ids that carry loss.
        group: of the sample; samples of one group are not independent, and intervals say so.
    """

    line: int
    prefix: tuple[int, ...]
    lead: tuple[int, ...]
    answer: tuple[int, ...]
    group: str = ""

    @property
    def tokens(self) -> int:
        """Tokens in all."""
        return len(self.prefix) + len(self.lead) + len(self.answer)


def read_dataset(path: Path, *, values: bool = False) -> Dataset:
    """Reads a JSONL file whole.

    Each line is an object with `messages` (a list of `role` and `content`), `answer` (a string), and
    optionally `group` and `adapter` (strings), `documents` (a list of objects) and `arguments` (an object).
    Empty lines are passed over.

    Args:
        path: the file.
        values: answers may be any JSON, not strings alone.

    Raises:
        NotFoundError: no such file.
        SpecError: ZD001, naming the line that breaks the form; or no samples at all.
    """
    if not path.is_file():
        raise NotFoundError(f"{path} does not exist", hint="give a JSONL file of messages and answers")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise SpecError(f"{path} is larger than {MAX_FILE_BYTES:,} bytes", code="ZD001")
    content = path.read_bytes()
    samples = tuple(
        _sample(line, number, path.name, values)
        for number, line in enumerate(content.split(b"\n"), start=1)
        if line.strip()
    )
    if not samples:
        raise SpecError(f"{path.name} holds no samples", code="ZD001")
    return Dataset(name=path.name, samples=samples, sha256=sha256_bytes(content))


def split(
    samples: Sequence[Sample], *, held_out: float, seed: int, groups: Collection[str] = ()
) -> tuple[list[Sample], list[Sample]]:
    """Splits samples by group into a training and a held-out part.

    Args:
        samples: in file order; both parts keep it.
        held_out: share of the groups that is held out, at least one group when above 0.
        seed: of the draw.
        groups: that are drawn from; those of the samples when left out.

    Returns:
        (training, held out).

    Raises:
        SpecError: ZD002, a part would be empty.
    """
    pool = sorted(groups or {sample.group for sample in samples})
    count = max(1, round(held_out * len(pool))) if held_out > 0 else 0
    chosen = set(random.Random(seed).sample(pool, min(count, len(pool))))
    inside = [sample for sample in samples if sample.group not in chosen]
    outside = [sample for sample in samples if sample.group in chosen]
    if not inside:
        raise SpecError(
            f"holding out {held_out:.0%} of {len(pool)} groups leaves nothing to train on",
            hint="give more samples, or held-out data of its own with --eval-data",
            code="ZD002",
        )
    return inside, outside


def encode(
    samples: Sequence[Sample],
    prompter: Prompter,
    invocation: Invocation,
    *,
    name: str,
    max_tokens: int,
    truncate: Truncation = "error",
    contract: "Contract | None" = None,
) -> list[Encoded]:
    """Renders and tokenises samples.

    The answer is tokenised apart from the prompt, as it is at inference: the prompt's ids are given, the
    answer's are generated.

    Args:
        samples: what to encode.
        prompter: of the base model.
        invocation: must occur in every prompt.
        name: the file's name, for messages.
        max_tokens: longest sample in tokens.
        truncate: `error` refuses a longer sample; `left` cuts its context, never invocation or answer.
        contract: the adapter's; None renders a sample's messages and takes its answer as they are.

    Raises:
        SpecError: ZD001, a sample has documents or arguments, and there is no contract to put them in place;
            see also `Contract.prompts` and `Contract.answers`.
        RefusedError: ZI004 (invocation missing) or ZD003 (too long), naming file and line.
    """
    if contract:
        prompts = contract.prompts(samples, prompter, invocation, name=name)
        answers = contract.answers(samples, prompter, name=name)
    else:
        prompts = _prompts(samples, prompter, invocation, name)
        answers = [sample.answer for sample in samples]
    encoded = []
    for sample, prompt, answer in zip(samples, prompts, answers, strict=True):
        ids = prompter.encode(answer) + prompter.end_ids
        label = f"{name}, line {sample.line}"
        encoded.append(_fit(prompt, ids, sample, label, max_tokens, truncate))
    return encoded


def _prompts(
    samples: Sequence[Sample], prompter: Prompter, invocation: Invocation, name: str
) -> list[Prompt]:
    """Prompts of samples that are rendered as they are."""
    from zoo.specs.release import InvocationSpec

    for sample in samples:
        if sample.documents or sample.arguments:
            raise _broken(
                name, sample.line, "has documents or arguments, and no io.yaml (--io) puts them in place"
            )
    spec = InvocationSpec(text=invocation.text, position=invocation.position)
    messages = [sample.messages for sample in samples]
    texts = [
        text
        for begin in range(0, len(messages), RENDER_BATCH)
        for text in prompter.texts(messages[begin : begin + RENDER_BATCH], spec)
    ]
    return [
        prompter.locate(text, invocation, label=f"{name}, line {sample.line}")
        for sample, text in zip(samples, texts, strict=True)
    ]


def _fit(
    prompt: Prompt, answer: tuple[int, ...], sample: Sample, label: str, max_tokens: int, truncate: Truncation
) -> Encoded:
    excess = len(prompt.ids) + len(answer) - max_tokens
    prefix = prompt.prefix
    if excess > 0 and truncate == "error":
        raise RefusedError(
            f"{label}: {len(prompt.ids) + len(answer):,} tokens are more than --max-tokens {max_tokens:,}",
            hint="raise --max-tokens, or cut contexts from the left with --truncate left",
            code="ZD003",
        )
    if excess > len(prefix):
        raise RefusedError(
            f"{label}: truncation to {max_tokens:,} tokens would cut the invocation or the answer",
            hint="raise --max-tokens",
            code="ZD003",
        )
    return Encoded(
        line=sample.line,
        prefix=prefix[max(0, excess) :],
        lead=prompt.suffix,
        answer=answer,
        group=sample.group,
    )


def _sample(raw: bytes, line: int, name: str, values: bool) -> Sample:
    if len(raw) > MAX_LINE_BYTES:
        raise _broken(name, line, f"is longer than {MAX_LINE_BYTES:,} bytes")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _broken(name, line, f"is not JSON ({str(error)[:60]})") from None
    match document:
        case {"messages": [_, *_] as messages, "answer": answer} if _says(answer, values):
            if unknown := sorted(document.keys() - KEYS):  # a misspelt `group` would leak unseen
                raise _broken(name, line, f"has an unknown key {unknown[0]!r}")
            documents, arguments = document.get("documents", []), document.get("arguments", {})
            asked = json.dumps([messages, documents] if documents else messages, sort_keys=True)
            group = document.get("group", sha256_bytes(asked.encode()))
            adapter = document.get("adapter", "")
            for key, value in (("group", group), ("adapter", adapter)):
                if not isinstance(value, str):
                    raise _broken(name, line, f"has a `{key}` that is not a string")
            if not isinstance(documents, list) or not all(isinstance(one, dict) for one in documents):
                raise _broken(name, line, "has `documents` that are not a list of objects")
            if not isinstance(arguments, dict):
                raise _broken(name, line, "has `arguments` that are not an object")
            return Sample(
                line=line,
                messages=tuple(_message(message, name, line) for message in messages),
                answer=answer,
                group=group,
                adapter=adapter,
                documents=tuple(documents),
                arguments=arguments,
            )
    wanted = "JSON" if values else "a string that is not empty"
    more = "; an answer that is other JSON wants the io.yaml it belongs to, with --io" if not values else ""
    raise _broken(name, line, f"wants `messages` (a list) and `answer` ({wanted}){more}")


def _says(answer: object, values: bool) -> bool:
    return bool(answer.strip()) if isinstance(answer, str) else values


def _message(message: object, name: str, line: int) -> dict[str, str]:
    match message:
        case {"role": str(role), "content": str(content)} if role in ROLES:
            return {"role": role, "content": content}
    raise _broken(name, line, "has a message without a known `role` and `content` as a string")


def _broken(name: str, line: int, what: str) -> SpecError:
    return SpecError(
        f"{name}, line {line} {what}",
        code="ZD001",
        hint='a line looks like {"messages": [{"role": "user", "content": "…"}], "answer": "yes"}',
    )
