"""Check ZT003: whether the tokenizers of other environments give the same ids."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from zoo.activation import occurrences
from zoo.errors import UndecidedError
from zoo.report import Finding, Severity
from zoo.validators.chat import Kind
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.checks.invocation import invocation_place
from zoo.validators.rendering import Tokenised

if TYPE_CHECKING:
    from zoo.validators.tokenizer_env import Tokenisation

_FIX = "pin the version with which the adapter was checked, or make the adapter again with this one"


def _same_elsewhere(context: Context) -> Iterator[Finding | Measurement]:
    from zoo.validators.tokenizer_env import tokenise_in

    prompts = context.rendering.prompts
    texts = [context.invocation.text, *(prompt.text for prompt in prompts)]
    found: list[Finding] = []
    undecided: list[UndecidedError] = []
    for index, interpreter in enumerate(context.tokenizer_envs, start=1):
        try:
            answers = tokenise_in(interpreter, context.known_base.folder, texts)
        except UndecidedError as error:
            undecided.append(error)
            continue
        for answer in answers:
            name = answer.library.split()[0]
            yield Measurement(name=f"environment_{index}_{name}", value=answer.library)
            if answer.error:
                problem = f"{answer.library} of {interpreter} fails: {answer.error}"
                undecided.append(UndecidedError(problem, hint="repair that environment, or leave it out"))
            else:
                found += _differences(context, answer, prompts)
    if undecided and not found:
        raise UndecidedError("; ".join(error.message for error in undecided), hint=undecided[0].hint)
    yield from found
    for missed in undecided:
        yield Finding(message=f"not compared: {missed.message}", severity=Severity.WARNING, fix=missed.hint)
    yield Measurement(name="prompts_compared", value=len(prompts))


def _differences(context: Context, answer: "Tokenisation", prompts: Sequence[Tokenised]) -> Iterator[Finding]:
    """At most two findings: that the adapter is off or elsewhere there, and that prompts have other ids."""
    ours, theirs = context.prompter.encode(context.invocation.text), tuple(answer.ids[0])
    different = [(p, tuple(i)) for p, i in zip(prompts, answer.ids[1:], strict=True) if p.ids != tuple(i)]
    lost = [(p, i) for p, i in different if _last(i, context.invocation.ids) != _from_end(p)]
    if theirs != ours:
        yield _finding(
            context,
            f"{answer.library} tokenises the invocation {context.invocation.text!r} as {list(theirs)}, not "
            f"as {list(ours)}: the adapter is silently off there",
        )
    elif lost:
        prompt, ids = lost[0]
        yield _finding(
            context,
            f"with {answer.library} the invocation is missing or elsewhere in {len(lost)} of {len(prompts)} "
            f"prompts, {_first(prompt, ids)}",
        )
    elif different:
        prompt, ids = different[0]
        own = any(p.chat.kind is Kind.OWN for p, _ in different)
        yield _finding(
            context,
            f"{answer.library} gives other ids for {len(different)} of {len(prompts)} prompts, "
            f"{_first(prompt, ids)}",
            Severity.ERROR if own else Severity.WARNING,
        )


def _last(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    """Tokens from the last occurrence to the end; None when there is none."""
    found = occurrences(ids, invocation)
    return len(ids) - found[-1] if found else None


def _from_end(prompt: Tokenised) -> int | None:
    return len(prompt.ids) - prompt.found[-1] if prompt.found else None


def _first(prompt: Tokenised, ids: Sequence[int]) -> str:
    """Where two tokenisations part, with three ids of each from there on."""
    pairs = enumerate(zip(prompt.ids, ids, strict=False))
    at = next((i for i, (mine, other) in pairs if mine != other), min(len(prompt.ids), len(ids)))
    return (
        f"first in {prompt.chat.label} at token {at}: {list(ids[at : at + 3])} instead of "
        f"{list(prompt.ids[at : at + 3])}"
    )


def _finding(context: Context, message: str, severity: Severity = Severity.ERROR) -> Finding:
    return Finding(message=message, severity=severity, location=invocation_place(context), fix=_FIX)


def _not_asked(context: Context) -> str:
    return "" if context.tokenizer_envs else "no other environment was named (--tokenizer-env)"


DRIFT_CHECKS = (
    Check(code="ZT003", title="Other environments' tokenizers give the same ids", run=_same_elsewhere,
          requires=("ZI003", "ZT001"), needs=frozenset({Need.BASE}), unless=_not_asked),
)  # fmt: skip
