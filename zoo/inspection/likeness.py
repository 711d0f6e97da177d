"""Which adapters of a library resemble one: the same update under other factors, scaled, or nearly the same.

Compared are updates, not files: factors are only one of many ways to write one. All of it comes from the
factors; no `out x in` matrix is formed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.converters.canonical import Canonical, canonical, overlap
from zoo.errors import ZooError
from zoo.inspection.factors import Factors, Load, read_factors
from zoo.layouts import placements
from zoo.progress import Progress, silent

if TYPE_CHECKING:
    from torch import Tensor

SAME = 5e-3  # relative distance; storing factors in bfloat16 alone makes 2.3e-3
PARALLEL = 1 - 1e-4  # cosine of a copy with another scale
NEAR = 0.8  # cosine, or shared directions, of what is worth a look

Verdict = Literal[
    "same update", "scaled copy", "near-duplicate", "same directions", "unrelated", "not compared"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """How one adapter of the library compares with the adapter in question.

    Attributes:
        folder: where it is.
        verdict: the kind of likeness.
        cosine: between the two updates as one long vector each.
        distance: norm of their difference over the norm of the adapter in question.
        directions: share of input and output directions that they have in common, 0 to 1, norm-weighted.
        shared: modules that both adapt.
        reason: why it was not compared, or what else to know.
    """

    folder: Path
    verdict: Verdict
    cosine: float = 0.0
    distance: float = math.inf
    directions: float = 0.0
    shared: int = 0
    reason: str = ""

    def to_document(self) -> dict[str, Any]:
        """As plain data; a distance that is not known is null."""
        return {
            "folder": str(self.folder),
            "verdict": self.verdict,
            "cosine": self.cosine,
            "distance": self.distance if math.isfinite(self.distance) else None,
            "directions": self.directions,
            "shared_modules": self.shared,
            "reason": self.reason,
        }


def compare(
    subject: Factors, library: Path, *, base: str = "", progress: Progress = silent
) -> list[Likeness]:
    """Every other adapter of a library against one, most alike first.

    Args:
        subject: the adapter in question; left out where the library holds it.
        library: a folder with adapters in a known layout.
        base: for adapters that cannot be read without one.
        progress: told about each adapter.

    Raises:
        NotFoundError: there is no such folder.
    """
    own = {path: _canonical(load) for path, load in subject.modules.items()}
    folders = [place.folder for place in placements(library)]
    others = [folder for folder in folders if folder.resolve() != subject.source.folder.resolve()]
    found = []
    for done, folder in enumerate(others, start=1):
        found.append(_one(own, folder, base))
        progress("compare", done=done, total=len(others))
    order = {"not compared": 1}
    return sorted(found, key=lambda one: (order.get(one.verdict, 0), one.distance, -abs(one.cosine)))


def _one(own: Mapping[str, Canonical], folder: Path, base: str) -> Likeness:
    try:
        other = read_factors(folder, base=base)
        if other.refusal:
            raise other.refusal
        return alike(own, other.modules, folder)
    except ZooError as error:
        return Likeness(folder=folder, verdict="not compared", reason=error.message)


def alike(own: Mapping[str, Canonical], modules: Mapping[str, Load], folder: Path) -> Likeness:
    """Compares two updates of any modules.

    Args:
        own: canonical forms by module path.
        modules: of the other adapter.
        folder: where that one is.
    """
    size = sum(form.norm**2 for form in own.values())
    other_size = product = weighted = 0.0
    shared = 0
    for path, load in modules.items():
        form = _canonical(load)
        other_size += form.norm**2
        mine = own.get(path)
        if mine is None:
            continue
        if (mine.u.shape[0], mine.v.shape[0]) != (form.u.shape[0], form.v.shape[0]):
            reason = f"{path} has another shape: another base"
            return Likeness(folder=folder, verdict="unrelated", reason=reason)
        shared += 1
        product += float(((_left(mine).T @ _left(form)) * (mine.v.T @ form.v)).sum())
        common = math.sqrt(overlap(mine.u, form.u) * overlap(mine.v, form.v))
        weighted += common * mine.norm**2
    if not size or not other_size:
        reason = "one of them changes nothing"
        return Likeness(folder=folder, verdict="unrelated", shared=shared, reason=reason)
    cosine = product / math.sqrt(size * other_size)
    distance = math.sqrt(max(size + other_size - 2 * product, 0.0) / size)
    directions = weighted / size
    return Likeness(
        folder=folder,
        verdict=_verdict(cosine, distance, directions),
        cosine=cosine,
        distance=distance,
        directions=directions,
        shared=shared,
        reason="" if shared == len(own) == len(modules) else "they adapt different modules",
    )


def _verdict(cosine: float, distance: float, directions: float) -> Verdict:
    if distance <= SAME:
        return "same update"
    if abs(cosine) >= PARALLEL:
        return "scaled copy"
    if cosine >= NEAR:
        return "near-duplicate"
    return "same directions" if directions >= NEAR else "unrelated"


def _canonical(load: Load) -> Canonical:
    low = load()
    return canonical(low.a, low.b, low.scale)


def _left(form: Canonical) -> "Tensor":
    return form.u * form.s
