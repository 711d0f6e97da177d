"""What the measurements in an engine mean: as known, a known deviation, or news.

Tolerance: the noise is what its base differs from ours on the same questions, and from itself when it runs a
prefix first. An engine on float32 copies of our own weights may differ by 16 times that, at least 1e-4 and
at most 1e-3 nats; any other (half precision, quantised, a GGUF file of the user's) by 4 times. The controls
then say whether that can still tell a shifted start.
"""

from collections.abc import Iterable

from zoo.activation import Behaviour, Convention
from zoo.errors import UndecidedError
from zoo.report import Finding, Location, Severity
from zoo.validators.check import Measurement
from zoo.validators.conformance.engines.expectation import RULE
from zoo.validators.conformance.engines.measuring import EngineEvidence, Probe
from zoo.validators.conformance.said import amount, measured

EXACT_MULTIPLE, OTHER_MULTIPLE = 16.0, 4.0
EXACT_LEAST, EXACT_MOST = 1e-4, 1e-3
REUSABLE = 4  # tokens of a prefix from which reuse can be expected
_ELSEWHERE = "do not serve the adapter with this engine"
_REPORT = "the engine has changed: zoo's activation data need an entry for this version"
Said = Iterable[Finding | Measurement]


def base_noise(evidence: EngineEvidence) -> float:
    """The largest difference between the engine's base and ours, in nats."""
    return max(probe.noise for probe in evidence.probes)


def tolerance(evidence: EngineEvidence) -> float:
    """What the engine may differ from the reference by, in nats; see the module."""
    level = max(base_noise(evidence), *(one.noise for one in evidence.handed), 0.0)
    if evidence.exact:
        return min(max(EXACT_MULTIPLE * level, EXACT_LEAST), EXACT_MOST)
    return max(OTHER_MULTIPLE * level, EXACT_LEAST)


def control(evidence: EngineEvidence) -> float:
    """What a start elsewhere would change on the most telling question, in nats."""
    return max(probe.control for probe in evidence.probes)


def allowed_difference(evidence: EngineEvidence) -> float:
    """`tolerance`, where a comparison within it shows something.

    Raises:
        UndecidedError: a start elsewhere would be within it, or the base's answers cannot be compared.
    """
    allowed = tolerance(evidence)
    if not control(evidence) > allowed:
        raise UndecidedError(
            f"its base model is {amount(base_noise(evidence))} nats from ours; a start elsewhere would "
            f"change {control(evidence):.3g}, within the tolerance of {amount(allowed)}: nothing can be told",
            hint="compare in float32 on the same weights: no --gguf, --dtype float32",
        )
    return allowed


def refusal(known: Convention, said: str) -> Finding:
    """ZE001, the engine says no."""
    if known.behaviour is Behaviour.REFUSED:
        return Finding(message=f"known: this engine refuses an aLoRA: {said}", fix=_ELSEWHERE)
    return Finding(message=f"new: it refuses the adapter, which it was known to take: {said}", fix=_REPORT)


def taken(known: Convention) -> Finding | None:
    """ZE001, the engine took an adapter that it was known to refuse."""
    if known.behaviour is not Behaviour.REFUSED:
        return None
    return Finding(message=f"new: it takes an aLoRA, which {known.versions} was known to refuse", fix=_REPORT)


def parity(evidence: EngineEvidence) -> Said:
    """ZE002: under its known convention the engine computes what the reference does."""
    if evidence.exact and base_noise(evidence) > EXACT_MOST:
        yield Finding(
            message=f"its base model is {amount(base_noise(evidence))} nats from ours, in float32 on copies "
            f"of the same weights, more than {EXACT_MOST:g}"
        )
        return
    allowed = allowed_difference(evidence)
    for probe in evidence.probes:
        if not probe.known <= allowed:
            yield _at(
                probe,
                f"{amount(probe.known)} nats from the reference under the engine's known rule, more than "
                f"{allowed:.3g}",
            )
    yield measured("max_abs_log_prob_difference", max(probe.known for probe in evidence.probes))
    yield measured("base_max_abs_log_prob_difference", base_noise(evidence))
    yield measured("tolerance", allowed)
    yield Measurement(name="questions", value=len(evidence.probes))


def rule(evidence: EngineEvidence) -> Said:
    """ZE003: where the engine has the adapter on, against where it should."""
    allowed, convention = allowed_difference(evidence), evidence.convention
    known, news = [], []
    for probe in evidence.probes:
        if not probe.known <= allowed:
            news.append(_at(probe, f"new deviation: {best_match(probe, allowed)}", fix=_REPORT))
        elif probe.deviates and probe.distances[RULE] > allowed:
            known.append(probe)
        elif probe.deviates and probe.control > allowed and probe.distances[RULE] <= allowed:
            news.append(
                _at(probe, "new deviation: it follows the rule, though it was known not to", fix=_REPORT)
            )
    yield from news
    if known:
        yield _known_deviation(known, convention)
    yield measured(
        "from_the_rule_max_abs_log_prob_difference", max(p.distances[RULE] for p in evidence.probes)
    )
    yield Measurement(name="known_convention", value=_in_words(convention))


