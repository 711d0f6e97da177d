"""`zoo publish`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.options import Adapter, AsJson, Base, Device, DryRun, Quiet

if TYPE_CHECKING:
    from zoo.publishing.plan import ReleasePlan

Repo = Annotated[str, typer.Option("--repo", metavar="ORG/NAME", help="Repository on the Hub.")]
To = Annotated[Path | None, typer.Option("--to", metavar="DIR", help="A local folder instead of the Hub.")]
Reviewed = Annotated[
    bool, typer.Option("--pr", help="Through a pull request: gated from a clean download, then merged.")
]
SignKey = Annotated[
    Path | None,
    typer.Option("--sign-key", metavar="PEM", help="Sign with this Ed25519 key; password: ZOO_KEY_PASSWORD."),
]
Private = Annotated[bool, typer.Option("--private", help="Make the repository private.")]


def publish(
    path: Adapter,
    repo: Repo = "",
    to: To = None,
    dry_run: DryRun = False,
    private: Private = False,
    pr: Reviewed = False,
    sign_key: SignKey = None,
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

    from zoo.attestation.envelope import open_key
    from zoo.cli.progress import shown
    from zoo.release import publish as publish_release

    def say(plan: "ReleasePlan") -> None:
        if not as_json:
            typer.echo("\n".join(plan.lines()), err=not dry_run)

    signer = open_key(sign_key, os.environ.get("ZOO_KEY_PASSWORD", "")) if sign_key else None
    with shown(quiet=quiet) as progress:
        published = publish_release(
            path,
            repo=repo,
            to=to,
            dry_run=dry_run,
            private=private,
            reviewed=pr,
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
