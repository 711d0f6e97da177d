"""A Sigstore on loopback: a certificate authority and both logs, believed by a client that is told to.

The sigstore package itself signs and verifies against it; it is told where by a trust configuration. What is
said over HTTP and signed by whom follows Fulcio's v2 and Rekor's v1 API as that client uses them (sigstore
4.5.1), RFC 6962 (certificate timestamps) and the C2SP note format (checkpoints). The logs are made anew for
each entry, so that an entry is always the only one of its log.
"""

import base64
import hashlib
import json
import struct
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

ISSUER = "https://issuer.example"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
_MEDIA = "application/vnd.dev.sigstore."
_POISONLESS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")  # the list of certificate timestamps
_ISSUER_V1 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
_ISSUER_V2 = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")


class Key:
    """A P-256 key and the number that logs call it by."""

    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.public = self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.id = hashlib.sha256(self.public).digest()

    def sign(self, content: bytes) -> bytes:
        return self.private.sign(content, ec.ECDSA(hashes.SHA256()))

    def as_log(self, url: str) -> dict[str, Any]:
        """The log that signs with it, in a trusted root."""
        return {
            "baseUrl": url,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": b64(self.public),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": LONG_AGO.isoformat()},
            },
            "logId": {"keyId": b64(self.id)},
        }


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def identity_token(identity: str, *, seconds: int = 600, issuer: str = ISSUER) -> str:
    """An identity token such as a CI job gets; its signature is nobody's, for only Fulcio looks at that."""
    now = int(time.time())
    claims = {"aud": "sigstore", "iss": issuer, "sub": identity, "iat": now, "exp": now + seconds}
    parts = ({"alg": "ES256", "typ": "JWT"}, claims)
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, base64.urlsafe_b64encode(b"\1" * 64).rstrip(b"=").decode()])