def best_match(probe: Probe, allowed: float) -> str:
    """Which of the masks that were tried an answer fits, or the nearest when it fits none."""
    name = min(probe.distances, key=probe.distances.__getitem__)
    if probe.distances[name] <= allowed:
        return f"it computes {name}"
    return f"it fits no mask that was tried; nearest is {name}, {amount(probe.distances[name])} nats away"


def _known_deviation(probes: list[Probe], convention: Convention) -> Finding:
    far = amount(max(probe.distances[RULE] for probe in probes))
    where = f"{len(probes)} answers differ from the rule's by up to {far} nats"
    if convention.behaviour is not Behaviour.ACTIVATED:
        return Finding(message=f"known deviation: {convention.behaviour.value}; {where}", fix=_ELSEWHERE)
    if any(probe.misses and not probe.decoded for probe in probes):
        return Finding(
            message=f"known deviation: it misses the invocation and runs the base model; {where}",
            fix=f"choose an invocation whose last id does not occur in it before; until then, {_ELSEWHERE}",
        )
    also = (
        "; it misses the invocation when what follows begins with its last token"
        if any(probe.misses for probe in probes)
        else ""
    )
    return Finding(
        message=f"known deviation: {_in_words(convention)}{also}; {where}",
        severity=Severity.WARNING,
        fix="measure the adapter's quality in this engine before serving it there",
    )


def _in_words(convention: Convention) -> str:
    if convention.behaviour is not Behaviour.ACTIVATED:
        return str(convention.behaviour.value)
    shift = convention.shift
    if not shift:
        return "activates by the rule"
    tokens = "one token" if abs(shift) == 1 else f"{abs(shift)} tokens"
    return f"activates {tokens} {'early' if shift < 0 else 'late'}"


def handed_over(evidence: EngineEvidence) -> Said:
    """ZE004: given the base's prefix first, the engine answers as it does cold."""
    if not evidence.handed:
        raise UndecidedError("every prompt begins with the invocation: there is no prefix to hand over")
    allowed = allowed_difference(evidence)
    for one in evidence.handed:
        if not one.apart <= allowed:
            yield Finding(
                message=f"{one.label}: after the base ran its {one.prefix} tokens of prefix, the adapter's "
                f"answer is {amount(one.apart)} nats from its cold run, more than {allowed:.3g}",
                location=Location(file="", pointer=one.label),
            )
    told = [one for one in evidence.handed if one.reused is not None]
    reused = sum(one.reused or 0 for one in told)
    if told and not reused and any(one.prefix >= REUSABLE for one in told):
        yield Finding(
            message="it reuses nothing of the base's prefix, so the comparison with a cold run shows nothing",
            severity=Severity.WARNING,
        )
    yield measured("handed_over_max_abs_log_prob_difference", max(one.apart for one in evidence.handed))
    yield Measurement(name="reused_tokens", value=reused if told else "the engine does not tell")
    yield Measurement(name="prefix_tokens", value=sum(one.prefix for one in evidence.handed))


def taint(evidence: EngineEvidence) -> Said:
    """ZE005: a warm answer is the cold one, whatever was served before."""
    allowed, convention = allowed_difference(evidence), evidence.convention
    for history, apart in evidence.histories.items():
        yield measured(f"{history.name.lower()}_max_abs_log_prob_difference", apart)
        if apart <= allowed:
            continue
        known = history in convention.taints
        yield Finding(
            message=f"{'known' if known else 'new'} taint: {history.value} is answered {amount(apart)} nats "
            f"from a cold run, more than {allowed:.3g}",
            severity=Severity.WARNING if known else Severity.ERROR,
            location=Location(file="", pointer=history.name.lower()),
            fix=convention.workaround if known else "",
        )


def controls(evidence: EngineEvidence) -> Said:
    """ZE006: the adapter changes this engine's answers, and the comparison could have failed."""
    allowed = allowed_difference(evidence)
    effect = max(probe.effect for probe in evidence.probes)
    yield measured("max_abs_log_prob_effect", effect)
    yield measured("shifted_start_max_abs_log_prob_difference", control(evidence))
    yield measured("tolerance", allowed)
    if evidence.convention.behaviour is not Behaviour.NEVER_ACTIVE and effect <= allowed:
        yield Finding(message=f"the adapter has no effect in it ({amount(effect)} nats)")


def _at(probe: Probe, message: str, *, fix: str = "") -> Finding:
    behind = f" and {probe.decoded} tokens" if probe.decoded else ""
    return Finding(
        message=f"{probe.label}{behind}: {message}", location=Location(file="", pointer=probe.label), fix=fix
    )
