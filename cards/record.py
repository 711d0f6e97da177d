"""Everything a card is made of, read from a release folder once."""

from collections.abc import Mapping
from dataclasses import dataclass

from zoo.adapter import IO_NAME, NOTES_NAME, AdapterRepo
from zoo.contracts.contract import Contract, read_contract
from zoo.errors import NotFoundError, RefusedError
from zoo.hub.address import Address, tag_of
from zoo.pictures import cost, evaluation, training
from zoo.pictures.canvas import numbers_of
from zoo.provenance import folder_digest, payload_digests
from zoo.report import Report
from zoo.specs.adapter_config import AdapterConfig
from zoo.specs.document import read_bounded
from zoo.specs.lock import BehaviourRecord, Lock
from zoo.specs.release import ReleaseSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRecord:
    """What one card says, as data.

    Attributes:
        release: `zoo.yaml`.
        config: `adapter_config.json`.
        lock: `zoo.lock.json`, or None when zoo has not written one.
        report: the recorded validation of exactly these files, or None.
        files: sha256 by payload file.
        parameters: trained values in the weights file; None when its header cannot be read.
        hub_id: `org/name[/folder]` it is published as; empty for a local folder.
        contract: what `io.yaml` promises; None without one.
        pictures: names of the pictures in the folder that were drawn from this release's own numbers.
        notes: `NOTES.md`, verbatim.
    """

    release: ReleaseSpec
    config: AdapterConfig
    lock: Lock | None
    report: Report | None
    files: Mapping[str, str]
    parameters: int | None
    hub_id: str = ""
    contract: Contract | None = None
    pictures: frozenset[str] = frozenset()
    notes: str = ""

    @property
    def tag(self) -> str:
        """The tag that names this version on the Hub."""
        return tag_of(self.hub_id, self.release.version)

    @property
    def place(self) -> Address:
        """Where on the Hub; asked only of what is published there."""
        return Address.target(self.hub_id)

    @property
    def behaviour(self) -> BehaviourRecord:
        """What was measured of its answers; `unverified` where nothing was recorded."""
        return self.lock.behaviour if self.lock else BehaviourRecord()

    @property
    def own_column(self) -> str:
        """The name of the accuracy column that is this release's own; empty when there is none."""
        return self.behaviour.own_column

    @property
    def on_invented(self) -> bool:
        """Whether that was on invented requests alone."""
        return self.lock is not None and self.lock.on_invented

    @property
    def measured(self) -> bool:
        """Whether this release's own accuracy was measured on held-out samples."""
        behaviour = self.behaviour
        return behaviour.status == "measured" and behaviour.samples > 0 and bool(self.own_column)


def read_record(repo: AdapterRepo, report: Report | None, *, hub_id: str = "") -> CardRecord:
    """Reads a release folder.

    Args:
        repo: the folder.
        report: its validation; it must be about exactly the files that are there now.
        hub_id: `org/name[/folder]` it is published as; empty for a local folder.

    Raises:
        NotFoundError: there is no `zoo.yaml`.
        RefusedError: ZH006, the report is about other files.
        SpecError: a file breaks its specification.
    """
    if repo.release is None:
        raise NotFoundError(
            f"{repo.root} holds no zoo.yaml, which says what the adapter is called and made for",
            hint="make a release folder with zoo convert or zoo train",
        )
    files = payload_digests(repo.root)
    if report is not None and report.digest != folder_digest(files):
        raise RefusedError(
            f"the validation report is not about the files that {repo.root} holds now",
            code="ZH006",
            hint=f"zoo validate {repo.root} --record",
        )
    notes = repo.root / NOTES_NAME
    return CardRecord(
        release=repo.release,
        config=repo.config,
        lock=repo.lock,
        report=report,
        files=files,
        parameters=_parameters(repo),
        hub_id=hub_id,
        pictures=_pictures(repo, files),
        contract=read_contract(repo.root) if (repo.root / IO_NAME).is_file() else None,
        notes=read_bounded(notes).decode("utf-8", "replace") if notes.is_file() else "",
    )


def _parameters(repo: AdapterRepo) -> int | None:
    try:
        return sum(info.elements for info in repo.tensors.tensors.values())
    except (NotFoundError, RefusedError):
        return None


def _pictures(repo: AdapterRepo, files: Mapping[str, str]) -> frozenset[str]:
    """A picture of other numbers than the lock's is left over from an earlier release, or somebody's own."""
    if repo.lock is None:
        return frozenset()
    wanted = {evaluation.EVALUATION_NAME: evaluation.numbers(repo.lock.behaviour)}
    if repo.lock.cost:
        wanted[cost.COST_NAME] = cost.numbers(repo.lock.cost)
    if repo.lock.training:
        wanted[training.TRAINING_NAME] = training.numbers(repo.lock.training)
    return frozenset(
        name for name, digest in wanted.items() if name in files and numbers_of(repo.root / name) == digest
    )
