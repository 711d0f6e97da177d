"""What a publication came to, and the comparison that ends it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zoo.adapter import CARD_NAME
from zoo.errors import VerdictError
from zoo.provenance import sha256_file
from zoo.publishing.plan import KEPT, ReleasePlan

Outcome = Literal["planned", "published", "completed", "unchanged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a publication came to.

    Attributes:
        outcome: `planned` in a dry run; `published`; `completed` where an earlier run had already written the
            files; `unchanged` where this version was there entirely.
        plan: what was to be done.
        where: a URL, or a folder's path.
        commit: the commit with the release; empty for a folder or a dry run.
        tag: the tag that names it; empty for a folder or a dry run.
        verified: sha256 by path of what was read back from the target and found equal.
        also: what else holds by now, a line each: its collection, what it supersedes.
    """

    outcome: Outcome
    plan: ReleasePlan
    where: str
    commit: str = ""
    tag: str = ""
    verified: Mapping[str, str]
    also: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The result for people, a line each."""
        if self.outcome == "planned":
            return ["dry run: nothing was written"]
        words = {
            "published": "published",
            "completed": "completed what an earlier run had begun",
            "unchanged": "already published",
        }
        lines = [f"{words[self.outcome]}: {self.where}"]
        if self.commit:
            lines.append(f"  commit     {self.commit}")
            lines.append(f"  tag        {self.tag}")
        lines.append(f"  verified   {len(self.verified)} files read back, every sha256 equal")
        return [*lines, *(f"  {line}" for line in self.also)]

    def document(self) -> dict[str, Any]:
        """The result as plain data."""
        return {
            "outcome": self.outcome,
            "where": self.where,
            "commit": self.commit or None,
            "tag": self.tag or None,
            "verified": dict(sorted(self.verified.items())),
            "also": list(self.also),
            "plan": self.plan.document(),
        }


def read_back(stage: Path, found: Path, where: str, *, card: bool = True) -> dict[str, str]:
    """Compares a release as it was read back from its target with the stage it came from.

    Args:
        stage: what was sent.
        found: what is there now.
        where: names the target in an error.
        card: whether the card counts; it may have been edited at the target since.

    Returns:
        sha256 by path.

    Raises:
        VerdictError: ZH004, a file is missing, added or different.
    """
    wanted = {
        path.relative_to(stage).as_posix(): sha256_file(path) for path in stage.rglob("*") if path.is_file()
    }
    present = {
        path.relative_to(found).as_posix(): sha256_file(path) for path in found.rglob("*") if path.is_file()
    }
    present.pop(KEPT, None)
    if not card:
        wanted.pop(CARD_NAME, None)
        present.pop(CARD_NAME, None)
    wrong = sorted(name for name in {*wanted, *present} if wanted.get(name) != present.get(name))
    if wrong:
        raise VerdictError(
            f"{where} is not what was sent: {', '.join(wrong[:4])}",
            code="ZH004",
            hint="do not use that version; publish a new one and look at who else writes there",
        )
    return wanted
