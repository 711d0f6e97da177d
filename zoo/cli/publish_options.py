"""The options that say where a release is published, and how."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from zoo.progress import Progress
    from zoo.publishing.review import GateOf

Repo = Annotated[
    str,
    typer.Option(
        "--repo",
        metavar="ORG/NAME[/FOLDER]",
        help="Repository on the Hub; with a folder, one adapter of a repository of several.",
    ),
]
To = Annotated[Path | None, typer.Option("--to", metavar="DIR", help="A local folder instead of the Hub.")]
Reviewed = Annotated[
    bool, typer.Option("--pr", help="Through a pull request: gated from a clean download, then merged.")
]
Demanded = Annotated[
    Path | None,
    typer.Option("--policy", metavar="FILE", help="What --pr's gate demands; else ./zoo-gate.yaml."),
]
SignKey = Annotated[
    Path | None,
    typer.Option("--sign-key", metavar="PEM", help="Sign with this Ed25519 key; password: ZOO_KEY_PASSWORD."),
]
Sigstore = Annotated[
    bool, typer.Option("--sigstore", help="Sign without a key, as whoever vouches for this job or account.")
]
TrustConfig = Annotated[
    Path | None,
    typer.Option("--trust-config", metavar="JSON", help="Another Sigstore than the public one."),
]
Private = Annotated[bool, typer.Option("--private", help="Make the repository private.")]
Gated = Annotated[
    Literal["auto", "manual", ""],
    typer.Option(
        "--gated", metavar="auto|manual", help="People ask for access: granted to each, or by hand."
    ),
]
Collection = Annotated[
    str, typer.Option(metavar="ORG/TITLE", help="Put it into this collection, made if it is not there.")
]
Supersedes = Annotated[
    str,
    typer.Option(metavar="ORG/NAME", help="Make that repository's card name this one as its newer version."),
]


def gate_of(
    policy: Path | None, *, reviewed: bool, base: str, device: str, progress: "Progress"
) -> "GateOf | None":
    """What gates the pull request; None where there is none.

    Raises:
        UsageError: ZH012, a policy that nothing would apply.
        NotFoundError: the policy is not there.
        SpecError: ZG005, it breaks its specification.
    """
    if reviewed:
        from zoo.ci.gate import reviewer

        return reviewer(policy, base=base, device=device, progress=progress)
    if policy:
        from zoo.errors import UsageError

        raise UsageError("only a pull request is gated under a policy", hint="add --pr", code="ZH012")
    return None
