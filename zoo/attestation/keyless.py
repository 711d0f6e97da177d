"""Signing without a key of one's own, by Sigstore: an identity that a known issuer vouches for signs.

Fulcio gives a certificate for ten minutes to whoever shows an identity token; what was signed goes into the
public log Rekor. The result is one bundle beside the release. Which Fulcio and Rekor, and whom to believe, is
in a trust configuration: that of the public instance, or a file.
Source: sigstore 4.5.1 (sign.py, verify/verifier.py); Sigstore bundle 0.3; Fulcio's OID 1.3.6.1.4.1.57264.1.8
(issuer).
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.adapter import SIGSTORE_NAME
from zoo.attestation.envelope import checked_statement
from zoo.credentials import redacted
from zoo.errors import DefectError, MissingExtraError, RefusedError, SpecError, UndecidedError, UsageError
from zoo.limits import few_values
from zoo.specs.document import MAX_DOCUMENT_BYTES, read_bounded

if TYPE_CHECKING:
    from sigstore.models import ClientTrustConfig

MAX_VALUES = 2_000  # of a bundle; one has about 60
_ISSUER = "1.3.6.1.4.1.57264.1.8"
TOKEN_VARIABLE = "SIGSTORE_ID_TOKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose keyless signature is wanted.

    Attributes:
        identity: as in the certificate: a mail address, or a workflow's URL with its ref.
        issuer: URL of whoever vouches for it.
        trust: a trust configuration in JSON; None is the public instance.
        offline: believe what was fetched of the public instance before, and ask nobody.
    """

    identity: str
    issuer: str
    trust: Path | None = None
    offline: bool = False

    def __str__(self) -> str:
        """For people."""
        return f"{self.identity} ({self.issuer})"

    def verify(self, raw: bytes) -> dict[str, Any]:
        """The statement in a bundle that this identity has signed.

        Raises:
            SpecError: ZA004, it is no bundle, or holds no statement of how something was made.
            RefusedError: ZA004, it is not this identity's, or not over these bytes, or not in the log.
            UndecidedError: ZA004, the public instance's roots cannot be had.
            MissingExtraError: sigstore is not installed.
        """
        _sigstore()
        from sigstore.errors import VerificationError
        from sigstore.models import Bundle
        from sigstore.verify import Verifier, policy

        verifier = Verifier(trusted_root=_trust(self.trust, offline=self.offline).trusted_root)
        try:
            if len(raw) > MAX_DOCUMENT_BYTES:
                raise ValueError("too large")
            few_values(raw, MAX_VALUES)
            bundle = Bundle.from_json(raw)
        except Exception:  # what the library raises on a damaged one is not documented, and may be anything
            raise SpecError("the keyless signature is no Sigstore bundle", code="ZA004") from None
        try:
            kind, payload = verifier.verify_dsse(
                bundle, policy.Identity(identity=self.identity, issuer=self.issuer)
            )
        except VerificationError as error:
            raise RefusedError(
                f"the keyless signature is not {self}'s: {_line(error)}",
                hint="ask the publisher which identity signs; do not use the release until it verifies",
                code="ZA004",
            ) from None
        except Exception as error:  # a bundle is a stranger's: nothing in it may look like a defect here
            raise RefusedError(
                f"the keyless signature cannot be verified: {type(error).__name__}", code="ZA004"
            ) from None
        return checked_statement(kind, payload)


