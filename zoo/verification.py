"""Verification of a release as somebody else gets it: files, signature, evidence, card, bill of materials.

Nothing is run and no base model is wanted: what is compared is what the release says of itself with what it
is. `zoo validate --replay` asks the other question, whether it does what its evidence says.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import hub
from zoo.adapter import (
    BOM_NAME,
    CARD_NAME,
    LOCK_NAME,
    MADE,
    PROVENANCE_NAME,
    SIGNATURES,
    SIGSTORE_NAME,
    AdapterRepo,
)
from zoo.attestation.bom import bill, billed, dump_bill
from zoo.attestation.envelope import verify as verify_envelope
from zoo.attestation.statement import signed_digests, subjects
from zoo.cards.card import recorded_report, render_card
from zoo.contracts.version import Version
from zoo.errors import NotFoundError, RefusedError, SpecError, UndecidedError, UsageError
from zoo.hub.address import Address, commit_of
from zoo.layouts import placements
from zoo.provenance import BOOKKEEPING, file_problems, folder_digest, payload_digests
from zoo.publishing.stage import scratch_folder
from zoo.report import Finding, Location, Report, Result, Severity, Skipped
from zoo.specs.document import read_bounded
from zoo.validators.check import Check, Context, Measurement
from zoo.validators.checks.lock import LOCK_CHECKS
from zoo.validators.engine import run_checks
from zoo.validators.folder import entries

if TYPE_CHECKING:
    from securesystemslib.signer._key import Key

    from zoo.attestation.keyless import Identity
    from zoo.specs.lock import Lock

_READ = ("ZL001",)
_DO_NOT_USE = "do not use it; ask its publisher, and take a version that verifies"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is verified.

    Attributes:
        name: as the user gave it.
        folder: with the adapter.
        hub_id: `org/name[/folder]` that its card speaks of; empty for a local folder.
        commit: that was downloaded; empty for a folder.
        tag: that named it; empty when none did.
        place: the folder in the repository, with `/`; empty for its top and for a local folder.
        key: whose signature is wanted; None is nobody's.
        identity: whose keyless signature is wanted; None is nobody's.
        cached: whether the folder is a snapshot in the client's cache, which may hold a part of the release.
    """

    name: str
    folder: Path
    hub_id: str = ""
    commit: str = ""
    tag: str = ""
    place: str = ""
    key: "Key | None" = field(default=None, repr=False)
    identity: "Identity | None" = None
    cached: bool = False

    @cached_property
    def repo(self) -> AdapterRepo:
        """The adapter folder."""
        return AdapterRepo.open(self.folder, commit=self.commit)

    @cached_property
    def unfetched(self) -> list[str]:
        """Recorded files that a cache lacks and no command needs; `zoo run` does not fetch all."""
        try:
            recorded = self.lock.files if self.cached else {}
        except (SpecError, UndecidedError):
            return []  # ZL001 says so
        return [name for name in recorded if name not in MADE and not (self.repo.root / name).exists()]

    @property
    def named_version(self) -> str:
        """The version in the tag: one of this adapter's, or of the whole repository's."""
        own = Address.target(self.hub_id).version(self.tag) if self.hub_id else ""
        return own or self.tag.removeprefix("v")

    @property
    def lock(self) -> "Lock":
        """Its lock, which ZL001 has found readable."""
        if self.repo.lock is None:
            raise UndecidedError(f"no {LOCK_NAME}")
        return self.repo.lock


def verify(
    source: str, *, key: "Key | None" = None, identity: "Identity | None" = None, hub_id: str = ""
) -> Report:
    """Verifies a release.

    Args:
        source: a release folder or a snapshot in the Hub client's cache, else `org/name[/folder][@revision]`,
            which is downloaded afresh, past every cache; with a revision it is never a folder here.
        key: the publisher's public key (`zoo.attestation.envelope.open_public_key`); None leaves a signature
            unverified, which makes the report incomplete.
        identity: who must have signed keylessly (`zoo.attestation.keyless.Identity`); None is nobody.
        hub_id: `org/name[/folder]` that a local folder was published as, of which its card speaks.

    Raises:
        NotFoundError: there is no such folder, repository, tag or adapter.
        UsageError: several adapters lie there, or `hub_id` is given with a place on the Hub.
        HubError: ZH007 no access, ZH008 no answer.
    """
    with _opened(source, hub_id) as found:
        subject = Subject(name=source, key=key, identity=identity, **found)
        results = list(results_of(subject))
        digest = folder_digest(payload_digests(subject.repo.root))
        named = {"commit": subject.commit, "tag": subject.tag, "folder": subject.place}
        environment = {name: value for name, value in named.items() if value}
    return Report(subject=source, digest=digest, results=results, environment=environment)


def results_of(subject: Subject) -> Iterator[Result]:
    """One result a check, as each is known."""
    context = Context(repo=subject.repo, static=True)
    yield from run_checks(context, (LOCK_CHECKS[0], *_checks(subject)))


