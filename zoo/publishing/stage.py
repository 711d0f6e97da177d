"""A release made ready in a folder of its own: copied, checked afresh, with evidence and card.

What is published is what was checked: the checks run on the copy, and nothing touches it between.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from zoo.adapter import (
    BOM_NAME,
    CARD_NAME,
    LOCK_NAME,
    MADE,
    RELEASE_NAME,
    SIGNATURES,
    VECTORS_NAME,
    AdapterRepo,
)
from zoo.attestation.bom import billed, payload_and_lock, write_bill
from zoo.attestation.signing import Signing
from zoo.attestation.statement import dump_statement, signed_digests, statement, subjects
from zoo.cards.card import recorded_report, render_card
from zoo.errors import DefectError, NotFoundError, RefusedError, SpecError, UndecidedError, ZooError
from zoo.hub.address import Address, tag_of
from zoo.progress import Progress, silent
from zoo.provenance import MAX_FILE_BYTES, OUTSIDE_PAYLOAD, folder_digest, payload_digests, sha256_bytes
from zoo.publishing.example import worked_example
from zoo.publishing.identity import by_another_zoo, same_release
from zoo.render.json import to_document
from zoo.report import Crashed, Flagged, Report, Severity, Skipped
from zoo.specs.document import MAX_DOCUMENT_BYTES, check
from zoo.specs.lock import Lock, dump_lock
from zoo.specs.release import ReleaseSpec
from zoo.staging import remove_leftovers
from zoo.validators.conformance.shipped_file import parse, same_numbers
from zoo.validators.folder import entries
from zoo.validators.record import write_vectors
from zoo.validators.validate import Settings, Validation

ReadPublished = Callable[[str], bytes | None]  # a published file by its path; None where there is none


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedRelease:
    """A release that passed, ready to be published.

    Attributes:
        folder: holds exactly the files to publish.
        hub_id: `org/name[/folder]` that its card speaks of; empty for a local folder.
        spec: its `zoo.yaml`.
        lock: its `zoo.lock.json`, evidence included.
        signer: whose signature it carries; None is nobody's.
    """

    folder: Path
    hub_id: str
    spec: ReleaseSpec
    lock: Lock
    signer: Signing | None = None

    @property
    def place(self) -> str:
        """The folder in the repository; empty for its top and for a local folder."""
        return Address.target(self.hub_id).folder if self.hub_id else ""

    @property
    def tag(self) -> str:
        """The tag of its version."""
        return tag_of(self.hub_id, self.spec.version)

    @property
    def payload_sha256(self) -> str:
        """One digest over the payload."""
        return folder_digest(payload_digests(self.folder))

    @property
    def evidence_sha256(self) -> str:
        """Digest of the evidence's JSON form."""
        return sha256_bytes(json.dumps(self.lock.evidence, sort_keys=True, ensure_ascii=False).encode())

    def same_release(self, other: Lock) -> bool:
        """Whether another lock is of this very release; see `zoo.publishing.identity`."""
        return same_release(self.lock, other)

    def adopt(self, lock: Lock, read: ReadPublished) -> "StagedRelease":
        """Takes over the evidence and the vectors under which this very release is published already.

        What another zoo wrote, perhaps otherwise, is taken over as it stands, if it names these files.

        Args:
            lock: the published one.
            read: reads another published file.

        Raises:
            DefectError: it is another release's.
            RefusedError: ZH002, the published vectors are not this release's to within their own tolerance.
        """
        if not self.same_release(lock):
            raise DefectError("evidence of another release was about to be taken over")
        wanted = lock.files.get(VECTORS_NAME)
        if wanted != self.lock.files.get(VECTORS_NAME):
            content = read(VECTORS_NAME)
            if content is None or sha256_bytes(content) != wanted or not self._same_vectors(content):
                raise RefusedError(
                    f"version {self.spec.version} is published with another {VECTORS_NAME}",
                    code="ZH002",
                    hint="a published version does not change: raise `version` in zoo.yaml",
                )
            (self.folder / VECTORS_NAME).write_bytes(content)
        adopted = finish(self.folder, lock, hub_id=self.hub_id)
        if by_another_zoo(self.lock, lock):
            for name in (LOCK_NAME, BOM_NAME):
                self._adopt_written(name, read(name))
        self._adopt_signatures({name: read(name) for name in SIGNATURES})
        return replace(adopted, signer=self.signer)

    def _adopt_written(self, name: str, published: bytes | None) -> None:
        """Keeps a published file's own bytes; what is not of this release will be found different."""
        path = self.folder / name
        if published is not None and (
            parse_lock(published) == parse_lock(path.read_bytes())
            if name == LOCK_NAME
            else billed(published).get("files") == payload_and_lock(self.folder)
        ):
            path.write_bytes(published)

    def _adopt_signatures(self, published: Mapping[str, bytes | None]) -> None:
        """A published version keeps its signatures, or its lack of any; who signs now must be who signed."""
        for name, content in published.items():
            (self.folder / name).unlink(missing_ok=True)  # of the signature over what was just measured
            if content is not None:
                (self.folder / name).write_bytes(content)
        own = published[self.signer.name] if self.signer is not None else None
        if self.signer is not None and (own is None or not self._signed(own, self.signer)):
            whose = "without such a signature" if own is None else "with another signature"
            raise RefusedError(
                f"version {self.spec.version} is published {whose}",
                code="ZH002",
                hint="a published version does not change: raise `version` in zoo.yaml",
            )

    def _signed(self, published: bytes, signer: Signing) -> bool:
        try:
            return subjects(signer.verify(published)) == signed_digests(self.folder)
        except (RefusedError, SpecError):
            return False

    def _same_vectors(self, content: bytes) -> bool:
        try:
            return same_numbers(parse(self.folder.joinpath(VECTORS_NAME).read_bytes()), parse(content))
        except (RefusedError, SpecError):
            return False


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yields a private temporary folder; those of killed runs are removed."""
    home = Path(tempfile.gettempdir()) / "zoo-publish"
    remove_leftovers(home)
    with tempfile.TemporaryDirectory(
        prefix=f".{home.name}.zoo-{os.getpid()}-", ignore_cleanup_errors=True
    ) as name:
        yield Path(name)


def stage_release(
    source: Path,
    stage: Path,
    *,
    hub_id: str = "",
    base: str = "",
    device: str = "cpu",
    signer: Signing | None = None,
    progress: Progress = silent,
) -> StagedRelease:
    """Copies a release folder, checks the copy, and completes it with evidence and card.

    Args:
        source: a release folder, or a library folder with one; it is only read.
        stage: an empty folder.
        hub_id: `org/name[/folder]` for the card.
        base: see `zoo.validators.validate.validate`.
        device: torch device.
        signer: of `zoo.attestation.envelope`; None signs nothing.
        progress: told about the checks.

    Raises:
        NotFoundError: no adapter there, or no `zoo.yaml` or `zoo.lock.json`.
        RefusedError: ZH001 the checks failed; ZH011 a link; ZH014 it cannot answer its own sample request.
        UndecidedError: ZH001, not everything was checked.
        DefectError: a check crashed.
        SpecError: a file breaks its specification.
    """
    repo = AdapterRepo.open(source)
    for name in (RELEASE_NAME, LOCK_NAME):
        if not (repo.root / name).is_file():
            raise NotFoundError(
                f"{repo.root} is not a release: it holds no {name}",
                hint="make a release folder with zoo convert or zoo train",
            )
    copy_payload(repo.root, stage)
    staged = AdapterRepo.open(stage)
    if staged.release is None or staged.lock is None:
        raise DefectError("the stage lost its zoo.yaml or its lock")
    recorded = {name: digest for name, digest in staged.lock.files.items() if name in MADE}
    present = {name: digest for name, digest in payload_digests(stage).items() if name not in MADE}
    lock = staged.lock.model_copy(update={"files": recorded | present, "evidence": None})
    (stage / LOCK_NAME).write_text(dump_lock(lock), encoding="utf-8")
    report = _checked(stage, staged.release, base=base, device=device, progress=progress)
    written = AdapterRepo.open(stage).lock or lock  # the check has added the vectors
    example = worked_example(stage, base=base, device=device)
    complete = written.model_copy(update={"evidence": to_document(report), "example": example})
    return finish(stage, complete, hub_id=hub_id, signer=signer)


def copy_payload(source: Path, stage: Path) -> None:
    """Copies a release's files: everything but the card, which is made anew.

    Raises:
        RefusedError: ZH011, one is a symbolic link or has a second name, which could publish any file of this
            machine; ZF004, too many files or too large ones.
    """
    for entry in entries(source):
        if entry.kind != "file" or entry.names > 1:
            raise RefusedError(
                f"{entry.name} is a link or a special file", code="ZH011", hint="put the file itself there"
            )
        if entry.hollow or entry.size_bytes > MAX_FILE_BYTES:
            raise RefusedError(
                f"{entry.name} claims {entry.size_bytes:,} bytes", code="ZF004", hint="save the weights again"
            )
        if entry.name == LOCK_NAME or entry.name not in OUTSIDE_PAYLOAD:
            (stage / entry.name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / entry.name, stage / entry.name)


def finish(stage: Path, lock: Lock, *, hub_id: str, signer: Signing | None = None) -> StagedRelease:
    """Writes the lock with its evidence, and what follows from it: card, bill of materials, signature.

    Raises:
        SpecError: the evidence is no report.
    """
    (stage / LOCK_NAME).write_text(dump_lock(lock), encoding="utf-8")
    repo = AdapterRepo.open(stage)  # reads the lock as written: the card that anybody can make from it again
    card = render_card(repo, recorded_report(repo), hub_id=hub_id)
    (stage / CARD_NAME).write_text(card, encoding="utf-8")
    if repo.release is None:
        raise DefectError("the stage lost its zoo.yaml")
    write_bill(stage, lock, repo.release, hub_id=hub_id)
    if signer is not None:
        (stage / signer.name).write_bytes(signer.sign(dump_statement(statement(stage, lock))))
    return StagedRelease(folder=stage, hub_id=hub_id, spec=repo.release, lock=lock, signer=signer)


def parse_lock(raw: bytes) -> Lock | None:
    """A lock that somebody else may have written; None where it is none."""
    if len(raw) > MAX_DOCUMENT_BYTES:
        return None
    try:
        return check(json.loads(raw), Lock, name=LOCK_NAME)
    except (ValueError, RecursionError, SpecError):
        return None


def validate(stage: Path, *, base: str, device: str, progress: Progress) -> Report:
    """Writes the vectors that the stage lacks, and checks the whole with one loaded base.

    Vectors that came with the source stay: a publication does not replace what an author has checked.

    Raises:
        UndecidedError: all is well but for the vectors, which could not be written.
    """
    settings = Settings(base=base, device=device)
    validation = Validation.open(stage, settings, progress=progress)
    lacking = "" if (stage / VECTORS_NAME).exists() else write_vectors(validation.context)
    report = validation.report(list(validation))
    validation.close()
    if lacking and report.status() == "passed":
        raise UndecidedError(lacking, code="ZH001", hint="add a short sample to zoo.yaml")
    return report


def _checked(stage: Path, spec: ReleaseSpec, *, base: str, device: str, progress: Progress) -> Report:
    report = validate(stage, base=base, device=device, progress=progress)
    status = report.status()
    if status != "passed":
        raise _refusal(spec.name, report)
    # The temporary path and the clock do not belong into a release: the same input gives the same bytes.
    results = [replace(result, seconds=0.0) for result in report.results]
    return replace(report, subject=spec.name, results=results)


def _refusal(name: str, report: Report) -> ZooError:
    failed, undecided, crashed = [], [], []
    for result in report.results:
        match result.outcome:
            case Flagged(severity=Severity.ERROR, findings=findings):
                failed.append(f"{result.code} ({findings[0].message})")
            case Skipped(reason=reason) if result.code not in report.allowed_skips:
                undecided.append(f"{result.code} ({reason})")
            case Crashed(error=error):
                crashed.append(f"{result.code} ({error})")
            case _:
                pass
    status = report.status()
    if status == "crashed":
        return DefectError(f"{name} is not published: checks crashed: {_some(crashed)}", code="ZH001")
    if status == "failed":
        hint = "zoo validate shows everything, zoo explain CODE says how to fix it"
        return RefusedError(f"{name} is not published: it failed {_some(failed)}", code="ZH001", hint=hint)
    return UndecidedError(
        f"{name} is not published: not everything was checked: {_some(undecided) or 'no check ran'}",
        code="ZH001",
        hint="make these checks run, or allow them in zoo.yaml under gate.allowed_skips with a reason",
    )


def _some(problems: list[str]) -> str:
    rest = f", and {len(problems) - 4} more" if len(problems) > 4 else ""
    return "; ".join(problems[:4]) + rest
