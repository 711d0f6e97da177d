"""ZR: the adapter against the reference and the base, at identical shapes, with both controls."""

from collections.abc import Iterable

from zoo.errors import UndecidedError
from zoo.report import Finding
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.conformance.difference import worst
from zoo.validators.conformance.routed import logit_rounding
from zoo.validators.conformance.said import (
    amount,
    by_layer,
    deterministic,
    measured,
    not_activated,
    with_prefix,
    wrong,
)
from zoo.validators.conformance.tolerance import chunking_noise

NEEDS = frozenset({Need.BASE, Need.TORCH})


def parity(context: Context) -> Iterable[Finding | Measurement]:
    """ZR001: PEFT under its own rule computes what the definition says, from the invocation on."""
    session = context.session
    evidence = session.evidence
    noise = chunking_noise(evidence, session.model.dtype)
    for one in evidence:
        if not one.parity.within(noise.parity):
            yield wrong(
                f"{one.label}: PEFT and the reference differ after the invocation by "
                f"{amount(one.parity.max_abs)} nats, more than {noise.parity:.3g}",
                one.label,
            )
    yield measured("max_abs_log_prob_difference", worst(one.parity for one in evidence).max_abs)
    yield measured("tolerance", noise.parity)
    yield measured("base_chunking_noise", noise.measured)
    yield Measurement(name="prompts", value=len(evidence))
    yield Measurement(name="prompts_run_whole", value=sum(one.whole is not None for one in evidence))
    yield Measurement(name="tokens", value=sum(len(one.prompt.ids) for one in evidence))
    yield Measurement(name="longest_prompt_tokens", value=max(len(one.prompt.ids) for one in evidence))


def untouched(context: Context) -> Iterable[Finding | Measurement]:
    """ZR002: PEFT's logits before the invocation are the base's, bit for bit."""
    session = context.session
    evidence = [one for one in with_prefix(session.evidence) if one.whole]
    deterministic(one.whole for one in evidence)
    rounding = logit_rounding(session.model, chunking_noise(session.evidence, session.model.dtype))
    drifts = []
    for one in evidence:
        for what, drift in (
            ("", one.whole and one.whole.drift),
            (" behind a cache that ends earlier", one.hand_over and one.hand_over.drift),
        ):
            if drift:
                drifts.append(drift.max_abs)
            if drift and not drift.max_abs <= rounding:
                yield wrong(
                    f"{one.label}: logits before the invocation{what} differ from the base model's, first at "
                    f"position {drift.position} of {one.prompt.start}, by up to {amount(drift.max_abs)}",
                    one.label,
                    fix="zoo convert refuses or folds what acts before the invocation",
                )
    yield measured("max_abs_logit_difference", max(drifts, default=0.0))
    if rounding:
        yield measured("rounding_of_routed_tokens", rounding)
    yield Measurement(name="positions", value=sum(one.prompt.start for one in evidence))


def effective(context: Context) -> Iterable[Finding | Measurement]:
    """ZR003, positive control: after the invocation the adapter changes something, measurably."""
    session = context.session
    evidence = session.evidence
    noise = chunking_noise(evidence, session.model.dtype)
    effect = worst(one.effect for one in evidence).max_abs
    yield measured("max_abs_log_prob_effect", effect)
    yield measured("noise", noise.parity)
    yield measured("effect_in_multiples_of_noise", effect / noise.parity)
    if effect > noise.parity:
        return
    if noise.half and effect > 0:
        raise UndecidedError(
            f"the adapter's effect ({effect:.3g} nats) is below the noise of {context.dtype} "
            f"({noise.parity:.3g})",
            hint="zoo validate --dtype float32",
        )
    what = "no effect" if effect == 0 else f"no effect above noise ({effect:.3g} of {noise.parity:.3g} nats)"
    yield wrong(f"the adapter has {what} after its invocation on any of {len(evidence)} prompts", "")


def controlled(context: Context) -> Iterable[Finding | Measurement]:
    """ZR004, negative control: the same weights on every token fail what ZR002 and ZK001 compare."""
    deterministic(one.whole for one in with_prefix(context.session.evidence))
    session, found = context.session, context.session.control
    rounding = logit_rounding(session.model, chunking_noise(session.evidence, session.model.dtype))
    yield measured(
        "plain_lora_max_abs_logit_difference", found.plain_drift.max_abs if found.plain_drift else 0.0
    )
    yield measured("plain_lora_max_abs_kv_difference", found.plain_kv.max_abs if found.plain_kv else 0.0)
    yield by_layer("plain_lora_kv_difference_by_layer", [found.plain_kv], layers=session.layers)
    if not found.plain_drift or found.plain_drift.max_abs <= rounding:
        yield wrong(
            "run as a plain LoRA on every token, the weights leave the logits before the invocation as they "
            "are: the comparison with the base model proves nothing here",
            "",
        )
    if found.plain_kv_due and not found.plain_kv:
        yield wrong("run as a plain LoRA, PEFT leaves the prefix KV as it is, the reference does not", "")
    if not found.plain_kv_due:
        yield Measurement(name="prefix_kv_control", value="none: no target module acts on keys or values")


def absent(context: Context) -> Iterable[Finding | Measurement]:
    """ZR005: without a full occurrence of the invocation the adapter is the base model, bit for bit."""
    from zoo.validators.conformance.absence import absences

    session = context.session
    rows = absences(session, session.short_prompts[0])
    if not rows:
        raise UndecidedError("no row without the invocation can be made from the prompts")
    deterministic(one.whole for one in session.evidence)
    for row in rows:
        if row.logits or row.kv:
            what = f"logits by up to {amount(row.logits.max_abs)}" if row.logits else f"KV {row.kv}"
            yield wrong(f"{row.what}: the adapter acts without its invocation: {what}", row.what)
    yield Measurement(name="rows", value=len(rows))


CHECKS: tuple[Check, ...] = (
    Check(
        code="ZR001",
        title="PEFT computes the reference's log-probabilities after the invocation",
        run=parity,
        requires=("ZP001",),
        needs=NEEDS,
        unless=not_activated,
    ),
    Check(
        code="ZR002",
        title="Logits before the invocation are the base model's, bitwise",
        run=untouched,
        requires=("ZP001",),
        needs=NEEDS,
        unless=not_activated,
    ),
    Check(
        code="ZR003",
        title="Positive control: the adapter has an effect after its invocation",
        run=effective,
        requires=("ZP001",),
        needs=NEEDS,
        unless=not_activated,
    ),
    Check(
        code="ZR004",
        title="Negative control: the same weights as a plain LoRA fail the comparison",
        run=controlled,
        requires=("ZP001",),
        needs=NEEDS,
        unless=not_activated,
    ),
    Check(
        code="ZR005",
        title="Without its invocation the adapter is the base model, bitwise",
        run=absent,
        requires=("ZP001",),
        needs=NEEDS,
        unless=not_activated,
    ),
)
