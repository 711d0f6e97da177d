"""Bombs in every other document: YAML, JSON, the lock, the policy, signatures, vectors."""

import base64
import json
from pathlib import Path
from typing import Any

from tests.security.hostile import Change, Door, Hostile, put
from tests.validators.changes import lock, spec
from zoo.models import BaseModel

LAUGHS = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (c, c, b",".join([b"*%c" % (c - 1)] * 9)) for c in range(ord("b"), ord("k"))
)
DEEP = b"a: " + b"[" * 200_000
LINES = b"- a\n" * 900_000
FLOW = b"[" + b"a," * 1_900_000 + b"a]"
BASE_60 = b"version: 1" + b":59" * 200_000
BACKTRACKING = b"model: ~\nresponse_format: {type: string, pattern: '^(a+)+$'}\ntransformations: ~\n"
YAML = {
    "a billion laughs": LAUGHS,
    "200,000 brackets": DEEP,
    "900,000 lines": LINES,
    "two million words": FLOW,
    "a number to base 60": BASE_60,
    "an object to make": b"!!python/object/apply:os.system ['touch canary']",
    "an empty number": b"name: !!int ''\n",
    "a truth that is none": b"name: !!bool perhaps\n",
    "a date that is none": b"name: !!timestamp never\n",
    "a date before all dates": b"version: 0001-01-01 00:00:00 +23:59\n",
    "merged mappings": b"a: {b: 1}\n<<: {c: 2}\n",
    "a key that is a list": b"? [a, b]\n: c\n",
    "two documents": b"name: a\n---\nname: b\n",
    "no text": b"\x00\x01\x02",
    "nothing": b"",
}


def policy(content: bytes) -> Change:
    """A policy beside the adapter, as a pull request would bring it."""

    def change(folder: Path, base: BaseModel) -> None:
        (folder.parent / "zoo-gate.yaml").write_bytes(content)

    return change


def evidence(value: Any) -> Change:
    return lock(lambda content: content.update(evidence=value))


def deep_lock(folder: Path, base: BaseModel) -> None:
    content = json.loads((folder / "zoo.lock.json").read_text())
    nest = '{"a":' * 100_000 + "0" + "}" * 100_000
    (folder / "zoo.lock.json").write_text(json.dumps(content)[:-1] + f', "conversion": {nest}}}')


def signed(signatures: int, payload: bytes = b"{}") -> Change:
    """An envelope of many signatures, or of a payload that explodes; the publisher's key is known."""

    def change(folder: Path, base: BaseModel) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (folder.parent / "publisher.pub").write_bytes(pem)
        one = {"sig": base64.b64encode(b"\0" * 64).decode()}
        envelope = {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [one | {"keyid": str(number)} for number in range(signatures)],
        }
        (folder / "provenance.intoto.jsonl").write_text(json.dumps(envelope))

    return change


def _case(
    family: str, name: str, code: str, change: Change, door: Door = Door.VALIDATE, relock: bool = True
) -> Hostile:
    return Hostile(family=family, name=name, code=code, change=change, door=door, relock=relock)


DOCUMENTS = (
    *(_case("zoo.yaml", name, "ZM001", put("zoo.yaml", content)) for name, content in YAML.items()),
    *(_case("io.yaml", name, "ZO020", put("io.yaml", content)) for name, content in YAML.items()),
    *(
        _case("policy", name, "ZG005", policy(YAML[name]), Door.GATE)
        for name in ("a billion laughs", "900,000 lines", "an empty number", "200,000 brackets")
    ),
    _case("zoo.yaml", "a hundred samples of a megabyte", "ZM001",
          spec(samples=[[{"role": "user", "content": "x " * 90_000}]] * 100)),
    _case("zoo.yaml", "a thousand samples", "ZM001",
          spec(samples=[[{"role": "user", "content": "x"}]] * 1000)),
    _case("lock", "100,000 brackets", "ZL001", deep_lock, relock=False),
    _case("lock", "50,000 files", "ZL001",
          lock(lambda c: c["files"].update({f"f{i}": "0" * 64 for i in range(50_000)})), relock=False),
    _case("lock", "a digest of a megabyte", "ZL001",
          lock(lambda c: c["files"].update({"a.md": "0" * 1_000_000})), relock=False),
    _case("lock", "a name that climbs", "ZL001",
          lock(lambda c: c["files"].update({"../../.ssh/id_rsa": "0" * 64})), relock=False),
    _case("lock", "evidence that nests", "ZL001", evidence(json.loads("[" * 900 + "]" * 900)), Door.CARD,
          False),
    _case("lock", "50,000 results", "ZL001",
          evidence({"format": 1, "subject": "x", "digest": "", "results": [{}] * 50_000}), Door.CARD, False),
    _case("lock", "evidence that is none", "ZL001", evidence({"format": "x"}), Door.CARD, False),
    _case("signature", "40,000 of them", "ZA004", signed(20_000), Door.SIGNED),
    _case("signature", "of a payload that nests", "ZA004", signed(1, b"[" * 1_000_000), Door.SIGNED),
    _case("signature", "no envelope", "ZA004", signed(0), Door.SIGNED),
    _case("bill", "a million brackets", "ZF003", put("bom.cdx.json", b"[" * 1_000_000)),
    _case("vectors", "no metadata", "ZS001", put("conformance.safetensors", b"\x02\0\0\0\0\0\0\0{}")),
    _case("regex", "in a contract", "ZO011", put("io.yaml", BACKTRACKING), Door.CARD),
    _case("tokenizer", "thirty million lists", "ZF003",
          put("tokenizer.json", lambda: b"[" + b"[]," * 30_000_000 + b"[]]")),
    _case("tokenizer", "a million brackets", "ZF003", put("tokenizer_config.json", b"[" * 1_000_000)),
    _case("tokenizer", "120 MB of spaces", "ZF004",
          put("special_tokens_map.json", lambda: b" " * 120_000_000)),
)  # fmt: skip
