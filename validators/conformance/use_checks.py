"""ZR006, ZK004, ZK005, ZP005: ways of calling an adapter that one prompt and its cache leave out."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zoo.errors import UndecidedError
from zoo.prompts import Prompt
from zoo.report import Finding
from zoo.validators.check import Check, Context, Measurement
from zoo.validators.conformance.difference import worst
from zoo.validators.conformance.kind import once_a_kind
from zoo.validators.conformance.reference_checks import NEEDS
from zoo.validators.conformance.routed import logit_rounding
from zoo.validators.conformance.said import (
    amount,
    deterministic,
    measured,
    not_activated,
    with_prefix,
    wrong,
)
from zoo.validators.conformance.tolerance import chunking_noise

if TYPE_CHECKING:
    from zoo.validators.conformance.session import Session

PREFIX = 48  # tokens
TRIED = 3  # prompts to decode until a token is no tie


@once_a_kind
def occurs(context: Context) -> Iterable[Finding | Measurement]:
    """ZR006: the last full occurrence decides, whatever stands before and behind it."""
    from zoo.validators.conformance.occurrence import occurrences_of

    session = context.session
    noise = chunking_noise(session.evidence, session.model.dtype)
    deterministic(one.whole for one in session.evidence)
    found = occurrences_of(session, brief(session.short_prompts[0]))
    rounding = logit_rounding(session.model, noise)
    for one in found:
        if one.drift and not one.drift.max_abs <= rounding:
            yield wrong(
                f"{one.what}: logits before the last occurrence differ from the base model's, first at "
                f"position {one.drift.position}, by up to {amount(one.drift.max_abs)}",
                one.what,
            )
        if not one.parity.within(noise.parity):
            yield wrong(
                f"{one.what}: PEFT and the reference differ from the last occurrence on by "
                f"{amount(one.parity.max_abs)} nats, more than {noise.parity:.3g}",
                one.what,
            )
    yield measured("max_abs_log_prob_difference", worst(one.parity for one in found).max_abs)
    yield measured("tolerance", noise.parity)
    yield Measurement(name="rows", value=len(found))
    yield Measurement(name="tokens", value=sum(one.tokens for one in found))


@once_a_kind
def switches(context: Context) -> Iterable[Finding | Measurement]:
    """ZK004: on the very same tokens base and adapters compute their own, in whatever order they run."""
    from zoo.validators.conformance.switching import switch

    session = context.session
    noise = chunking_noise(session.evidence, session.model.dtype)
    deterministic(one.whole for one in session.evidence)
    found = switch(session, _with_prefix(session))
    for what, drift in found.exact.items():
        if drift:
            yield wrong(
                f"{what}: the same tokens give other logits than they should, first at position "
                f"{drift.position}, by up to {amount(drift.max_abs)}",
                what,
            )
    if found.left:
        yield wrong(f"a cache that was cut back to the prefix holds {found.left:+d} tokens", "cut back")
    yield measured("second_adapter_max_abs_log_prob_difference", found.other.max_abs)
    yield measured("adapters_apart", found.apart.max_abs)
    if not found.other.within(noise.parity):
        yield wrong(
            f"a second adapter on the same tokens is {amount(found.other.max_abs)} nats from its reference, "
            f"more than {noise.parity:.3g}; the first one is {amount(found.apart.max_abs)} from it",
            "second adapter",
        )
    elif found.apart.within(noise.parity):
        raise UndecidedError(
            "the adapter and its negation cannot be told apart, so neither can a switch between them",
            hint="zoo explain ZR003",
        )


@once_a_kind
def rows(context: Context) -> Iterable[Finding | Measurement]:
    """ZK005: in one batch every row continues the prefix that is its own."""
    from zoo.validators.conformance.rows import own_prefixes

    session = context.session
    noise = chunking_noise(session.evidence, session.model.dtype)
    found = own_prefixes(session, _with_prefix(session))
    yield measured("max_abs_log_prob_difference", worst(found.own).max_abs)
    yield measured("nearest_to_the_other_row", min(one.max_abs for one in found.other))
    for index, (own, other) in enumerate(zip(found.own, found.other, strict=True)):
        if not own.within(noise.parity):
            yield wrong(
                f"row {index} of a batch on different prefixes is {amount(own.max_abs)} nats from the "
                f"reference, more than {noise.parity:.3g}, and {amount(other.max_abs)} from the other row's",
                f"row {index}",
            )
        elif 2 * own.max_abs >= other.max_abs:
            raise UndecidedError(
                "both rows give the same within the noise: rows that were mixed up could not be told apart",
                hint="zoo validate --dtype float32",
            )


@once_a_kind
def generates(context: Context) -> Iterable[Finding | Measurement]:
    """ZP005: generate() without a cache gives the reference's greedy tokens."""
    from zoo.validators.conformance.scratch import decode_from_scratch

    session = context.session
    tie = 2 * chunking_noise(session.evidence, session.model.dtype).level
    decisive = 0
    for prompt in session.short_prompts[:TRIED]:
        decoding = decode_from_scratch(session, brief(prompt))
        decisive += decoding.decisive(tie=tie)
        place = decoding.wrong(tie=tie)
        if place is not None:
            yield wrong(
                f"decoded by generate() without a cache, token {place} is {decoding.found[place]}, by the "
                f"reference {decoding.expected[place]}, better by {amount(decoding.regrets[place])} nats",
                f"prompt {session.prompts.index(prompt)}",
            )
        if decisive:
            break
    if not decisive:
        raise UndecidedError(
            f"every decoded token is a tie within the noise of {context.dtype}",
            hint="zoo validate --dtype float32",
        )
    yield Measurement(name="decisive_tokens", value=decisive)


def brief(prompt: Prompt) -> Prompt:
    """The prompt with no more than the end of its prefix.

    What is checked here does not depend on a long prefix, and every adapter would pay for its every token.
    """
    start = min(prompt.start, PREFIX)
    return Prompt(text="", ids=prompt.ids[prompt.start - start :], start=start)


def _with_prefix(session: "Session") -> Prompt:
    """The shortest prompt that has a prefix, `brief`.

    Raises:
        UndecidedError: none has one.
    """
    with_prefix(session.evidence)
    return brief(next(prompt for prompt in session.short_prompts if prompt.start))


CHECKS: tuple[Check, ...] = (
    Check(
        code="ZR006",
        title="The last full occurrence of the invocation decides, wherever it stands",
        run=occurs,
        requires=("ZP001",),
        needs=NEEDS,
        unless=not_activated,
    ),
    Check(
        code="ZK004",
        title="On the same tokens the base and each adapter compute their own",
        run=switches,
        requires=("ZP001",),
        needs=NEEDS,
        unless=not_activated,
    ),
    Check(
        code="ZK005",
        title="Every row of a batch continues its own prefix",
        run=rows,
        requires=("ZP001",),
        needs=NEEDS,
        unless=not_activated,
    ),
    Check(
        code="ZP005",
        title="Generating without a cache gives the reference's greedy tokens",
        run=generates,
        requires=("ZP001", "ZR001"),
        needs=NEEDS,
        unless=not_activated,
    ),
)
