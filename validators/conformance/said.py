"""Small pieces that every conformance check says its findings and measurements with."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from zoo.adapter import WEIGHTS_NAME
from zoo.errors import UndecidedError
from zoo.report import Finding, Location, Severity
from zoo.validators.check import Context, Measurement
from zoo.validators.conformance.difference import worst

if TYPE_CHECKING:
    from zoo.validators.conformance.evidence import PromptEvidence, WholeRuns
    from zoo.validators.conformance.kv import KvDifference


def not_activated(context: Context) -> str:
    """Why there is nothing to run: the adapter has no invocation ids; else an empty string."""
    return "" if context.repo.config.is_activated else "the adapter has no invocation tokens: a plain LoRA"


def measured(name: str, value: float) -> Measurement:
    """A measurement, rounded to what means something; what is not finite is said in words."""
    return Measurement(name=name, value=float(f"{value:.4g}") if math.isfinite(value) else "not finite")


def by_layer(name: str, found: "Iterable[KvDifference | None]", *, layers: int) -> Measurement:
    """The largest difference in each layer over several comparisons; None is one without a difference."""
    largest = [0.0] * layers
    for one in found:
        for layer, value in enumerate(one.by_layer if one else ()):
            largest[layer] = max(largest[layer], value)
    if not all(map(math.isfinite, largest)):
        return Measurement(name=name, value="not finite")
    return Measurement(name=name, value=tuple(float(f"{value:.3g}") for value in largest))


def wrong(message: str, label: str, *, severity: Severity = Severity.ERROR, fix: str = "") -> Finding:
    """A finding about the weights, on the prompt that `label` names."""
    location = Location(file=WEIGHTS_NAME, pointer=label)
    return Finding(message=message, severity=severity, location=location, fix=fix)


def amount(value: float) -> str:
    """A difference for a sentence."""
    return f"{value:.3g}" if math.isfinite(value) else "something that is not finite"


def with_prefix(evidence: "Iterable[PromptEvidence]") -> "list[PromptEvidence]":
    """The prompts that have a prefix to compare.

    Raises:
        UndecidedError: none has one, so nothing before the invocation can be compared.
    """
    found = [one for one in evidence if one.hand_over]
    if not found:
        raise UndecidedError(
            "every prompt begins with the invocation: there is no prefix to compare",
            hint="add a sample to zoo.yaml that has text before the invocation",
        )
    return found


def deterministic(runs: "Iterable[WholeRuns | None]") -> None:
    """Makes sure that a comparison bit by bit means something.

    Raises:
        UndecidedError: the base differs from itself in the very same call.
    """
    found = worst(run.run_to_run for run in runs if run)
    if found.max_abs > 0:
        raise UndecidedError(
            f"the base model differs from itself by {amount(found.max_abs)} between two equal calls: its "
            "kernels are not deterministic here, so nothing can be compared bit by bit",
            hint="zoo validate --attention eager, or another device",
        )
