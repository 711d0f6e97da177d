"""Small pieces that every conformance check says its findings and measurements with."""

import math
from collections.abc import Iterable

from zoo.adapter import WEIGHTS_NAME
from zoo.errors import UndecidedError
from zoo.report import Finding, Location, Severity
from zoo.validators.check import Context, Measurement
from zoo.validators.conformance.evidence import PromptEvidence


def not_activated(context: Context) -> str:
    """Why there is nothing to run: the adapter has no invocation ids; else an empty string."""
    return "" if context.repo.config.is_activated else "the adapter has no invocation tokens: a plain LoRA"


def measured(name: str, value: float) -> Measurement:
    """A measurement, rounded to what means something; what is not finite is said in words."""
    return Measurement(name=name, value=float(f"{value:.4g}") if math.isfinite(value) else "not finite")


def wrong(message: str, label: str, *, severity: Severity = Severity.ERROR, fix: str = "") -> Finding:
    """A finding about the weights, on the prompt that `label` names."""
    location = Location(file=WEIGHTS_NAME, pointer=label)
    return Finding(message=message, severity=severity, location=location, fix=fix)


def amount(value: float) -> str:
    """A difference for a sentence."""
    return f"{value:.3g}" if math.isfinite(value) else "something that is not finite"


def with_prefix(evidence: Iterable[PromptEvidence]) -> list[PromptEvidence]:
    """The prompts that have a prefix to compare.

    Raises:
        UndecidedError: none has one, so nothing before the invocation can be compared.
    """
    found = [one for one in evidence if one.prompt.start > 0]
    if not found:
        raise UndecidedError(
            "every prompt begins with the invocation: there is no prefix to compare",
            hint="add a sample to zoo.yaml that has text before the invocation",
        )
    return found
