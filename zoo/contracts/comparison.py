"""Two contracts side by side: the verdict, whether the version honours it, and both as text and as data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zoo.contracts.compare import Change, changes
from zoo.contracts.contract import Contract
from zoo.contracts.version import Verdict, Version, demanded, honours
from zoo.errors import RefusedError

COMPARISON_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What changed from one contract to another.

    Attributes:
        old: the one before.
        new: the one after.
        changes: every difference, the breaking ones first.
    """

    old: Contract
    new: Contract
    changes: Sequence[Change]

    @classmethod
    def of(cls, old: Contract, new: Contract) -> "Comparison":
        """Compares two contracts."""
        return cls(old=old, new=new, changes=changes(old, new))

    @property
    def verdict(self) -> Verdict:
        """The gravest of the changes."""
        if any(change.breaking for change in self.changes):
            return "breaking"
        return "compatible" if self.changes else "identical"

    @property
    def summary(self) -> str:
        """The gravest changes in a few words, for a message."""
        grave = [one for one in self.changes if one.breaking] or list(self.changes)
        more = f", and {len(grave) - 3} more" if len(grave) > 3 else ""
        return "; ".join(f"{one.part} {one.place} {one.what}" for one in grave[:3]) + more

    def check(self) -> None:
        """Does nothing when the new version's number honours the verdict.

        Raises:
            RefusedError: ZO200 a breaking change in a version that promises none, ZO201 a change in a version
                that is not higher, ZO202 a breaking change where a version is not known.
        """
        old, new = Version.parse(self.old.version), Version.parse(self.new.version)
        breaking = self.verdict == "breaking"
        verb = "breaks" if breaking else "changes"
        what = f"{self.new.where} {verb} the contract of {self.old.where} ({self.summary})"
        if old is None or new is None:
            if breaking:
                nameless = self.old.where if old is None else self.new.where
                raise RefusedError(
                    f"{what}, and {nameless} has no version that could say so",
                    code="ZO202",
                    hint="give both a zoo.yaml with a version",
                )
        elif not honours(old, new, self.verdict):
            raise RefusedError(
                f"{what}, and a step from version {old} to {new} does not say so",
                code="ZO200" if breaking else "ZO201",
                hint=f"set `version` in zoo.yaml to {demanded(old, self.verdict)} or higher, or undo it",
            )

    def lines(self) -> list[str]:
        """The comparison for people, a line a fact."""
        count = len(self.changes)
        said = {
            "identical": "identical",
            "compatible": f"compatible: {count} change{'s' if count != 1 else ''}, none breaking",
            "breaking": f"breaking: {sum(one.breaking for one in self.changes)} of {count} "
            f"change{'s' if count != 1 else ''}",
        }
        versions = " → ".join(one.version or "no version" for one in (self.old, self.new))
        return [
            f"old        {self.old.where}",
            f"new        {self.new.where}",
            f"version    {versions}",
            f"contract   {said[self.verdict]}",
            *_table(self.changes),
        ]

    def document(self) -> dict[str, Any]:
        """The comparison as plain data, format 1."""
        try:
            self.check()
            refused = None
        except RefusedError as error:
            refused = {"code": error.code, "message": error.message, "hint": error.hint}
        return {
            "format": COMPARISON_FORMAT,
            "verdict": self.verdict,
            "old": {"where": self.old.where, "version": self.old.version or None},
            "new": {"where": self.new.where, "version": self.new.version or None},
            "refused": refused,
            "changes": [
                {
                    "part": one.part,
                    "place": one.place,
                    "breaking": one.breaking,
                    "what": one.what,
                    "old": one.old or None,
                    "new": one.new or None,
                }
                for one in self.changes
            ],
        }


def _table(rows: Sequence[Change]) -> list[str]:
    cells = [
        (
            "breaking" if one.breaking else "compatible",
            one.part,
            one.place,
            one.what + (f": {one.old or '–'} → {one.new or '–'}" if one.old or one.new else ""),
        )
        for one in rows
    ]
    widths = [max((len(row[column]) for row in cells), default=0) for column in range(3)]
    return [
        "  " + "  ".join(text.ljust(width) for text, width in zip(row, [*widths, 0], strict=True)).rstrip()
        for row in cells
    ]
