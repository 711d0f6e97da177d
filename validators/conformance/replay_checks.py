"""ZS: the vectors that a release ships are readable, its own, and what base and adapter compute."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zoo.adapter import LOCK_NAME, VECTORS_NAME, WEIGHTS_NAME
from zoo.errors import UndecidedError
from zoo.layouts import CONFIG_NAME
from zoo.report import Finding, Location, Severity
from zoo.specs.lock import BaseLock
from zoo.validators.check import Check, Context, Measurement
from zoo.validators.conformance.peft_checks import LOADS
from zoo.validators.conformance.reference_checks import NEEDS
from zoo.validators.conformance.said import amount, measured, not_activated

if TYPE_CHECKING:
    from zoo.validators.conformance.replay import Answers

Said = Iterable[Finding | Measurement]
_AGAIN = "zoo validate PATH --record writes them anew"


def absent(context: Context) -> str:
    """Why there is nothing to replay; empty where vectors are there, or were asked for."""
    if reason := not_activated(context):
        return reason
    if context.replay or (context.repo.root / VECTORS_NAME).exists():
        return ""
    return f"the release ships no {VECTORS_NAME}"


def readable(context: Context) -> Said:
    """ZS001: the file is of its format, in every name, shape and value."""
    if not (context.repo.root / VECTORS_NAME).is_file():
        raise UndecidedError(f"there is no {VECTORS_NAME} to replay", hint=_AGAIN)
    shipped = context.shipped
    yield Measurement(name="prompts", value=shipped.prompts)
    yield Measurement(name="questions", value=len(shipped.arrays["question.length"]))
    yield Measurement(name="dtypes", value=", ".join(sorted(shipped.record.tolerances)))


def own(context: Context) -> Said:
    """ZS002: the numbers were computed for this config, these weights and this base."""
    from zoo.validators.conformance.shipped import adapter_record

    record, mine = context.shipped.record, adapter_record(context.repo)
    for name, stated, present in (
        (CONFIG_NAME, record.adapter.config_sha256, mine.config_sha256),
        (WEIGHTS_NAME, record.adapter.weights_sha256, mine.weights_sha256),
    ):
        if stated != present:
            yield _wrong(f"made for another {name}: sha256 {stated[:12]}…, and {present[:12]}… is here", name)
    if record.adapter.invocation != mine.invocation:
        yield _wrong(f"made for the invocation {record.adapter.invocation[:16]}", "invocation")
    if context.repo.lock:
        for what in other_base(record.base, context.repo.lock.base):
            yield _wrong(f"made for {what} than {LOCK_NAME} names", "base")


def same_base(context: Context) -> Said:
    """ZS003: the base at hand is the one of the numbers, by its digests and by what it computes."""
    shipped = context.shipped
    for what in other_base(shipped.record.base, context.known_base.lock()):
        yield _wrong(
            f"made for {what} than the one at hand", "base", fix="validate with the base of the release"
        )
    vocabulary = context.known_base.vocabulary
    if max(int(shipped.arrays[name].max()) for name in ("prompt.ids", "token.ids")) >= vocabulary:
        yield _wrong(f"they name token ids that a base with {vocabulary:,} tokens does not have", "token.ids")
        return
    replay = context.replaying
    for one in replay.base:
        if not one.distances["base"] <= replay.tolerance:
            yield _wrong(
                f"{one.label}: the base model is {amount(one.distances['base'])} nats from the shipped "
                f"numbers, more than {replay.tolerance:.3g}: not the adapter, the base deviates",
                one.label,
            )
        if one.kv and not one.kv.multiple <= 1:
            yield _wrong(
                f"{one.label}: the base's prefix KV is {amount(one.kv.multiple)} times its tolerance from "
                f"the shipped projections ({one.kv.where})",
                one.label,
            )
    yield measured("base_max_abs_log_prob_difference", max(one.distances["base"] for one in replay.base))
    yield measured("base_kv_in_multiples_of_tolerance", _kv(replay.base))


def parity(context: Context) -> Said:
    """ZS004: after the invocation PEFT computes the shipped log-probabilities."""
    replay = context.replaying
    for one in replay.adapter:
        if not one.distances["rule"] <= replay.tolerance:
            yield _wrong(
                f"{one.label}: PEFT is {amount(one.distances['rule'])} nats from the shipped numbers, more "
                f"than {replay.tolerance:.3g}: {one.looks_like(replay.tolerance)}",
                one.label,
                fix="the engine or its version deviates; zoo validate without --replay says where",
            )
    yield measured("max_abs_log_prob_difference", max(one.distances["rule"] for one in replay.adapter))
    yield measured("tolerance", replay.tolerance)
    yield Measurement(name="dtype", value=replay.dtype)


def prefix(context: Context) -> Said:
    """ZS005: PEFT's keys and values before the invocation project to the shipped numbers."""
    replay = context.replaying
    with_prefix = [one for one in replay.adapter if one.kv]
    if not with_prefix:
        raise UndecidedError("every shipped prompt begins with the invocation: there is no prefix to compare")
    for one in with_prefix:
        if one.kv and not one.kv.multiple <= 1:
            yield _wrong(
                f"{one.label}: the prefix KV is {amount(one.kv.multiple)} times its tolerance from the "
                f"base's, furthest in {one.kv.where}",
                one.label,
            )
    yield measured("kv_in_multiples_of_tolerance", _kv(replay.adapter))
    early = replay.controls.get("early")
    yield measured(
        "one_token_early_in_multiples_of_tolerance", early.kv.multiple if early and early.kv else 0.0
    )


