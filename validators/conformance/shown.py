"""What one run showed of its engines, so that it is shown once for adapters of one kind."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zoo.provenance import sha256_bytes

if TYPE_CHECKING:
    from zoo.validators.conformance.session import Session


@dataclass(kw_only=True)
class Shown:
    """Facts about the engine itself: on which adapter each was shown.

    Attributes:
        on: the adapter's name by key: what was shown, and a digest of base and kind.
        asked: what was known of each key when it was first asked for; empty for nothing. It is all that an
            adapter's results take from those before it, and is emptied by whoever wants to know.
    """

    on: dict[str, str] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)

    def find(self, what: str, session: "Session") -> str:
        """The adapter that it was shown on; empty while it was shown on none of this kind."""
        key = _key(what, session)
        found = self.on.get(key, "")
        self.asked.setdefault(key, found)
        return found

    def add(self, what: str, session: "Session") -> None:
        """It was shown on this adapter; the first one stays."""
        self.on.setdefault(_key(what, session), session.repo.name)


def said_of(adapter: str) -> str:
    """What a result says that holds for another adapter of its kind."""
    return f"{adapter}, of the same kind, in this run"


def _key(what: str, session: "Session") -> str:
    return f"{what} {sha256_bytes(repr((session.rig.base, session.kind)).encode())}"
