"""Checks ZL004 and ZB001: what the files of the adapter alone cannot show."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from zoo.adapter import LOCK_NAME
from zoo.errors import UndecidedError
from zoo.evaluation.intervals import Z, wilson_interval
from zoo.report import Finding, Severity
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.checks.lock import foreign, recorded_lock
from zoo.validators.places import in_lock

if TYPE_CHECKING:
    from zoo.specs.lock import BehaviourRecord

# A recovered adapter shall answer as the LoRA it replaces. Below 95 % one answer in twenty is another one,
# which users of the LoRA notice; it is what recovery reaches in seconds on tasks that the base can learn.
AGREEMENT = 0.95
# As many points of task accuracy may be lost to the LoRA before the conversion has failed.
ACCURACY_LOSS = 0.05
# With fewer samples an estimate near 0.95 is off by more than five points either way.
SAMPLES = 100


def _weights_recorded(context: Context) -> Iterator[Finding | Measurement]:
    lock, base = recorded_lock(context).base, context.known_base
    if lock.revision and base.revision:
        yield Measurement(name="base_revision", value=base.revision)  # ZL003 has compared the commits
        return
    if lock.weights_sha256 is None:
        raise UndecidedError(
            f"the release names the base's commit {str(lock.revision)[:12]}, and the base at hand has none",
            hint=f"validate with --base {lock.id}@{lock.revision}",
        )
    if base.weights_sha256 != lock.weights_sha256:
        yield Finding(
            message=f"the weights of {base.id} are not those that the release was made for",
            location=in_lock(context.repo.root, "base.weights_sha256"),
            fix="validate with the recorded base, or make the release again for this one",
        )
    yield Measurement(name="base_weights_sha256", value=base.weights_sha256)


def _behaviour(context: Context) -> Iterator[Finding | Measurement]:
    lock = context.repo.lock
    if lock is None or lock.behaviour.status == "unverified":
        raise UndecidedError(
            "nobody has measured what the adapter answers on data that it was not trained on",
            hint="zoo convert … --recover DATA measures it, and repairs what relabelling loses",
        )
    record = lock.behaviour
    own = record.own_column
    if not own or record.samples <= 0:
        yield _finding(context, f"{LOCK_NAME} says measured, and holds no measurement", "accuracy")
        return
    yield from _measured(record, own)
    yield from _useful(context, record, own)
    yield from _faithful(context, record, own)
    yield from _judged(context, record)
    if lock.on_invented:
        yield Finding(
            message="measured on invented requests alone, against the LoRA's own answers: what it answers to "
            "real requests, nobody measured",
            severity=Severity.WARNING,
            location=in_lock(context.repo.root, "training.settings.invented"),
            fix="recover with --eval-data REAL.jsonl",
        )
    if record.samples < SAMPLES:
        yield _finding(
            context,
            f"measured on {record.samples} samples only: the figures are off by several points either way",
            "samples",
            Severity.WARNING,
        )


def _measured(record: "BehaviourRecord", own: str) -> Iterator[Measurement]:
    yield Measurement(name="samples", value=record.samples)
    yield Measurement(name="accuracy", value=record.accuracy[own])
    if own in record.agreement:
        yield Measurement(name="agreement", value=record.agreement[own])
    if record.comparison:
        yield Measurement(name="verdict", value=record.comparison.verdict)


def _useful(context: Context, record: "BehaviourRecord", own: str) -> Iterator[Finding]:
    """It must beat what costs nothing, and keep what the LoRA had."""
    accuracy = record.accuracy[own]
    if record.trivial is not None and accuracy <= record.trivial:
        yield _finding(
            context,
            f"accuracy {accuracy:.3f} does not beat always giving one answer, {record.trivial:.3f}",
            "accuracy",
        )
    if "base" in record.accuracy and accuracy <= record.accuracy["base"]:
        yield _finding(
            context,
            f"accuracy {accuracy:.3f} does not beat the base model, {record.accuracy['base']:.3f}",
            "accuracy",
        )
    loss = record.accuracy.get("lora", 0.0) - accuracy
    if loss > max(ACCURACY_LOSS, Z * _standard_error(accuracy, record.samples)):
        yield _finding(
            context, f"accuracy {accuracy:.3f} is {loss:.3f} below the LoRA that it was made from", "accuracy"
        )


def _faithful(context: Context, record: "BehaviourRecord", own: str) -> Iterator[Finding]:
    agreement = record.agreement.get(own)
    if agreement is None or agreement >= AGREEMENT:
        return
    low, high = wilson_interval(agreement, record.samples)
    yield _finding(
        context,
        f"agrees with the LoRA that it was made from on {agreement:.3f} of {record.samples} samples "
        f"(95 % interval {low:.3f} to {high:.3f}); {AGREEMENT} is wanted",
        "agreement",
        Severity.ERROR if high < AGREEMENT else Severity.WARNING,
    )


def _judged(context: Context, record: "BehaviourRecord") -> Iterator[Finding]:
    """The verdict of the recovery itself, where it is not that nothing was lost."""
    comparison = record.comparison
    if comparison is None or comparison.verdict == "equivalent":
        return
    boundary = comparison.verdict == "re-reads"
    yield Finding(
        message=f"{comparison.verdict}: {comparison.reason}",
        severity=Severity.ERROR if boundary else Severity.WARNING,
        location=in_lock(context.repo.root, "behaviour.comparison"),
        fix="release it as the plain LoRA that it was: no boundary behind the context will do"
        if boundary
        else "recover with more data or more steps, and measure on more held-out samples",
    )


def _standard_error(share: float, samples: int) -> float:
    return math.sqrt(share * (1 - share) / samples)


def _finding(context: Context, message: str, key: str, severity: Severity = Severity.ERROR) -> Finding:
    return Finding(
        message=message,
        severity=severity,
        location=in_lock(context.repo.root, f"behaviour.{key}"),
        fix="recover with more data or more steps, or train an aLoRA from scratch with zoo train",
    )


EVIDENCE_CHECKS = (
    Check(code="ZL004", title="The base's weights are those recorded", run=_weights_recorded,
          requires=("ZL001",), needs=frozenset({Need.TORCH}), unless=foreign),
    Check(code="ZB001", title="The adapter does its task", run=_behaviour, requires=("ZL001",)),
)  # fmt: skip
