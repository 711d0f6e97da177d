"""ZK: the prefix's keys and values are the base's, and its cache can be handed over."""

from collections.abc import Iterable

from zoo.errors import UndecidedError
from zoo.report import Finding, Severity
from zoo.validators.check import Check, Context, Measurement
from zoo.validators.conformance.difference import worst
from zoo.validators.conformance.reference_checks import NEEDS
from zoo.validators.conformance.said import amount, measured, not_activated, with_prefix, wrong
from zoo.validators.conformance.tolerance import chunking_noise


def prefix(context: Context) -> Iterable[Finding | Measurement]:
    """ZK001: at identical shapes the KV of every prefix position is the pristine base's, bit for bit."""
    session = context.session
    evidence = with_prefix(session.evidence)
    for one in evidence:
        if one.full.kv:
            yield wrong(
                f"{one.label}: the KV before the invocation is not the base model's: {one.full.kv}",
                one.label,
                fix="only low-rank updates gated by the invocation keep it: no bias, no saved modules",
            )
    drifts = [one.full.kv.max_abs for one in evidence if one.full.kv]
    yield measured("max_abs_kv_difference", max(drifts, default=0.0))
    yield Measurement(name="positions", value=sum(one.prompt.start for one in evidence))
    yield Measurement(name="layers", value=session.layers)


def hand_over(context: Context) -> Iterable[Finding | Measurement]:
    """ZK002: continuing from the base's cache gives what a whole run gives, and a late start would show."""
    session = context.session
    evidence = with_prefix(session.evidence)
    noise = chunking_noise(session.evidence, session.model.dtype)
    tolerance = noise.other_shape
    for one in evidence:
        for chunking, found in one.hand_over.adapted.items():
            if not found.within(tolerance):
                yield wrong(
                    f"{one.label}: continued from the base's cache ({chunking}), the adapter is "
                    f"{amount(found.max_abs)} nats from its whole run, more than {tolerance:.3g}",
                    one.label,
                )
    reused = worst(d for one in evidence for d in one.hand_over.adapted.values()).max_abs
    late = worst(one.hand_over.one_late for one in evidence).max_abs
    yield measured("max_abs_log_prob_difference", reused)
    yield measured("base_chunking_noise", noise.measured)
    yield measured("noise_floor", noise.floor)
    yield measured("in_multiples_of_noise", reused / noise.level)
    yield measured("tolerance_in_multiples_of_noise", noise.multiple)
    yield measured("one_token_late_in_multiples_of_noise", late / noise.level)
    yield Measurement(name="chunkings", value=max(len(one.hand_over.adapted) for one in evidence))
    if late > tolerance:
        return
    effect = worst(one.full.effect for one in evidence).max_abs
    if effect <= tolerance:
        raise UndecidedError(
            f"the adapter's effect ({effect:.3g} nats) does not exceed the tolerance of a hand-over in "
            f"{context.dtype} ({tolerance:.3g}): a broken one could not be told from a right one",
            hint="zoo validate --dtype float32" if noise.half else "see zoo explain ZR003",
        )
    yield wrong(
        f"a start one token late changes {late:.3g} nats, within the tolerance of {tolerance:.3g}: "
        "the hand-over cannot show where the adapter starts",
        "",
        severity=Severity.WARNING,
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
)
