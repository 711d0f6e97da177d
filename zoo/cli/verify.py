"""`zoo verify`: a release as somebody else gets it."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import AsJson
from zoo.cli.publish_options import TrustConfig

Source = Annotated[
    str, typer.Argument(metavar="RELEASE", help="ORG/NAME[/FOLDER]@TAG, a folder, or a cached snapshot.")
]
KeyFile = Annotated[
    Path | None, typer.Option("--key", metavar="PEM", help="The publisher's public key: wants its signature.")
]
Who = Annotated[
    str,
    typer.Option("--identity", metavar="WHO", help="Wants its Sigstore signature: mail, or workflow URL."),
]
Issuer = Annotated[str, typer.Option("--issuer", metavar="URL", help="Who vouches for that identity.")]
Repo = Annotated[
    str, typer.Option("--repo", metavar="ORG/NAME[/FOLDER]", help="What a folder was published as.")
]


def verify(
    release: Source,
    key: KeyFile = None,
    identity: Who = "",
    issuer: Issuer = "",
    trust_config: TrustConfig = None,
    repo: Repo = "",
    as_json: AsJson = False,
) -> None:
    """Check a published release: files, signature, evidence, card, bill of materials.

    A repository is downloaded afresh at its tag. Exit codes: 0 all is as it was published, 1 it is not, 3 a
    signature is there and neither --key nor --identity was given.

    Example: zoo verify my-org/relevance@v1.0.0 --key publisher.pub
    """
    import sys

    from zoo.attestation.envelope import open_public_key
    from zoo.attestation.keyless import Identity
    from zoo.errors import UsageError
    from zoo.render.json import render_json
    from zoo.render.terminal import render_terminal
    from zoo.verification import verify as verify_release

    if bool(identity) != bool(issuer):
        raise UsageError("an identity means nothing without its issuer", hint="--identity WHO --issuer URL")
    if trust_config and not identity:
        raise UsageError(
            "another Sigstore, and nobody is asked for", hint="--trust-config goes with --identity"
        )
    report = verify_release(
        release,
        key=open_public_key(key) if key else None,
        identity=Identity(identity=identity, issuer=issuer, trust=trust_config) if identity else None,
        hub_id=repo,
    )
    if as_json:
        typer.echo(render_json(report), nl=False)
    else:
        named = report.environment.get("commit", "")
        if named:
            typer.echo(f"{release} is commit {named}", err=True)
        typer.echo(render_terminal(report, colour=sys.stdout.isatty()), nl=False)
    raise typer.Exit(report.exit_code)
