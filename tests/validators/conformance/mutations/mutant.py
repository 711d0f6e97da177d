"""What a seeded defect is."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

from tests.validators.changes import Breakage

CONSTRUCTED = "constructed"
Family = Literal["adapters", "engines", "caches"]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One defect, where it comes from and which codes have to catch it.

    Attributes:
        id: unique over all families.
        family: what is broken.
        what: one clause: what goes wrong.
        source: who really does that, or `constructed`.
        codes: the checks that must flag it, all of them; others may as well.
        breakage: what is done to a release in order, for an adapter's defect.
        engine: patches PEFT while the block lasts, for an engine's or a cache's.
        release: settings of `LoraConfig` without which the defect would change nothing.
    """

    id: str
    family: Family
    what: str
    source: str
    codes: frozenset[str]
    breakage: Breakage | None = None
    engine: Callable[[], AbstractContextManager[None]] = nullcontext
    release: Mapping[str, Any] = field(default_factory=dict)
