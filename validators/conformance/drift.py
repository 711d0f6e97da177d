"""Where raw logits leave the base model's."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zoo.validators.conformance.difference import difference, same_bits

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitDrift:
    """Where raw logits first differ from the base's by a bit, and by how much anywhere compared."""

    position: int
    max_abs: float


def logit_drift(found: "Tensor", expected: "Tensor") -> LogitDrift | None:
    """Where logits `[batch, tokens, vocabulary]` first differ by a bit, or None when they never do."""
    same = same_bits(found, expected)
    if bool(same.all()):
        return None
    wrong = (~same).any(dim=-1).any(dim=0)
    return LogitDrift(position=int(wrong.nonzero()[0]), max_abs=difference(found, expected).max_abs)
