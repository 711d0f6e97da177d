"""ZK: the prefix's keys and values are the base's, and its cache can be handed over."""

from collections.abc import Iterable

from zoo.errors import UndecidedError
from zoo.report import Finding, Severity
from zoo.validators.check import Check, Context, Measurement
from zoo.validators.conformance.difference import worst
from zoo.validators.conformance.kind import once_a_kind
from zoo.validators.conformance.reference_checks import NEEDS
from zoo.validators.conformance.routed import kv_rounding
from zoo.validators.conformance.said import (
    amount,
    by_layer,
    deterministic,
    measured,
    not_activated,
    with_prefix,
    wrong,
)
from zoo.validators.conformance.shown import said_of
from zoo.validators.conformance.tolerance import chunking_noise


def prefix(context: Context) -> Iterable[Finding | Measurement]:
    """ZK001: at identical shapes the KV of every prefix position is the pristine base's, bit for bit."""
    session = context.session
    evidence = [(one, one.whole) for one in with_prefix(session.evidence) if one.whole]
    deterministic(whole for _, whole in evidence)
    noise = chunking_noise(session.evidence, session.model.dtype)
    for one, whole in evidence:
        rounding = kv_rounding(session.model, session.rig.prefilled(one.prompt.prefix), noise)
        if whole.kv and not whole.kv.max_abs <= rounding:
            yield wrong(
                f"{one.label}: the KV before the invocation is not the base model's: {whole.kv}",
                one.label,
                fix="only low-rank updates gated by the invocation keep it: no bias, no saved modules",
            )
    drifts = [whole.kv.max_abs for _, whole in evidence if whole.kv]
    yield measured("max_abs_kv_difference", max(drifts, default=0.0))
    yield by_layer("kv_difference_by_layer", [whole.kv for _, whole in evidence], layers=session.layers)
    yield measured("run_to_run_difference", worst(whole.run_to_run for _, whole in evidence).max_abs)
    yield Measurement(name="positions", value=sum(one.prompt.start for one, _ in evidence))
    yield Measurement(name="layers", value=session.layers)


def hand_over(context: Context) -> Iterable[Finding | Measurement]:
    """ZK002: continuing from the base's cache gives what a whole run gives, and a late start would show."""
    from zoo.validators.conformance.hand_over import OTHER_CALLS

    session = context.session
    evidence = [(one, one.hand_over) for one in with_prefix(session.evidence) if one.hand_over]
    noise = chunking_noise(session.evidence, session.model.dtype)
    tolerance = noise.other_shape
    right = True
    for one, run in evidence:
        for way, found in run.adapted.items():
            if not found.within(tolerance):
                right = False
                yield wrong(
                    f"{one.label}: continued from the base's cache ({way}), the adapter is "
                    f"{amount(found.max_abs)} nats from its run in one call, more than {tolerance:.3g}",
                    one.label,
                )
    reused = worst(d for _, run in evidence for d in run.adapted.values()).max_abs
    late = session.control.one_late.max_abs
    yield measured("max_abs_log_prob_difference", reused)
    yield measured("base_chunking_noise", noise.measured)
    yield measured("noise_floor", noise.floor)
    yield measured("in_multiples_of_noise", reused / noise.level)
    yield measured("tolerance_in_multiples_of_noise", noise.multiple)
    yield measured("one_token_late_in_multiples_of_noise", late / noise.level)
    yield Measurement(name="ways", value=max(len(run.adapted) for _, run in evidence))
    yield Measurement(name="longest_prefix_tokens", value=max(one.prompt.start for one, _ in evidence))
    if shown_on := session.rig.shown.find(OTHER_CALLS, session):
        yield Measurement(name="other_calls_shown_on", value=said_of(shown_on))
    elif right:
        session.rig.shown.add(OTHER_CALLS, session)
    yield from _would_show(context, late, tolerance, half=noise.half)


def _would_show(context: Context, late: float, tolerance: float, *, half: bool) -> Iterable[Finding]:
    """Says when the tolerance is too wide to see an adapter that starts one token late."""
    if late > tolerance:
        return
    effect = worst(one.effect for one in context.session.evidence).max_abs
    if effect <= tolerance:
        raise UndecidedError(
            f"the adapter's effect ({effect:.3g} nats) does not exceed the tolerance of a hand-over in "
            f"{context.dtype} ({tolerance:.3g}): a broken one could not be told from a right one",
            hint="zoo validate --dtype float32" if half else "see zoo explain ZR003",
        )
    yield wrong(
        f"a start one token late changes {late:.3g} nats, within the tolerance of {tolerance:.3g}: "
        "the hand-over cannot show where the adapter starts",
        "",
        severity=Severity.WARNING,
    )


def taint(context: Context) -> Iterable[Finding | Measurement]:
    """ZK003: nothing of an adapter stays in a cache or model that the base or another goes on with."""
    session = context.session
    evidence = with_prefix(session.evidence)
    deterministic(one.whole for one in evidence)
    for one in evidence:
        if one.hand_over and one.hand_over.taint:
            yield wrong(
                f"{one.label}: the adapter changed the prefix in the cache it got: {one.hand_over.taint}",
                one.label,
            )
    yield Measurement(name="caches_compared", value=sum(1 for one in evidence if one.hand_over))
    yield from _turns(context)


@once_a_kind
def _turns(context: Context) -> Iterable[Finding | Measurement]:
    from zoo.validators.conformance.taint import take_turns

    session = context.session
    found = take_turns(session, session.control_prompt or session.prompts[0])
    for turn in found.turns:
        if turn.kv:
            yield wrong(f"{turn.turn}: the cache is not the base model's: {turn.kv}", turn.turn)
        if turn.logits:
            yield wrong(
                f"{turn.turn}: logits differ from those without an adapter ever run, by up to "
                f"{amount(turn.logits.max_abs)}",
                turn.turn,
            )
    yield Measurement(name="turns", value=len(found.turns))
    yield measured("tainted_cache_would_differ_by", found.control.max_abs if found.control else 0.0)
    if found.control is None:
        raise UndecidedError(
            "even a cache that holds the adapter's own keys and values does not show in the base's logits: "
            "a taint could not have been seen",
            hint="no target module acts on keys or values of a later layer; see zoo explain ZK003",
        )


CHECKS: tuple[Check, ...] = (
    Check(
        code="ZK001",
        title="The prefix KV is the base model's, bitwise at identical shapes",
        run=prefix,
        requires=("ZP001",),
        needs=NEEDS,
        unless=not_activated,
    ),
    Check(
        code="ZK002",
        title="The base's prefix cache can be handed over, and a late start would show",
        run=hand_over,
        requires=("ZP001",),
        needs=NEEDS,
        unless=not_activated,
    ),
    Check(
        code="ZK003",
        title="Nothing of the adapter stays in a cache or model that the base goes on with",
        run=taint,
        requires=("ZP001",),
        needs=NEEDS,
        unless=not_activated,
    ),
)
