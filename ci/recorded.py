"""ZG003: what a lock records of an adapter's answers, against a policy's bounds."""

from zoo.adapter import LOCK_NAME, AdapterRepo
from zoo.errors import ZooError
from zoo.report import Finding, Flagged, Location, Outcome, Passed, Skipped
from zoo.specs.lock import BehaviourRecord
from zoo.specs.policy import Evaluation

_MEASURE = "measure it on held-out data: zoo convert --recover, or zoo train with --eval-data"


def bounds(repo: AdapterRepo, bounds: Evaluation) -> Outcome:
    """Whether what was measured is within bounds; skipped where nobody measured it."""
    behaviour = recorded_behaviour(repo)
    own = behaviour.own_accuracy
    if own is None:
        return Skipped(reason="nobody measured its answers on held-out samples", hint=_MEASURE)
    if lacking := _lacking(repo, behaviour, bounds):
        return Skipped(reason=lacking, hint=_MEASURE)
    measured = {"accuracy": own, "samples": behaviour.samples}
    wanted: list[tuple[str, float | None, float | None]] = [
        ("held-out samples", behaviour.samples, bounds.samples),
        ("accuracy", own, bounds.accuracy),
    ]
    if bounds.above_trivial is not None and behaviour.trivial is not None:
        wanted.append(
            ("accuracy above the commonest answer's", own - behaviour.trivial, bounds.above_trivial)
        )
    agreement = behaviour.agreement.get(behaviour.own_column)
    if agreement is not None:
        wanted.append(("agreement with the source LoRA", agreement, bounds.agreement))
    place = Location(file=LOCK_NAME, pointer="behaviour")
    findings = [
        Finding(message=f"{what}: {value:.4g}, and {least:.4g} is demanded", location=place, fix=_MEASURE)
        for what, value, least in wanted
        if least is not None and value is not None and not value >= least
    ]
    return Flagged(findings=findings, measured=measured) if findings else Passed(measured=measured)


def _lacking(repo: AdapterRepo, behaviour: BehaviourRecord, bounds: Evaluation) -> str:
    """Which demanded figure is not recorded; empty where all are. What is not there is not within bounds."""
    lock = repo.lock
    if lock and lock.on_invented and (bounds.accuracy is not None or bounds.above_trivial is not None):
        return "it was measured on invented requests alone: that accuracy is agreement with the source LoRA"
    if bounds.above_trivial is not None and behaviour.trivial is None:
        return "the accuracy of the commonest answer is not recorded"
    converted = lock is not None and lock.conversion is not None
    if bounds.agreement is not None and converted and behaviour.own_column not in behaviour.agreement:
        return "its agreement with the source LoRA is not recorded"
    return ""


def recorded_behaviour(repo: AdapterRepo) -> BehaviourRecord:
    """What the lock says; unverified where there is none that can be read."""
    try:
        return repo.lock.behaviour if repo.lock else BehaviourRecord()
    except ZooError:  # ZL001 says it
        return BehaviourRecord()