def controls(context: Context) -> Said:
    """ZS006: base, one token early and one token late would fail, in the file and as PEFT runs them."""
    from zoo.validators.conformance.replay import SAID

    replay = context.replaying
    for run in ("base", "early", "late"):
        apart = replay.apart(run)
        yield measured(f"{run}_max_abs_log_prob_difference", apart)
        if apart > replay.tolerance or (run == "early" and not replay.controls):
            continue
        what = f"{SAID[run]} differs by {apart:.3g} nats, within the tolerance of {replay.tolerance:.3g}"
        if run == "base":
            raise UndecidedError(
                f"in {replay.dtype} {what}: nothing would show", hint="zoo validate --dtype float32"
            )
        yield _wrong(f"{what}: the replay cannot show it", run, severity=Severity.WARNING)
    for run, one in replay.controls.items():
        if not one.distances[run] <= replay.tolerance:
            yield _wrong(
                f"made to compute {SAID[run]}, PEFT is {amount(one.distances[run])} nats from the "
                "shipped numbers for it: what the replay says about deviating engines would be wrong",
                run,
            )
    yield Measurement(name="controls_run", value=len(replay.controls))


def other_base(one: BaseLock, other: BaseLock) -> list[str]:
    """In what two records name different bases; what only one of them states is not compared."""
    found = []
    if one.id.casefold() != other.id.casefold() and "/" in one.id and "/" in other.id:
        found.append(f"another base ({one.id})")
    if one.revision and other.revision and one.revision != other.revision:
        found.append(f"another commit ({one.revision[:12]}) of the base")
    if one.weights_sha256 and other.weights_sha256 and one.weights_sha256 != other.weights_sha256:
        found.append("other weights of the base")
    if one.tokenizer_sha256 != other.tokenizer_sha256:
        found.append("another tokenizer")
    return found


def _kv(found: "Iterable[Answers]") -> float:
    return max((one.kv.multiple for one in found if one.kv), default=0.0)


def _wrong(message: str, pointer: str, *, severity: Severity = Severity.ERROR, fix: str = _AGAIN) -> Finding:
    location = Location(file=VECTORS_NAME, pointer=pointer)
    return Finding(message=message, severity=severity, location=location, fix=fix)


# What the files alone decide: no torch.
SHIPPED_CHECKS: tuple[Check, ...] = (
    Check(
        code="ZS001",
        title="The shipped vectors are readable",
        run=readable,
        requires=("ZF002", "ZC001"),
        unless=absent,
    ),
    Check(
        code="ZS002",
        title="The shipped vectors are this adapter's",
        run=own,
        requires=("ZS001",),
        unless=absent,
    ),
)
REPLAY_CHECKS: tuple[Check, ...] = (
    Check(
        code="ZS003",
        title="The base computes the shipped numbers",
        run=same_base,
        requires=("ZS002", LOADS.code),
        needs=NEEDS,
        unless=absent,
    ),
    Check(
        code="ZS004",
        title="PEFT computes the shipped log-probabilities after the invocation",
        run=parity,
        requires=("ZS003",),
        needs=NEEDS,
        unless=absent,
    ),
    Check(
        code="ZS005",
        title="PEFT keeps the shipped prefix KV",
        run=prefix,
        requires=("ZS003",),
        needs=NEEDS,
        unless=absent,
    ),
    Check(
        code="ZS006",
        title="Controls: base, one token early and one token late would not pass the replay",
        run=controls,
        requires=("ZS003",),
        needs=NEEDS,
        unless=absent,
    ),
)

# What `zoo validate --replay` wants to know: these, with what they require.
REPLAYED = ("ZL002", *(check.code for check in (*SHIPPED_CHECKS, *REPLAY_CHECKS)))
