"""Publishing a release, onto the Hub or into a local folder, so that it is there whole or not at all.

The Hub: one commit on top of a known parent, then a tag, then a download at the tag and a comparison. Each
of these can be the last thing that happens; running the same command again does what is left, because
everything is decided by comparing contents and nothing by remembering. A folder: staged beside its target
and exchanged with it in one system call.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import hub
from zoo.errors import UsageError, ZooError
from zoo.hub.address import Address
from zoo.progress import Progress, silent
from zoo.publishing.folder import check_folder, publish_to_folder
from zoo.publishing.plan import Change, ReleasePlan, plan_release
from zoo.publishing.presentation import PLAIN, Presentation
from zoo.publishing.previous import foresee
from zoo.publishing.repository import NOTHING, HubPublication
from zoo.publishing.result import Published
from zoo.publishing.review import GateOf, ReviewedPublication
from zoo.publishing.stage import StagedRelease, scratch_folder, stage_release

if TYPE_CHECKING:
    from zoo.attestation.signing import Signing

__all__ = [
    "Change",
    "Presentation",
    "Published",
    "ReleasePlan",
    "StagedRelease",
    "plan_release",
    "publish",
    "stage_release",
]


def publish(
    folder: Path | str,
    *,
    repo: str = "",
    to: Path | str | None = None,
    dry_run: bool = False,
    presentation: Presentation = PLAIN,
    reviewed: bool = False,
    gate: GateOf | None = None,
    base: str = "",
    device: str = "cpu",
    signer: "Signing | None" = None,
    progress: Progress = silent,
    on_plan: Callable[[ReleasePlan], object] | None = None,
) -> Published:
    """Checks a release folder afresh and publishes it.

    Args:
        folder: the release; it is only read.
        repo: `org/name` on the Hub, or `org/name/folder` in a repository of several adapters. Exactly one of
            `repo` and `to` is given.
        to: a local folder, which must be empty, missing, or an earlier release.
        dry_run: stop after the plan; nothing is written anywhere.
        presentation: access to the repository, its collection, and what the release supersedes.
        reviewed: through a pull request, which is gated from a clean download and merged if that passes.
        gate: what then gives the verdict, such as that of `zoo.ci.gate.reviewer`; None is the checks.
        base: what to resolve as base model; empty takes the one that `zoo.yaml` names.
        device: torch device of the checks.
        signer: of `zoo.attestation.signing.open_signer`; None publishes without a signature.
        progress: told about the checks and the steps.
        on_plan: receives the plan before anything is written.

    Raises:
        UsageError: neither or both targets, or a target that cannot be one.
        NotFoundError: no release at `folder`.
        RefusedError: ZH001 it did not pass, ZH002 the version exists with other content, ZH005 the Hub
            rejects the card, ZH009 the repository is public, ZH010 the target holds something else, ZH011 a
            symbolic link, ZH012 the gate stopped a pull request, ZH015 what it supersedes names another
            successor, ZO200 to ZO204 the contract
            changed in a way that the version does not say.
        UndecidedError: ZH001 not everything was checked.
        HubError: ZH003 the branch moved, ZH007 no access, ZH008 no answer.
        VerdictError: ZH004, what was read back differs.
    """
    source, target = Path(folder), Path(to).absolute() if to is not None else None
    if bool(repo) == (target is not None):
        raise UsageError("one target is needed", hint="give --repo ORG/NAME or --to DIR, not both")
    place = Address.target(repo) if repo else None
    if place is None and (reviewed or presentation != PLAIN):
        raise UsageError(
            "a folder has no pull requests, no access rules and no collections",
            hint="give --pr, --private, --gated, --collection and --supersedes with --repo",
        )
    if place is not None:
        presentation.check(place)
    if target is not None:
        check_folder(source, target)
    with scratch_folder() as scratch:
        _look_ahead(source, scratch / "foreseen", place, target)
        stage = scratch / "release"
        stage.mkdir()
        staged = stage_release(
            source, stage, hub_id=repo, base=base, device=device, signer=signer, progress=progress
        )
        if target is not None:
            return publish_to_folder(staged, target, dry_run=dry_run, progress=progress, on_plan=on_plan)
        how: dict[str, Any] = {
            "presentation": presentation,
            "dry_run": dry_run,
            "progress": progress,
            "on_plan": on_plan,
        }
        if reviewed:
            return ReviewedPublication(staged, scratch, base=base, device=device, gate=gate, **how).run()
        return HubPublication(staged, scratch, **how).run()


def _look_ahead(source: Path, scratch: Path, place: Address | None, target: Path | None) -> None:
    try:
        foresee(source, scratch, place=place, target=target)
    except hub.UnavailableError:
        pass  # may be over by the time the checks are
    except ZooError as error:
        error.message += f"; {NOTHING}"
        raise
