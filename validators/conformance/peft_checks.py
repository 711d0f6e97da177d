"""ZP: PEFT loads the adapter whole, decodes, batches and cleans up with it as it should."""

from collections.abc import Iterable

from zoo.errors import UndecidedError
from zoo.report import Finding
from zoo.validators.check import Check, Context, Measurement
from zoo.validators.conformance.kind import once_a_kind
from zoo.validators.conformance.reference_checks import NEEDS
from zoo.validators.conformance.routed import logit_rounding
from zoo.validators.conformance.said import amount, measured, not_activated, wrong
from zoo.validators.conformance.tolerance import Noise, chunking_noise

DECODED = 5  # prompts to try until there are enough tokens that are no tie
ENOUGH = 4


def loads(context: Context) -> Iterable[Finding | Measurement]:
    """ZP001: PEFT loads the adapter, with a class that activates it, and wraps what has weights."""
    session = context.session
    wrapped = session.wrapped_modules()
    held = set(session.reference.updates)
    if ignored := sorted(held - wrapped):
        yield wrong(
            f"PEFT ignores the weights of {len(ignored)} modules that target_modules does not name: "
            f"{', '.join(ignored[:3])}",
            ignored[0],
            fix="name every module that has weights in target_modules",
        )
    if lacking := sorted(wrapped - held):
        yield wrong(
            f"PEFT wraps {len(lacking)} modules that have no weights in the file: {', '.join(lacking[:3])}",
            lacking[0],
        )
    yield Measurement(name="class", value=type(session.peft).__name__)
    yield Measurement(name="modules", value=len(wrapped))


@once_a_kind
def decodes(context: Context) -> Iterable[Finding | Measurement]:
    """ZP002: decoding from the base's cache gives the reference's greedy tokens."""
    from zoo.validators.conformance.decoding import decode

    session = context.session
    # two tokens may trade places when both move by the noise
    tie = 2 * chunking_noise(session.evidence, session.model.dtype).level
    decisive = tried = 0
    for prompt in session.short_prompts[:DECODED]:
        decoding = decode(session, prompt)
        tried += 1
        decisive += decoding.decisive(tie=tie)
        place = decoding.wrong(tie=tie)
        if place is not None:
            yield wrong(
                f"decoded by generate() on the base's cache, token {place} is {decoding.found[place]}, by "
                f"the reference {decoding.expected[place]}, better by {amount(decoding.regrets[place])} nats",
                f"prompt {session.prompts.index(prompt)}",
            )
        if decisive >= ENOUGH:
            break
    if not decisive:
        raise UndecidedError(
            f"every decoded token is a tie within the noise of {context.dtype}",
            hint="zoo validate --dtype float32",
        )
    yield Measurement(name="prompts", value=tried)
    yield Measurement(name="decisive_tokens", value=decisive)
    yield measured("tie_margin", tie)


@once_a_kind
def cleans_up(context: Context) -> Iterable[Finding | Measurement]:
    """ZP003: a call that raises leaves no stale activation behind under zoo's guard."""
    from zoo.validators.conformance.hooks import leak

    session = context.session
    found = leak(session, session.short_prompts[0])
    if found.guarded:
        yield wrong(f"{found.guarded} hooks with old offsets stay registered after a failed call", "")
    if found.drift:
        yield wrong(
            f"the call after a failed one differs from the one before by up to {amount(found.drift.max_abs)}",
            "",
        )
    yield Measurement(name="stale_hooks_of_peft_alone", value=found.unguarded)
    yield Measurement(name="stale_hooks_under_guard", value=found.guarded)


@once_a_kind
def pads(context: Context) -> Iterable[Finding | Measurement]:
    """ZP004: in a padded batch every row starts at its own invocation."""
    from zoo.validators.conformance.batches import batches

    session = context.session
    for batch in batches(session):
        noise = Noise.of(batch.noise, scale=batch.scale, dtype=session.model.dtype)
        if not batch.adapted.within(noise.other_shape):
            yield wrong(
                f"padded on the {batch.side}, rows differ from the same rows alone by "
                f"{amount(batch.adapted.max_abs)} nats, more than {noise.other_shape:.3g}",
                batch.side,
                fix="the padding id must not be one of the invocation's ids",
            )
        if batch.drift and not batch.drift.max_abs <= logit_rounding(session.model, noise):
            yield wrong(
                f"padded on the {batch.side}, logits before a row's invocation differ from the base's in the "
                f"same batch by up to {amount(batch.drift.max_abs)}",
                batch.side,
            )
        yield measured(f"{batch.side}_max_abs_log_prob_difference", batch.adapted.max_abs)
        yield measured(f"{batch.side}_base_noise", batch.noise.max_abs)
        yield measured(f"{batch.side}_in_multiples_of_noise", batch.adapted.max_abs / noise.level)


# PEFT sets no bounds of its own, runs patterns from the config and may import what it names: nothing is
# loaded that failed a static check which says it would hang, cannot load, or cannot work.
STATIC = (
    *("ZF002", "ZF003", "ZC001", "ZC002", "ZC003", "ZC004", "ZC005", "ZC006", "ZC008", "ZC011"),
    *("ZW001", "ZW002", "ZW003", "ZW006", "ZW007", "ZI002", "ZI004"),
)

LOADS = Check(
    code="ZP001",
    title="PEFT loads the adapter whole, as a model that activates it",
    run=loads,
    requires=STATIC,
    needs=NEEDS,
    unless=not_activated,
)

CHECKS: tuple[Check, ...] = (
    Check(
        code="ZP002",
        title="Decoding on the base's cache gives the reference's greedy tokens",
        run=decodes,
        requires=("ZP001", "ZR001"),
        needs=NEEDS,
        unless=not_activated,
    ),
    Check(
        code="ZP003",
        title="A failed call leaves no stale activation behind",
        run=cleans_up,
        requires=("ZP001",),
        needs=NEEDS,
        unless=not_activated,
    ),
    Check(
        code="ZP004",
        title="Padded batches agree with single rows",
        run=pads,
        requires=("ZP001",),
        needs=NEEDS,
        unless=not_activated,
    ),
)