@dataclass(slots=True, kw_only=True)
class KeylessSigner:
    """Somebody with an identity token, ready to sign. Every signature is a new one, and goes into the log.

    Attributes:
        trust: a trust configuration in JSON; None is the public instance.
        name: of the file that a signature is written to.
        certified: who signed last, as the certificate says; it may say it otherwise than the token.
    """

    trust: Path | None = None
    name: str = SIGSTORE_NAME
    certified: Identity | None = None

    def sign(self, payload: bytes) -> bytes:
        """A bundle around a statement: a line of JSON.

        Raises:
            UndecidedError: ZA008, nobody vouches for an identity here, or Fulcio or Rekor refused or did not
                answer. No message holds the token.
        """
        _sigstore()
        from sigstore.dsse import Statement
        from sigstore.sign import SigningContext

        identity = self.token()
        try:
            context = SigningContext.from_trust_config(_trust(self.trust))
            with context.signer(identity) as signer:
                bundle = signer.sign_dsse(Statement(payload))
        except UndecidedError:
            raise
        except Exception as error:  # network, certificate and log errors have no class in common
            raise UndecidedError(
                f"Sigstore did not sign: {_line(error)}",
                hint="run the same command again, or sign with --sign-key",
                code="ZA008",
            ) from None
        self.certified = _certified(bundle.signing_certificate, self.trust)
        return f"{bundle.to_json()}\n".encode()

    def verify(self, raw: bytes) -> dict[str, Any]:
        """The statement in a bundle of whoever signed last here; errors as of `Identity.verify`."""
        if self.certified is None:
            raise DefectError("nothing was signed yet")
        return self.certified.verify(raw)

    def token(self) -> Any:
        """The identity token.

        Raises:
            UndecidedError: ZA008, there is none, or it is of no use.
        """
        from sigstore.oidc import IdentityError, IdentityToken, detect_credential

        try:
            token = os.environ.get(TOKEN_VARIABLE) or detect_credential()
            if token:
                return IdentityToken(token)
        except IdentityError as error:
            raise UndecidedError(
                f"the identity token is of no use: {_line(error)}", hint=_HOW, code="ZA008"
            ) from None
        raise UndecidedError("nobody vouches for an identity here", hint=_HOW, code="ZA008")


_HOW = (
    f"in GitHub Actions: permissions id-token: write; elsewhere put a token with the audience sigstore into "
    f"{TOKEN_VARIABLE}"
)


def open_keyless(trust: Path | None = None) -> KeylessSigner:
    """A keyless signer; that somebody vouches for an identity is looked at first, before minutes of checks.

    Args:
        trust: a trust configuration in JSON; None is the public instance.

    Raises:
        MissingExtraError: sigstore is not installed.
        UndecidedError: ZA008, there is no identity token, or it is of no use.
        UsageError: ZA008, the trust configuration is none.
    """
    _sigstore()
    signer = KeylessSigner(trust=trust)
    if trust is not None:
        _trust(trust)
    signer.token()
    return signer


def _trust(path: Path | None, *, offline: bool = False) -> "ClientTrustConfig":
    from sigstore.models import ClientTrustConfig

    if path is not None:
        try:
            return ClientTrustConfig.from_json(read_bounded(path).decode())
        except ValueError:
            raise UsageError(
                f"{path.name} is no trust configuration", hint="sigstore trust-config export", code="ZA008"
            ) from None
    try:
        return ClientTrustConfig.production(offline=offline)
    except Exception as error:  # TUF's, the network's, the disk's
        raise UndecidedError(
            f"Sigstore's roots cannot be had: {_line(error)}",
            hint="check the connection, or give --trust-config FILE",
            code="ZA004",
        ) from None


def _certified(certificate: Any, trust: Path | None) -> Identity:
    """Who a certificate of Fulcio's is for."""
    from cryptography import x509

    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    kinds = (x509.RFC822Name, x509.UniformResourceIdentifier)
    named = [name for kind in kinds for name in names.get_values_for_type(kind)]
    issuer = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(_ISSUER)).value.value
    # a UTF8String: two bytes, or more for a long one, before the text
    begin = 2 if issuer[1] < 128 else 2 + (issuer[1] & 127)
    return Identity(identity=named[0], issuer=issuer[begin:].decode(), trust=trust)


def _line(error: BaseException) -> str:
    said = redacted(" ".join(str(error).split()))[:200]
    return said or type(error).__name__


def _sigstore() -> None:
    try:
        import sigstore  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "keyless signatures need sigstore", hint="pip install 'alora-zoo[sigstore]'"
        ) from None
