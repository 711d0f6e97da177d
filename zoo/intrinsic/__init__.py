"""Running an intrinsic: an adapter with its contract, on a base model whose cache it shares."""

from zoo.intrinsic.answer import Answer
from zoo.intrinsic.intrinsic import Intrinsic

__all__ = ["Answer", "Intrinsic"]
