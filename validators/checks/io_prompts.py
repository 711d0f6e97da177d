"""Checks ZO026, ZO027 and ZO029: an `io.yaml` under the base's tokenizer and chat template."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.activation import occurrences
from zoo.errors import ContractError, RefusedError
from zoo.report import Finding, Location, Severity
from zoo.specs.release import Position
from zoo.template_sandbox import render_each
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.contract import Sample, contract_of, sample_requests, without_io
from zoo.validators.places import in_io, in_release

BUDGETS = ("max_completion_tokens", "max_tokens", "max_new_tokens")
LISTED = 3


def _budget(context: Context) -> Iterator[Finding | Measurement]:
    from zoo.specs.shortest import shortest_reply, whole_replies

    found = contract_of(context)
    schema = found.spec.reply_schema
    budgets = dict(_budgets(found.spec.parameters))
    for path, value in budgets.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            yield Finding(message=f"{path[-1]} is {value!r}, not a number of tokens",
                          location=in_io(found, path), fix="write a positive whole number")  # fmt: skip
    given = {path: value for path, value in budgets.items() if isinstance(value, int) and value > 0}
    shortest = shortest_reply(schema) if schema is not None else None
    if shortest is None or not given:
        return
    needed = len(context.prompter.encode(shortest))
    longest = max(
        (len(context.prompter.encode(text)) for text in whole_replies(schema or {}) or ()), default=0
    )
    yield Measurement(name="tokens_of_the_shortest_reply", value=needed)
    if longest:
        yield Measurement(name="tokens_of_the_longest_reply", value=longest)
    for path, value in given.items():
        if value < needed:
            yield Finding(
                message=f"{path[-1]} is {value}, and the shortest valid reply, {shortest[:60]}, has "
                f"{needed} tokens",
                location=in_io(found, path),
                fix=f"allow at least {max(needed, longest)} and one for the end",
            )
        elif value < longest:
            yield Finding(
                message=f"{path[-1]} is {value}, and the longest of the enumerated replies has {longest} "
                "tokens as Python's json writes it",
                severity=Severity.WARNING,
                location=in_io(found, path),
                fix=f"allow at least {longest} and one for the end",
            )


def _budgets(parameters: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], Any]]:
    body = parameters.get("extra_body")
    for outer, level in ((("parameters",), parameters), (("parameters", "extra_body"), body)):
        if isinstance(level, Mapping):
            yield from (((*outer, name), level[name]) for name in BUDGETS if level.get(name) is not None)


def _told_apart(context: Context) -> Iterator[Finding]:
    from zoo.specs.io import Likelihood

    found = contract_of(context)
    for index, rule in enumerate(found.spec.transformations):
        if not isinstance(rule, Likelihood):
            continue
        first: dict[int, str] = {}
        for category in rule.categories_to_values:
            text = str(category).lower() if isinstance(category, bool) else str(category)
            ids = context.prompter.encode(text)
            other = first.setdefault(ids[0], text) if ids else ""
            if other != text:
                yield Finding(
                    message=f"the categories {other!r} and {text!r} begin with the same token, whose "
                    "probability is all that tells them apart",
                    severity=Severity.WARNING,
                    location=in_io(found, ("transformations", index, "categories_to_values")),
                    fix="name them so that their first tokens differ",
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompt:
    """A rewritten request as a prompt."""

    label: str
    text: str
    ids: tuple[int, ...]
    found: Sequence[int]
    last: str


def _invoked(context: Context) -> Iterator[Finding | Measurement]:
    document, invocation = contract_of(context), context.invocation
    samples = sample_requests(context)
    where = in_io(document, ("instruction",))
    prompts: list[_Prompt] = []
    for prompt in _prompts(context, samples):
        if isinstance(prompt, Finding):
            yield prompt
        else:
            prompts.append(prompt)
    for message, hit in (
        (f"the rewritten prompt does not contain the invocation {invocation.text!r}: the adapter is "
         "silently off", [one for one in prompts if not one.found]),
        (f"the invocation's last occurrence is not at {invocation.position.value} in the rewritten prompt",
         [one for one in prompts if one.found and not _in_place(context, one)]),
        ("what the contract writes has the invocation more than once: only the last one counts",
         [one for one in prompts if len(one.found) > 1 and _writes_twice(context, one)]),
    ):  # fmt: skip
        if hit:
            yield Finding(
                message=f"{message} ({_listed(hit)})",
                location=where,
                fix="let the instruction write exactly the invocation's text once, with what it was trained "
                "with on both sides",
            )
    if not any(sample.own for sample in samples) and document.spec.instruction is not None:
        yield Finding(
            message="zoo.yaml has no sample requests, so stand-ins were rewritten and rendered",
            severity=Severity.INFO,
            location=in_release(context.repo.root, "requests") if context.repo.release else None,
            fix="requests: [{messages: [{role: user, content: …}], documents: [{text: …}], arguments: {…}}]",
        )
    yield Measurement(name="requests", value=len(samples))
    yield Measurement(
        name="requests_with_the_invocation_once", value=sum(len(one.found) == 1 for one in prompts)
    )


def _prompts(context: Context, samples: Sequence[Sample]) -> Iterator[_Prompt | Finding]:
    """The rewritten requests under the chat template; a finding where there is none."""
    from zoo.io import conversation, rewrite

    spec, invocation, prompter = contract_of(context).spec, context.invocation, context.prompter
    after = invocation.position is Position.AFTER_PROMPT
    written, variables = [], []
    for sample in samples:
        try:
            messages, documents = conversation(rewrite(spec, sample.request, **sample.arguments))
        except ContractError as error:
            if sample.own or error.code not in _FOR_SOME_REQUESTS:
                yield Finding(message=f"{sample.label} cannot be rewritten: {error.code}: {error.message}",
                              location=_request_place(context), fix=error.hint)  # fmt: skip
            continue
        written.append((sample, messages[-1]["content"] if messages else ""))
        variables.append(prompter.variables(messages, generation_prompt=not after, documents=documents))
    answers = render_each(prompter.template, variables) if variables else []
    for (sample, last), answer in zip(written, answers, strict=True):
        if isinstance(answer, RefusedError):
            if sample.own:
                yield Finding(
                    message=f"{sample.label} is refused by the chat template: {answer.message}",
                    location=_request_place(context),
                    fix="write a request that the base takes",
                )
            continue
        text = answer + invocation.text if after else answer
        ids = prompter.encode(text)
        yield _Prompt(
            label=sample.label, text=text, ids=ids, found=occurrences(ids, invocation.ids), last=last or ""
        )


# what a stand-in may lack and a caller's request has: a document's id, a last message with text
_FOR_SOME_REQUESTS = ("ZO103", "ZO107")


def _request_place(context: Context) -> Location | None:
    return in_release(context.repo.root, "requests") if context.repo.release else None


def _in_place(context: Context, prompt: _Prompt) -> bool:
    """At the end, or inside what the contract appended."""
    start, invocation = prompt.found[-1], context.invocation
    if invocation.position is not Position.IN_MESSAGE:
        return start + len(invocation.ids) == len(prompt.ids)
    return _character(context, prompt, start) >= _begin(prompt)


def _writes_twice(context: Context, prompt: _Prompt) -> bool:
    begin = _begin(prompt)
    return sum(_character(context, prompt, start) >= begin for start in prompt.found) > 1


def _begin(prompt: _Prompt) -> int:
    """Where the last message begins; some templates strip it, some tokenizers count the space before."""
    stripped = prompt.last.strip()
    begin = prompt.text.rfind(stripped) if stripped else -1
    return begin - 1 if begin >= 0 else 0


def _character(context: Context, prompt: _Prompt, token: int) -> int:
    encoded = context.prompter.tokenizer.encode(prompt.text, add_special_tokens=False)
    return int(encoded.offsets[token][0])


def _listed(prompts: Sequence[_Prompt]) -> str:
    more = len(prompts) - LISTED
    shown = ", ".join(prompt.label for prompt in prompts[:LISTED])
    return shown if more <= 0 else f"{shown} and {more} more"


_BASE = frozenset({Need.BASE})
IO_PROMPT_CHECKS = (
    Check(code="ZO026", title="The token budget holds a reply", run=_budget, requires=("ZO020",), needs=_BASE,
          unless=without_io),
    Check(code="ZO029", title="The categories begin with different tokens", run=_told_apart,
          requires=("ZO020",), needs=_BASE, unless=without_io),
    Check(code="ZO027", title="The contract calls the adapter", run=_invoked,
          requires=("ZO023", "ZO025", "ZI003", "ZT001"), needs=_BASE, unless=without_io),
)  # fmt: skip