def _opened(source: str, hub_id: str) -> AbstractContextManager[dict[str, Any]]:
    path, address = Path(source), Address.of_source(source)
    if address is None and (path.exists() or source.startswith((".", "~", "/"))):
        folder = AdapterRepo.open(path).root
        known = _cached_as(folder)
        return nullcontext({"folder": folder, "hub_id": hub_id or known, "cached": bool(known)})
    if address is None:
        raise NotFoundError(
            f"{source} is neither a folder nor a repository", hint="give a folder, or ORG/NAME@v1.2.0"
        )
    if hub_id:
        raise UsageError(f"{source} says where it is published", hint="--repo is for a local folder")
    return _downloaded(address)


@contextmanager
def _downloaded(address: Address) -> Iterator[dict[str, Any]]:
    remote = hub.read_remote(address.repo)
    if not remote.exists:
        raise NotFoundError(f"the Hub has no model repository {address.repo}", hint="check name and access")
    commit = commit_of(remote, address.repo, address.revision)
    tag = address.revision if address.revision in remote.tags else ""
    with scratch_folder() as scratch:
        root = hub.download(address.repo, commit, scratch / "download", below=address.folder)
        if not (root / address.folder).is_dir() or not placements(root / address.folder):
            raise NotFoundError(f"{address} holds no adapter", hint="check the folder and the revision")
        folder = AdapterRepo.open(
            root / address.folder
        ).root  # the only one below, where it is not at the top
        place = folder.relative_to(root).as_posix()
        at = replace(address, folder="" if place == "." else place, revision="")
        yield {"folder": folder, "hub_id": str(at), "commit": commit, "tag": tag, "place": at.folder}


def _cached_as(folder: Path) -> str:
    """`org/name[/folder]` of a place below `models--org--name/snapshots/COMMIT`; empty of any other."""
    for parent in folder.absolute().parents:
        if parent.name == "snapshots" and parent.parent.name.count("--") == 2:
            kind, org, name = parent.parent.name.split("--")
            inside = folder.absolute().relative_to(parent).parts[1:]
            return "/".join((org, name, *inside)) if kind == "models" else ""
    return ""


def _files(subject: Subject, _: Context) -> Iterator[Finding | Measurement]:
    recorded, present = subject.lock.files, payload_digests(subject.repo.root)
    for entry in entries(subject.repo.root):
        if entry.kind != "file":
            yield Finding(
                message=f"{entry.name[:200]} is a link or a special file",
                location=Location(file=entry.name[:200]),
                fix=_DO_NOT_USE,
            )
    for name, problem in file_problems(recorded, present):
        if name not in subject.unfetched:
            yield Finding(
                message=f"{name[:200]} {problem}", location=Location(file=name[:200]), fix=_DO_NOT_USE
            )
    if subject.commit:  # here no git and no client has put them: they came with the release
        for name in sorted(BOOKKEEPING):
            if (subject.repo.root / name).exists():
                yield Finding(message=f"{name} is there, and is never part of a release", fix=_DO_NOT_USE)
    if subject.unfetched:
        raise UndecidedError(
            f"never fetched into this cache: {', '.join(subject.unfetched)[:300]}",
            hint=f"zoo verify {subject.hub_id}@TAG downloads all of it",
        )
    yield Measurement(name="files", value=len(recorded))


def _evidence(subject: Subject, _: Context) -> Iterator[Finding | Measurement]:
    place = Location(file=LOCK_NAME, pointer="evidence")
    report = recorded_report(subject.repo)
    if report is None:
        yield Finding(message="the lock records no validation", location=place, fix="zoo publish records one")
        return
    if report.digest != folder_digest(subject.lock.files):
        yield Finding(message="the recorded validation is about other files", location=place, fix=_DO_NOT_USE)
    allowed = subject.repo.release.gate.allowed_skips if subject.repo.release else {}
    # what may stay unchecked is said in zoo.yaml, for everybody to read, and nowhere else
    if (status := replace(report, allowed_skips=dict(allowed)).status()) != "passed":
        yield Finding(message=f"the recorded validation is {status}", location=place, fix=_DO_NOT_USE)
    elif left := [one.code for one in report.results if isinstance(one.outcome, Skipped)]:
        said = f"its author lets these checks be skipped: {', '.join(left)}"
        yield Finding(
            message=said, severity=Severity.INFO, location=place, fix="read zoo.yaml for the reasons"
        )
    yield Measurement(name="checks", value=len(report.results))


def _signature(subject: Subject, _: Context) -> Iterator[Finding | Measurement]:
    if subject.key is None and subject.identity is None:
        raise UndecidedError(
            "the release is signed, and neither a key nor an identity was given",
            hint="--key publisher.pub, or --identity with --issuer",
        )
    if (key := subject.key) is not None:
        yield from _signed_by(subject, PROVENANCE_NAME, lambda raw: verify_envelope(raw, key))
        yield Measurement(name="key", value=key.keyid)
    if subject.identity is not None:
        yield from _signed_by(subject, SIGSTORE_NAME, subject.identity.verify)
        yield Measurement(name="identity", value=str(subject.identity))


