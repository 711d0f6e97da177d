"""Check ZI004: the invocation's ids in every rendered prompt, once, and where they belong."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence

from zoo.report import Finding, Severity
from zoo.specs.release import Position
from zoo.validators.chat import Kind
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.checks.invocation import invocation_place
from zoo.validators.rendering import Tokenised

LISTED = 3
EDGES = "begin and end the invocation with special tokens, or with a line break the tokenizer keeps apart"


def _in_prompts(context: Context) -> Iterator[Finding | Measurement]:
    prompts = context.rendering.prompts
    lost = [prompt for prompt in prompts if not prompt.found]
    misplaced = [prompt for prompt in prompts if prompt.found and not in_place(context, prompt)]
    where, count = invocation_place(context), len(prompts)
    if lost:
        reasons = " and ".join(dict.fromkeys(_why_lost(context, prompt) for prompt in lost[:LISTED]))
        yield Finding(
            message=f"the invocation {context.invocation.text!r} is missing from {len(lost)} of {count} "
            f"tokenised prompts, where the adapter can never act: {reasons} ({listed(lost)})",
            location=where,
            fix=EDGES,
        )
    if misplaced:
        yield Finding(
            message=f"the invocation's last occurrence is not at {context.invocation.position.value} in "
            f"{len(misplaced)} of {count} prompts ({listed(misplaced)})",
            location=where,
            fix="state the position at which it was trained in zoo.yaml, and check the template",
        )
    yield from _repeated(context, prompts)
    once = sum(len(prompt.found) == 1 for prompt in prompts)
    yield Measurement(name="prompts", value=count)
    yield Measurement(name="prompts_with_invocation_in_place", value=count - len(lost) - len(misplaced))
    yield Measurement(name="prompts_with_invocation_once", value=once)


def _repeated(context: Context, prompts: Sequence[Tokenised]) -> Iterator[Finding]:
    """Earlier occurrences: those of the template are the same in all prompts of one shape, others are not."""
    several = [prompt for prompt in prompts if len(prompt.found) > 1]
    if not several:
        return
    usual = _usual_counts(prompts)
    written = [
        prompt
        for prompt in several
        if len(prompt.found) > usual[_shape(prompt)] or _writes_it_earlier(context, prompt)
    ]
    if len(written) < len(several):
        yield Finding(
            message=f"the template itself writes the invocation more than once in "
            f"{len(several) - len(written)} of {len(prompts)} prompts; the last one counts, so earlier turns "
            "are the base model's",
            severity=Severity.INFO,
            location=invocation_place(context),
            fix="nothing to do, unless the adapter shall answer in earlier turns too",
        )
    if written:
        yield Finding(
            message=f"the text of {len(written)} of {len(prompts)} prompts writes the invocation a second "
            f"time ({listed(written)}); the last one counts",
            severity=Severity.INFO if _only_in_messages(context) else Severity.WARNING,
            location=invocation_place(context),
            fix="choose an invocation that these texts do not contain",
        )


def _shape(prompt: Tokenised) -> tuple[str, ...]:
    """What the template sees besides the words."""
    chat = prompt.chat
    return (*(message["role"] for message in chat.messages), str(len(chat.tools)), str(len(chat.documents)))


def _usual_counts(prompts: Iterable[Tokenised]) -> dict[tuple[str, ...], int]:
    """The smallest number of occurrences in prompts of each shape."""
    counts: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for prompt in prompts:
        counts[_shape(prompt)].append(len(prompt.found))
    return {shape: min(found) for shape, found in counts.items()}


def _writes_it_earlier(context: Context, prompt: Tokenised) -> bool:
    times = sum(content.count(context.invocation.text) for content in prompt.chat.contents)
    return times > int(_only_in_messages(context))


def _only_in_messages(context: Context) -> bool:
    return context.invocation.position is Position.IN_MESSAGE


def in_place(context: Context, prompt: Tokenised) -> bool:
    """Whether the last occurrence is at the prompt's end, or in its message where the text was meant."""
    invocation, start = context.invocation, prompt.found[-1]
    if invocation.position is not Position.IN_MESSAGE:
        return start + len(invocation.ids) == len(prompt.ids)
    offsets = context.prompter.tokenizer.encode(prompt.text, add_special_tokens=False).offsets
    written = _written(prompt, invocation.text)
    return written >= 0 and offsets[start][0] in (
        written,
        written - 1,
    )  # some tokenizers count the space before


def _written(prompt: Tokenised, text: str) -> int:
    """The character at which the intended invocation begins; words behind it may repeat it."""
    tail = prompt.chat.tail.rstrip()  # templates strip contents
    end = prompt.text.rfind(text + tail) if tail else -1
    return end if end >= 0 else prompt.text.rfind(text)


def _why_lost(context: Context, prompt: Tokenised) -> str:
    text = context.invocation.text
    begin = prompt.text.rfind(text)
    if begin < 0:
        return "its text is not there"
    end = begin + len(text)
    encoded = context.prompter.tokenizer.encode(prompt.text, add_special_tokens=False)
    for token, (first, last) in zip(encoded.ids, encoded.offsets, strict=True):
        if first < begin < last or first < end < last:
            whole = prompt.text[first:last]
            return f"its tokens merge with their neighbours: {whole!r} is one token, id {token}"
    return "its tokens merge with their neighbours"


def listed(prompts: Sequence[Tokenised]) -> str:
    """The first few prompts by name, the release's own first; kinds of the rest are counted."""
    own_first = sorted(prompts, key=lambda prompt: prompt.chat.kind is not Kind.OWN)
    shown = ", ".join(prompt.chat.label for prompt in own_first[:LISTED])
    if len(prompts) <= LISTED:
        return shown
    kinds = Counter(prompt.chat.kind.value for prompt in own_first[LISTED:])
    return f"{shown}, and more: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items())


PLACEMENT_CHECKS = (
    Check(code="ZI004", title="The invocation survives tokenisation where it belongs", run=_in_prompts,
          requires=("ZI003", "ZT001"), needs=frozenset({Need.BASE})),
)  # fmt: skip
