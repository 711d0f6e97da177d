"""Signing a statement, and telling whether a signature is of a known signer.

An envelope is one line of JSON beside the release. Keys are Ed25519, whose signature of the same bytes is
always the same: a publication that is taken up again after an outage must arrive at the same files.
Source: DSSE 1.0 (secure-systems-lab/dsse, protocol.md); securesystemslib 1.6.0, dsse.py.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.adapter import PROVENANCE_NAME
from zoo.attestation.statement import PREDICATE_TYPE, STATEMENT_TYPE
from zoo.errors import MissingExtraError, RefusedError, SpecError, UsageError
from zoo.limits import few_values
from zoo.specs.document import MAX_DOCUMENT_BYTES, read_bounded

if TYPE_CHECKING:
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer._key import Key
    from securesystemslib.signer._signer import Signer

PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_KEY_BYTES = 20_000
MAX_SIGNATURES = 100  # each is tried
MAKE_KEY = "openssl genpkey -algorithm ed25519 -out zoo.key; openssl pkey -in zoo.key -pubout -out zoo.pub"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySigner:
    """A private key, ready to sign.

    Attributes:
        key: its signer.
        name: of the file that a signature is written to.
    """

    key: "Signer"
    name: str = PROVENANCE_NAME

    def sign(self, payload: bytes) -> bytes:
        """An envelope around a statement: a line of JSON, the same each time."""
        from securesystemslib.dsse import Envelope

        envelope = Envelope(payload, PAYLOAD_TYPE, {})
        envelope.sign(self.key)
        return (json.dumps(envelope.to_dict(), sort_keys=True) + "\n").encode()

    def verify(self, raw: bytes) -> dict[str, Any]:
        """The statement in an envelope that this key has signed; errors as of `verify`."""
        return verify(raw, self.key.public_key)


def open_key(path: Path, password: str = "") -> KeySigner:
    """A private key, ready to sign.

    Args:
        path: Ed25519 in PEM, PKCS #8.
        password: of an encrypted one.

    Raises:
        MissingExtraError: securesystemslib is not installed.
        NotFoundError: no such file.
        UsageError: ZA004, it is no such key, or the password is wrong. The message holds nothing of it.
    """
    signing = _signing()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    raw = read_bounded(path, MAX_KEY_BYTES)
    try:
        key = load_pem_private_key(raw, password.encode() if password else None)
    except (ValueError, TypeError):
        why = "the password is wrong, or it is no private key" if password else "it is encrypted, or no key"
        raise UsageError(
            f"{path.name} cannot be used: {why}", hint=f"make one: {MAKE_KEY}", code="ZA004"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(
            f"{path.name} is no Ed25519 key: only its signatures are the same each time",
            hint=f"make one: {MAKE_KEY}",
            code="ZA004",
        )
    return KeySigner(key=signing.CryptoSigner(key))


def open_public_key(path: Path) -> "Key":
    """A public key, to verify with.

    Args:
        path: PEM, SubjectPublicKeyInfo; of any kind that securesystemslib knows.

    Raises:
        MissingExtraError: securesystemslib is not installed.
        NotFoundError: no such file.
        UsageError: ZA004, it is no public key.
    """
    signing = _signing()
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key: Key = signing.SSlibKey.from_crypto(load_pem_public_key(read_bounded(path, MAX_KEY_BYTES)))
    except ValueError:
        raise UsageError(
            f"{path.name} is no public key in PEM, or of a kind that cannot be used here",
            hint="openssl pkey -in zoo.key -pubout -out zoo.pub",
            code="ZA004",
        ) from None
    return key


def verify(raw: bytes, key: "Key") -> dict[str, Any]:
    """The statement in an envelope that a key has signed.

    Raises:
        SpecError: ZA004, it is no envelope, or holds no statement of how something was made.
        RefusedError: ZA004, no signature in it is of that key, or it is not of these bytes.
    """
    from securesystemslib.exceptions import VerificationError

    envelope = _envelope(raw)
    # DSSE has key ids be hints: a signature that names another id, or none, may be of this key all the same
    for signature in envelope.signatures.values():
        signature.keyid = key.keyid
    envelope.signatures = {str(number): one for number, one in enumerate(envelope.signatures.values())}
    try:
        envelope.verify([key], 1)
    except VerificationError:
        raise RefusedError(
            "the signature is not of this key and these bytes",
            hint="ask the publisher for the public key; do not use the release until it verifies",
            code="ZA004",
        ) from None
    return checked_statement(envelope.payload_type, envelope.payload)


def _envelope(raw: bytes) -> "Envelope":
    _signing()
    from securesystemslib.dsse import Envelope

    try:
        if len(raw) > MAX_DOCUMENT_BYTES:
            raise ValueError("too large")
        few_values(raw, MAX_SIGNATURES * 8)
        return Envelope.from_dict(json.loads(raw))
    except Exception:  # what the library raises on a damaged one is not documented, and may be anything
        raise SpecError("the signature file is no DSSE envelope", code="ZA004") from None


def checked_statement(kind: str, payload: bytes) -> dict[str, Any]:
    """The statement in an envelope whose signature has been verified.

    Args:
        kind: the type that the envelope says.
        payload: what was signed.

    Raises:
        SpecError: ZA004, it is no statement of how something was made.
    """
    try:
        found = json.loads(payload)
    except (ValueError, RecursionError):
        found = None
    match found:
        case {"_type": of, "predicateType": predicate, "subject": list()} if (
            kind == PAYLOAD_TYPE and of == STATEMENT_TYPE and predicate == PREDICATE_TYPE
        ):
            return dict(found)
    raise SpecError("what is signed is no statement of how something was made", code="ZA004")


def _signing() -> Any:
    try:
        import cryptography  # noqa: F401
        from securesystemslib import signer
    except ImportError:
        raise MissingExtraError(
            "signatures need securesystemslib", hint="pip install 'alora-zoo[sign]'"
        ) from None
    return signer
