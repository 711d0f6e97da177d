"""`zoo publish`."""

from typing import TYPE_CHECKING

import typer

from zoo.cli import publish_options as to
from zoo.cli.options import Adapter, AsJson, Base, Device, DryRun, Quiet

if TYPE_CHECKING:
    from zoo.publishing.plan import ReleasePlan


def publish(
    path: Adapter,
    repo: to.Repo = "",
    folder: to.To = None,
    dry_run: DryRun = False,
    private: to.Private = False,
    gated: to.Gated = "",
    collection: to.Collection = "",
    supersedes: to.Supersedes = "",
    pr: to.Reviewed = False,
    policy: to.Demanded = None,
    sign_key: to.SignKey = None,
    sigstore: to.Sigstore = False,
    trust_config: to.TrustConfig = None,
    base: Base = "",
    device: Device = "cpu",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check a release afresh and publish it: all of it or nothing.

    One commit, the tag v<version>, then a download at the tag and a comparison. Run it again after an
    interruption: it does what is left. A contract that breaks the one published before wants a version
    that says so (zoo diff).

    Example: zoo publish ./relevance --repo my-org/relevance --dry-run
    """
    import json
    import os

    from zoo.attestation.signing import open_signer
    from zoo.cli.progress import shown
    from zoo.release import Presentation
    from zoo.release import publish as publish_release

    def say(plan: "ReleasePlan") -> None:
        if not as_json:
            typer.echo("\n".join(plan.lines()), err=not dry_run)

    password = os.environ.get("ZOO_KEY_PASSWORD", "")
    signer = open_signer(sign_key, password=password, keyless=sigstore, trust=trust_config)
    with shown(quiet=quiet) as progress:
        published = publish_release(
            path,
            repo=repo,
            to=folder,
            dry_run=dry_run,
            presentation=Presentation(
                private=private, gated=gated, collection=collection, supersedes=supersedes
            ),
            reviewed=pr,
            gate=to.gate_of(policy, reviewed=pr, base=base, device=device, progress=progress),
            base=base,
            device=device,
            signer=signer,
            progress=progress,
            on_plan=say,
        )
    if as_json:
        typer.echo(json.dumps(published.document(), indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(published.lines()), err=dry_run)
