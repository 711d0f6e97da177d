"""What is published of an adapter, and whether another measurement of it is worse."""

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zoo import hub
from zoo.adapter import LOCK_NAME, RELEASE_NAME, AdapterRepo
from zoo.contracts.contract import Contract, read_contract
from zoo.contracts.source import fetch_contract
from zoo.contracts.version import Version
from zoo.errors import NotFoundError, SpecError, ZooError
from zoo.evaluation.intervals import Z
from zoo.hub.adapter import open_adapter
from zoo.hub.address import Address
from zoo.report import Finding, Flagged, Location, NotApplicable, Outcome, Passed, Skipped
from zoo.specs.document import MAX_DOCUMENT_BYTES, read_json, read_yaml
from zoo.specs.lock import BehaviourRecord, Lock
from zoo.specs.release import ReleaseSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A published release as far as a gate looks at it.

    Attributes:
        where: `org/name[/folder]@tag`.
        behaviour: the measurement recorded there.
        contract: what it promises; None where no file says it.
        release: its `zoo.yaml`; None when there is none.
        files: sha256 of every payload file by path, as its lock says.
    """

    where: str
    behaviour: BehaviourRecord
    contract: Contract | None = None
    release: ReleaseSpec | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, name: str) -> "Published":
        """Reads the small files of the highest version at a place on the Hub.

        Args:
            name: `org/name[/folder]`.

        Raises:
            NotFoundError: no such repository, no version in it, or no lock in that.
            UsageError: it is no place on the Hub.
            SpecError: ZL001 or another code, a published file is not what its name says.
            HubError: ZH007 no access, ZH008 no answer.
        """
        place = Address.target(name)
        tags = hub.read_tags(place.repo)
        versions = [(known.order, tag) for tag in tags if (known := Version.parse(place.version(tag)))]
        if not versions:
            raise NotFoundError(f"{name} has no published version", hint="zoo publish makes one")
        tag = max(versions)[1]
        commit, where = tags[tag], f"{name}@{tag}"
        with tempfile.TemporaryDirectory(prefix="zoo-gate-") as scratch:
            folder = Path(scratch)
            lock = _lock(place, commit, folder, where)
            small = fetch_contract(place.repo, commit, folder, folder=place.folder)
            contract = read_contract(small, where=where) if small else None
            stated = small / RELEASE_NAME if small else folder / RELEASE_NAME
            release = read_yaml(stated, ReleaseSpec, code="ZM001") if stated.is_file() else None
        return cls(
            where=where, behaviour=lock.behaviour, contract=contract, release=release, files=lock.files
        )

    def open(self) -> AdapterRepo:
        """Downloads it into the client's cache.

        Raises:
            HubError: ZH007 no access, ZH008 no answer.
        """
        return open_adapter(self.where)

    def compared_with(self, new: BehaviourRecord, *, allowed_drop: float) -> Outcome:
        """Whether a new measurement is worse than the published one by more than chance and `allowed_drop`.

        Two accuracies on the same held-out file are taken as independent samples, which makes the interval
        wider than a paired one would be: a drop that is flagged is one. On other files they are not compared.

        Args:
            new: of the adapter at the gate.
            allowed_drop: of the accuracy.

        Source: Newcombe 1998, Statistics in Medicine 17, 873-890, method 1 (Wald) for the difference.
        """
        before, after = self.behaviour.own_accuracy, new.own_accuracy
        if before is None:
            return NotApplicable(reason=f"{self.where} records no measurement")
        if after is None:
            return Skipped(
                reason=f"{self.where} was measured ({before:.3f}), and this is not",
                hint="measure it on the same held-out data",
            )
        if new.data_sha256 is None or new.data_sha256 != self.behaviour.data_sha256:
            return Skipped(
                reason=f"that {self.where} was measured on the same data is not recorded: no comparison",
                hint="measure it on the data that the published version was measured on",
            )
        spread = Z * math.sqrt(_variance(before, self.behaviour.samples) + _variance(after, new.samples))
        drop = before - after
        measured = {
            "published_accuracy": before,
            "accuracy": after,
            "drop": drop,
            "drop_half_width_95": spread,
        }
        if drop - spread > allowed_drop:
            said = f"accuracy fell from {before:.3f} ({self.where}) to {after:.3f}, beyond chance"
            return Flagged(
                findings=[Finding(message=said, location=Location(file=LOCK_NAME, pointer="behaviour"))],
                measured=measured,
            )
        return Passed(measured=measured)


class Once:
    """Finds the published version when it is first asked for, and says the same ever after."""

    def __init__(self, find: Callable[[], Published]) -> None:
        """Finds nothing yet."""
        self._find = find
        self._found: Published | ZooError | None = None

    def __call__(self) -> Published:
        """The published version.

        Raises:
            ZooError: as `Published.read`.
        """
        if self._found is None:
            try:
                self._found = self._find()
            except ZooError as error:
                self._found = error
        if isinstance(self._found, ZooError):
            raise self._found
        return self._found


def _lock(place: Address, commit: str, folder: Path, where: str) -> Lock:
    path = place.within(LOCK_NAME)
    if hub.sizes(place.repo, [path], commit).get(path, 0) > MAX_DOCUMENT_BYTES:
        raise SpecError(f"{LOCK_NAME} of {where} is larger than any lock", code="ZL001")
    raw = hub.read_file(place.repo, path, commit, folder / "lock")
    if raw is None:
        raise NotFoundError(f"{where} has no {LOCK_NAME}")
    (folder / LOCK_NAME).write_bytes(raw)
    return read_json(folder / LOCK_NAME, Lock, code="ZL001")


def _variance(share: float, samples: int) -> float:
    """Of a share over so many samples; never zero, which a share of 0 or 1 would make it."""
    smoothed = (share * samples + 1) / (samples + 2)  # Laplace's rule
    return smoothed * (1 - smoothed) / max(1, samples)
