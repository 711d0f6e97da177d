"""What a conversion will do, said before it is done."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from zoo.converters.checkpoint import LoraCheckpoint
from zoo.converters.survey import Survey
from zoo.models import BaseModel
from zoo.prompts import Invocation
from zoo.specs.release import ReleaseSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionPlan:
    """A conversion that was checked and not yet carried out.

    Attributes:
        checkpoint: the source, read and understood.
        base: the base model.
        spec: the `zoo.yaml` of the result.
        invocation: the result's invocation.
        seen: what each adapted module was found to be.
        folds: what is computed.
        config_changes: what the result's config says otherwise than the source's.
        warnings: what the user should look at.
    """

    checkpoint: LoraCheckpoint
    base: BaseModel
    spec: ReleaseSpec
    invocation: Invocation
    seen: Survey
    folds: tuple[str, ...]
    config_changes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def modules(self) -> int:
        """Number of adapted modules."""
        return len(self.seen.modules)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The source's ranks, ascending."""
        return self.seen.ranks

    def lines(self) -> list[str]:
        """The plan for people, one fact a line."""
        return list(self._lines())

    def steps(self) -> list[str]:
        """What the lock records: every line but the inputs, which it records by digest."""
        return [line for line in self._lines() if not line.startswith("input")]

    def to_document(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            "format": self.checkpoint.format,
            "inputs": dict(self.checkpoint.digests),
            "base": {"id": self.base.id, "revision": self.base.revision or None},
            "invocation": _invocation_document(self.invocation),
            "modules": self.modules,
            "ranks": list(self.ranks),
            "rank": self.ranks[-1],
            "renames": list(self.checkpoint.renames),
            "folds": list(self.folds),
            "config_changes": list(self.config_changes),
            "lost": list(self.checkpoint.lost),
            "warnings": list(self.warnings),
        }

    def _lines(self) -> Iterator[str]:
        revision = f" at {self.base.revision[:12]}" if self.base.revision else ""
        yield f"source      {self.checkpoint.folder.name}, format {self.checkpoint.format}"
        for name, digest in self.checkpoint.digests.items():
            yield f"input       {name} sha256 {digest[:16]}…"
        yield f"base        {self.base.id}{revision}"
        yield f"weights     {self.modules} modules, rank {_span(self.ranks)} → {self.ranks[-1]}"
        for rename in self.checkpoint.renames:
            yield f"rename      {rename}"
        for fold in self.folds:
            yield f"fold        {fold}"
        for change in self.config_changes:
            yield f"config      {change}"
        yield (
            f"invocation  {self.invocation.text!r} → ids {list(self.invocation.ids)}, "
            f"position {self.invocation.position.value}"
        )
        for lost in self.checkpoint.lost or ("nothing",):
            yield f"lost        {lost}"
        for warning in self.warnings:
            yield f"warning     {warning}"


def _span(ranks: tuple[int, ...]) -> str:
    return str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]}–{ranks[-1]}"


def _invocation_document(invocation: Invocation) -> Mapping[str, Any]:
    return {"text": invocation.text, "ids": list(invocation.ids), "position": invocation.position.value}