class SigstoreHere:
    """Fulcio and Rekor in a thread, from `with` to its end.

    Attributes:
        entries: what went into the signature log.
        refuses: a status that Fulcio answers with instead; 0 is none.
    """

    def __init__(self) -> None:
        self.authority, self.certificates, self.signatures = Key(), Key(), Key()
        self.root = self._root()
        self.entries: list[Any] = []
        self.refuses = 0
        here = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, format: str, *args: Any) -> None:
                """Prints nothing."""

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                token = self.headers.get("Authorization", "").removeprefix("Bearer ")
                fulcio = self.path == "/api/v2/signingCert"
                status = here.refuses if fulcio and here.refuses else 201
                answer = here.certify(body, token) if fulcio else here.enter(body)
                content = json.dumps(answer).encode() if status == 201 else b"{}"
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def trust_config(self, path: Path) -> Path:
        """Writes whom to believe, and where to ask."""
        service = {
            "url": self.url, "majorApiVersion": 1, "operator": "here",
            "validFor": {"start": LONG_AGO.isoformat()},
        }  # fmt: skip
        authority = {
            "subject": {"organization": "here", "commonName": "here"},
            "certChain": {"certificates": [{"rawBytes": b64(self.root.public_bytes(Encoding.DER))}]},
            "validFor": {"start": LONG_AGO.isoformat()},
        }
        root = {
            "mediaType": f"{_MEDIA}trustedroot+json;version=0.1",
            "tlogs": [self.signatures.as_log(self.url)],
            "certificateAuthorities": [authority],
            "ctlogs": [self.certificates.as_log(self.url)],
        }
        signing = {
            "mediaType": f"{_MEDIA}signingconfig.v0.2+json",
            "caUrls": [service],
            "rekorTlogUrls": [service],
            "rekorTlogConfig": {"selector": "ANY"},
        }
        kind = f"{_MEDIA}clienttrustconfig.v0.1+json"
        path.write_text(json.dumps({"mediaType": kind, "trustedRoot": root, "signingConfig": signing}))
        return path

    # ------------------------------------------------------------ Fulcio

    def certify(self, body: dict[str, Any], token: str) -> dict[str, Any]:
        """A certificate for ten minutes, for whoever the token names."""
        claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        request = x509.load_pem_x509_csr(base64.b64decode(body["certificateSigningRequest"]))
        leaf = self._leaf(request.public_key(), claims["sub"], claims["iss"])
        chain = [one.public_bytes(Encoding.PEM).decode() for one in (leaf, self.root)]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}

    def _leaf(self, public: Any, identity: str, issuer: str) -> x509.Certificate:
        mail = "@" in identity and "://" not in identity
        name = x509.RFC822Name(identity) if mail else x509.UniformResourceIdentifier(identity)
        now = datetime.now(UTC).replace(microsecond=0)
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign",
             "crl_sign", "encipher_only", "decipher_only"), False,
        )  # fmt: skip
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=5))
            .not_valid_after(now + timedelta(minutes=10))
            .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectAlternativeName([name]), critical=True)
            .add_extension(self._authority_id(), critical=False)
            .add_extension(x509.UnrecognizedExtension(_ISSUER_V1, issuer.encode()), critical=False)
            .add_extension(
                x509.UnrecognizedExtension(_ISSUER_V2, bytes((12, len(issuer))) + issuer.encode()),
                critical=False,
            )
        )
        without = builder.sign(self.authority.private, hashes.SHA256()).tbs_certificate_bytes
        stamp = x509.UnrecognizedExtension(_POISONLESS, self._timestamp(without))
        return builder.add_extension(stamp, critical=False).sign(self.authority.private, hashes.SHA256())

    def _timestamp(self, certificate: bytes) -> bytes:
        """The certificate log's promise: signed as RFC 6962, 3.2, says; embedded as 3.3 says."""
        moment = struct.pack("!Q", int(time.time() * 1000))
        entry = self.authority.id + struct.pack("!I", len(certificate))[1:] + certificate
        signature = self.certificates.sign(b"\0\0" + moment + b"\0\1" + entry + b"\0\0")
        stamp = b"\0" + self.certificates.id + moment + b"\0\0" + b"\4\3"
        stamp += struct.pack("!H", len(signature)) + signature
        listed = struct.pack("!HH", len(stamp) + 2, len(stamp)) + stamp
        return b"\4" + (bytes((len(listed),)) if len(listed) < 128 else bytes((129, len(listed)))) + listed

    def _root(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "here")])
        usage = dict.fromkeys(
            ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
             "key_agreement", "encipher_only", "decipher_only"), False,
        )  # fmt: skip
        public = self.authority.private.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(LONG_AGO)
            .not_valid_after(LONG_AGO + timedelta(days=36500))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self.authority.private, hashes.SHA256())
        )

    def _authority_id(self) -> x509.AuthorityKeyIdentifier:
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.private.public_key())

    # ------------------------------------------------------------ Rekor

    def enter(self, proposed: dict[str, Any]) -> dict[str, Any]:
        """An entry of the signature log, with its proof and its promise."""
        self.entries.append(proposed)
        content = proposed["spec"]["proposedContent"]
        envelope = json.loads(content["envelope"])
        payload = base64.b64decode(envelope["payload"])
        recorded = {
            "apiVersion": "0.0.1",
            "kind": "dsse",
            "spec": {
                "envelopeHash": _sha256(content["envelope"].encode()),
                "payloadHash": _sha256(payload),
                "signatures": [
                    {"signature": one["sig"], "verifier": content["verifiers"][0]}
                    for one in envelope["signatures"]
                ],
            },
        }
        body = json.dumps(recorded, sort_keys=True, separators=(",", ":")).encode()
        leaf = hashlib.sha256(b"\0" + body).digest()
        entry = {
            "body": b64(body), "integratedTime": int(time.time()), "logID": self.signatures.id.hex(),
            "logIndex": 0,
        }  # fmt: skip
        promise = self.signatures.sign(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode())
        note = f"here - 1\n1\n{b64(leaf)}\n"
        line = b64(self.signatures.id[:4] + self.signatures.sign(note.encode()))
        proof = {
            "logIndex": 0, "rootHash": leaf.hex(), "treeSize": 1, "hashes": [],
            "checkpoint": f"{note}\n— here {line}\n",
        }  # fmt: skip
        verification = {"inclusionProof": proof, "signedEntryTimestamp": b64(promise)}
        return {"0" * 64: {**entry, "verification": verification}}


def _sha256(content: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(content).hexdigest()}
