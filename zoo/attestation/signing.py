"""What a signature is made with: a key, or an identity that somebody vouches for."""

from pathlib import Path
from typing import Any, Protocol

from zoo.errors import UsageError


class Signing(Protocol):
    """Somebody who signs statements, and can tell their own signature from others'."""

    @property
    def name(self) -> str:
        """Of the file that a signature is written to."""

    def sign(self, payload: bytes) -> bytes:
        """The content of that file around a statement.

        Raises:
            UndecidedError: ZA008, it could not be signed now.
        """

    def verify(self, raw: bytes) -> dict[str, Any]:
        """The statement in such a file that they have signed.

        Raises:
            SpecError: ZA004, it is no such file.
            RefusedError: ZA004, somebody else signed it, or nobody.
        """


def open_signer(
    key: Path | None, *, password: str = "", keyless: bool = False, trust: Path | None = None
) -> Signing | None:
    """Whoever is to sign; None is nobody.

    Args:
        key: a private key; see `zoo.attestation.envelope.open_key`.
        password: of an encrypted one.
        keyless: by Sigstore; see `zoo.attestation.keyless.open_keyless`.
        trust: another Sigstore than the public one.

    Raises:
        UsageError: both ways are asked for, or a Sigstore that nobody signs by; ZA004, ZA008: key or trust
            configuration is none.
        MissingExtraError: the package for it is not installed.
        UndecidedError: ZA008, nobody vouches for an identity here.
    """
    from zoo.attestation.envelope import open_key
    from zoo.attestation.keyless import open_keyless

    if key is not None and keyless:
        raise UsageError("a release is signed one way", hint="give --sign-key or --sigstore, not both")
    if trust is not None and not keyless:
        raise UsageError(
            "another Sigstore, and nobody signs by it", hint="give --trust-config with --sigstore"
        )
    if keyless:
        return open_keyless(trust)
    return open_key(key, password) if key is not None else None
