"""`zoo inspect`: everything about one adapter that can be read off its weights, in one document."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.adapter import AdapterRepo
from zoo.converters.alignment import AlignedPair
from zoo.converters.safe_lora import Projection, document, effects, measure
from zoo.inspection.factors import Factors, Load, read_factors
from zoo.inspection.likeness import Likeness, compare
from zoo.inspection.spectrum import Layer, Spectrum, by_layer, sparkline, spectra, to_document
from zoo.inspection.subject import Subject, describe
from zoo.layouts import CONFIG_NAME
from zoo.progress import Progress, silent
from zoo.render.text import printable
from zoo.validators.conformance.engines import outlook

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was found.

    Attributes:
        subject: the adapter.
        spectra: by module path; empty where it could not be folded.
        engines: what each engine would do with it; empty where it is no PEFT folder.
        likenesses: other adapters compared with it; None when none were asked for.
        safety: alignment of its modules as plain data; None when not asked for.
        safety_lines: the same for people.
    """

    subject: Subject
    spectra: dict[str, Spectrum]
    engines: Sequence[outlook.Row] = ()
    likenesses: Sequence[Likeness] | None = None
    safety: dict[str, Any] | None = None
    safety_lines: Sequence[str] = field(default=())

    @property
    def layers(self) -> list[Layer]:
        """The spectra layer by layer."""
        return by_layer(self.spectra)

    def lines(self) -> list[str]:
        """All of it for people."""
        return [
            *self.subject.lines(),
            *self._spectrum_lines(),
            *self._engine_lines(),
            *self._likeness_lines(),
            *self.safety_lines,
        ]

    def to_document(self) -> dict[str, Any]:
        """All of it as plain data; what was not asked for is null."""
        return {
            **self.subject.to_document(),
            "spectrum": to_document(self.spectra),
            "engines": {
                row.name: {"verdict": row.outlook.verdict, "reason": row.outlook.reason}
                for row in self.engines
                if row.outlook
            },
            "against": None if self.likenesses is None else [one.to_document() for one in self.likenesses],
            "safety": self.safety,
        }

    def _spectrum_lines(self) -> list[str]:
        if not self.layers:
            return []
        width = max(len(layer.name) for layer in self.layers)
        lines = [
            "",
            "update by layer: Frobenius norm, largest singular value, effective rank, singular values",
        ]
        lines += [
            f"  {layer.name:<{width}}  {layer.norm:9.3g}  {layer.largest:9.3g}  {layer.effective_rank:6.1f}  "
            f"{sparkline(layer.shape)}"
            for layer in self.layers
        ]
        return lines

    def _engine_lines(self) -> list[str]:
        alike: dict[outlook.Outlook, list[str]] = {}
        for row in self.engines:
            if row.outlook:
                alike.setdefault(row.outlook, []).append(row.name)
        told = [(", ".join(names), one) for one, names in alike.items()]
        width = max((len(names) for names, _ in told), default=0)
        head = ["", "what engines would do with it (zoo engines says more)"] if told else []
        return [
            *head,
            *(f"  {names:<{width}}  {one.verdict}: {printable(one.reason)}" for names, one in told),
        ]

    def _likeness_lines(self) -> list[str]:
        if self.likenesses is None:
            return []
        lines = ["", "likeness: cosine of the updates, relative distance, common directions"]
        for one in self.likenesses:
            reason = f"  ({printable(one.reason)})" if one.reason else ""
            numbers = f"{one.cosine:6.3f}  {one.distance:8.2g}  {one.directions:5.2f}"
            shown = " " * 23 if one.verdict == "not compared" else numbers
            lines.append(f"  {one.verdict:<15} {shown}  {printable(str(one.folder))}{reason}")
        return lines if len(lines) > 2 else ["", "likeness: there is no other adapter there"]


def inspect(
    path: Path,
    *,
    base: str = "",
    against: Path | None = None,
    pair: AlignedPair | None = None,
    projection: Projection | None = None,
    progress: Progress = silent,
) -> Inspection:
    """Reads an adapter and says what it is.

    Args:
        path: an adapter folder, a library with one, or a file of weights.
        base: see `read_factors`.
        against: a library to compare with.
        pair: models that define alignment, for Safe LoRA's measure.
        projection: which of its maps; the paper's when None.
        progress: told about long work.

    Raises:
        NotFoundError: no such path, no adapter there, or no such base.
        SpecError: its config is unreadable.
        RefusedError: ZV050 and ZV051, the models do not fit; ZV…, a comparison or an alignment of what cannot
            be folded.
        BaseMissingError: the same of what cannot be read without its base.
    """
    factors = read_factors(path, base=base)
    if factors.refusal and (against is not None or pair is not None):
        raise factors.refusal
    found = spectra(factors.modules, progress=progress)
    safety, lines = (
        _safety(factors, pair, projection or Projection(), progress) if pair is not None else (None, [])
    )
    peft = (factors.source.folder / CONFIG_NAME).is_file() and factors.source.config.peft_type
    return Inspection(
        subject=describe(factors, found),
        spectra=found,
        engines=outlook.rows(AdapterRepo.open(factors.source.folder)) if peft else (),
        likenesses=None if against is None else compare(factors, against, base=base, progress=progress),
        safety=safety,
        safety_lines=lines,
    )


def _safety(
    factors: Factors, pair: AlignedPair, projection: Projection, progress: Progress
) -> tuple[dict[str, Any], list[str]]:
    loaders = {path: _pair_of(load) for path, load in factors.modules.items()}
    found = measure(loaders, pair, projection, progress=progress)
    chosen = projection.chosen({path: one.cosine for path, one in found.items()})
    lines = [
        "",
        f"alignment ({projection.mode}): cosine, norm that the map would leave; * up to the threshold",
    ]
    lines += [
        f"  {'*' if path in chosen else ' '} {one.cosine:8.5f}  {one.ratio:9.3g}  {printable(path)}"
        for path, one in found.items()
    ]
    lines += [f"  {line}" for line in effects(found, chosen, projection)]
    return document(pair, projection, found, chosen), lines


def _pair_of(load: Load) -> "Callable[[], tuple[Tensor, Tensor]]":
    def factors() -> "tuple[Tensor, Tensor]":
        low = load()
        return low.a, low.b * low.scale

    return factors