def _signed_by(
    subject: Subject, name: str, verified: Callable[[bytes], dict[str, Any]]
) -> Iterator[Finding | Measurement]:
    """What is wrong with one signature; the statement in it must name exactly the files that are there."""
    path, place = subject.repo.root / name, Location(file=name)
    if not path.is_file():
        what = "a key" if name == PROVENANCE_NAME else "an identity"
        yield Finding(
            message=f"{what} was given, and the release is not signed so", location=place, fix=_DO_NOT_USE
        )
        return
    try:
        found = verified(read_bounded(path))
    except (RefusedError, SpecError) as error:
        yield Finding(message=error.message, location=place, fix=error.hint or _DO_NOT_USE)
        return
    signed, present = subjects(found), signed_digests(subject.repo.root)
    for name in sorted(signed.keys() | present.keys()):
        if signed.get(name) != present.get(name):
            yield Finding(
                message=f"{name[:200]} is not what was signed",
                location=Location(file=name[:200]),
                fix=_DO_NOT_USE,
            )
    yield Measurement(name="files_signed", value=len(signed))


def _unsigned(subject: Subject, _: Context) -> str:
    if subject.key is not None or subject.identity is not None:
        return ""
    signed = any((subject.repo.root / name).is_file() for name in SIGNATURES)
    return "" if signed else "the release is not signed, and neither a key nor an identity was given"


def _version(subject: Subject, _: Context) -> Iterator[Finding]:
    """A signature holds for old files under a new name too: the tag is compared with what is there."""
    spec = subject.repo.release
    if spec is None:
        raise UndecidedError("no zoo.yaml")
    if subject.named_version != spec.version:
        yield Finding(
            message=f"{subject.tag} holds version {spec.version} of {spec.name}",
            # a tag without the folder in it is one of the whole repository's own
            severity=Severity.WARNING if subject.tag.startswith("v") and subject.place else Severity.ERROR,
            location=Location(file="zoo.yaml", pointer="version"),
            fix=_DO_NOT_USE,
        )


def _no_version(subject: Subject, _: Context) -> str:
    if not subject.tag:
        return "no tag was named"
    return "" if Version.parse(subject.named_version) else f"{subject.tag} names no version"


def _card(subject: Subject, _: Context) -> Iterator[Finding]:
    path, place = subject.repo.root / CARD_NAME, Location(file=CARD_NAME)
    if not path.is_file():
        yield Finding(message="there is no card", severity=Severity.WARNING, location=place)
        return
    wanted = render_card(subject.repo, recorded_report(subject.repo), hub_id=subject.hub_id)
    if read_bounded(path) != wanted.encode():
        yield Finding(
            message="the card does not follow from the lock: it was edited, or another zoo made it",
            severity=Severity.WARNING,  # nothing relies on it, and the Hub lets people edit it
            location=place,
            fix="zoo card prints what follows"
            + ("" if subject.hub_id else "; --repo ORG/NAME, if published"),
        )


def _bill(subject: Subject, _: Context) -> Iterator[Finding]:
    raw = read_bounded(subject.repo.root / BOM_NAME)
    spec = subject.repo.release
    if spec is None:
        raise UndecidedError("no zoo.yaml")
    wanted = dump_bill(bill(subject.repo.root, subject.lock, spec, hub_id=subject.hub_id))
    if raw == wanted:
        return
    place, said, true = Location(file=BOM_NAME), billed(raw), billed(wanted)
    if said == true:
        yield Finding(
            message="the bill of materials has another form than this zoo gives it; it names these files, "
            "this base and this licence",
            severity=Severity.WARNING,  # each zoo may write more than the one before
            location=place,
            fix="read the rest of it before you rely on it, or take the version of zoo that made it",
        )
        return
    renamed = not subject.hub_id and all(said.get(name) == true[name] for name in ("files", "models"))
    yield Finding(
        message="the bill of materials does not follow from the lock and the files",
        severity=Severity.WARNING if renamed else Severity.ERROR,
        location=place,
        fix="--repo says what the folder was published as" if renamed else _DO_NOT_USE,
    )


def _no_bill(subject: Subject, _: Context) -> str:
    return "" if (subject.repo.root / BOM_NAME).is_file() else f"there is no {BOM_NAME}"


def _checks(subject: Subject) -> tuple[Check, ...]:
    read = (*_READ, "ZA002") if subject.unfetched else _READ  # what is not whole is not what was signed

    def bound(what: Callable[..., Any]) -> Any:
        return partial(what, subject)

    return (
        Check(code="ZA002", title="Every file is the one that was published", run=bound(_files),
              requires=_READ),
        Check(code="ZA003", title="The lock holds a validation of these files that passed",
              run=bound(_evidence), requires=read),
        Check(code="ZA004", title="The signature is the publisher's, over these files", run=bound(_signature),
              requires=read, unless=bound(_unsigned)),
        Check(code="ZA005", title="The card follows from the lock", run=bound(_card), requires=read),
        Check(code="ZA006", title="The bill of materials follows from the lock", run=bound(_bill),
              requires=read, unless=bound(_no_bill)),
        Check(code="ZA007", title="The tag is that of the release's version", run=bound(_version),
              requires=read, unless=bound(_no_version)),
    )  # fmt: skip
