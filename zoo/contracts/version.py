"""What a version number promises about the one before it (semver.org 2.0.0, items 4, 7, 8 and 11)."""

import re
from dataclasses import dataclass
from typing import Literal

from zoo.specs.release import SEMVER

Verdict = Literal["identical", "compatible", "breaking"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A semantic version; build metadata after `+` means nothing and is dropped.

    Attributes:
        numbers: major, minor, patch.
        pre: the parts of what follows `-`; empty for a full release.
    """

    numbers: tuple[int, int, int]
    pre: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "Version | None":
        """Reads a version; None where it is none."""
        found = re.match(SEMVER, text)
        if found is None:
            return None
        pre = found[4].removeprefix("-").split(".") if found[4] else []
        return cls(numbers=(int(found[1]), int(found[2]), int(found[3])), pre=tuple(pre))

    @property
    def order(self) -> tuple[object, ...]:
        """Sorts as semver says: a pre-release before its release, numbers before words."""
        parts = [(0, int(one), "") if one.isdigit() else (1, 0, one) for one in self.pre]
        return (self.numbers, not self.pre, parts)

    @property
    def promise(self) -> tuple[int, ...]:
        """What may not stay the same when something breaks: the major; below 1.0.0 the minor with it."""
        major, minor, _ = self.numbers
        return (major,) if major else (0, minor)

    def __str__(self) -> str:
        """As in `zoo.yaml`, without build metadata."""
        numbers = ".".join(map(str, self.numbers))
        return f"{numbers}-{'.'.join(self.pre)}" if self.pre else numbers


def honours(old: Version, new: Version, verdict: Verdict) -> bool:
    """Whether a new version's number says as much as the change did.

    A pre-release promises nothing to its own release, so anything may change between 2.0.0-rc.1 and 2.0.0.

    Args:
        old: the version before.
        new: the version that changed something.
        verdict: what it changed.
    """
    if verdict == "identical":
        return True
    if verdict == "compatible" or (old.pre and old.numbers == new.numbers):
        return old.order < new.order
    return old.promise < new.promise


def demanded(old: Version, verdict: Verdict) -> str:
    """The least version that would honour a change."""
    major, minor, patch = old.numbers
    if verdict == "identical" or old.pre:
        return ".".join(map(str, old.numbers))
    if verdict == "compatible":
        return f"{major}.{minor}.{patch + 1}"
    return f"{major + 1}.0.0" if major else f"0.{minor + 1}.0"
