"""The parsers that are fuzzed, each with a valid input to begin from."""

import base64
import io
import json
import pickle
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.releases import write_release
from tests.security.fuzz import Parser


def in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """A parser of files: the input lies under a name."""

    def parse(content: bytes, folder: Path) -> object:
        (folder / name).write_bytes(content)
        return read(folder / name)

    return parse


def released(name: str) -> Callable[[], bytes]:
    """A file of a release in order."""

    def seed() -> bytes:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            return (write_release(Path(folder) / "check") / name).read_bytes()

    return seed


def _config(path: Path) -> object:
    from zoo.specs.adapter_config import AdapterConfig
    from zoo.specs.document import read_json

    return read_json(path, AdapterConfig, code="ZC001")


def _release(path: Path) -> object:
    from zoo.specs.document import read_yaml
    from zoo.specs.release import ReleaseSpec

    return read_yaml(path, ReleaseSpec, code="ZM001")


def _policy(path: Path) -> object:
    from zoo.specs.document import read_yaml
    from zoo.specs.policy import Policy

    return read_yaml(path, Policy, code="ZG005")


def _lock(path: Path) -> object:
    from zoo.specs.document import read_json
    from zoo.specs.lock import Lock

    return read_json(path, Lock, code="ZL001")


def _report(path: Path) -> object:
    from zoo.cards.card import read_report

    return read_report(path)


def _weights(path: Path) -> object:
    from zoo.safetensors_header import read_header

    return read_header(path)


def _io(content: bytes, folder: Path) -> object:
    from zoo.specs.io_file import parse_io

    return parse_io(content, name="io.yaml")


def _flow(content: bytes, folder: Path) -> object:
    from zoo.specs.flow_file import parse_flow

    return parse_flow(content, name="flow.yaml")


def _vectors(content: bytes, folder: Path) -> object:
    from zoo.validators.conformance.shipped_file import parse

    return parse(content)


def _envelope(content: bytes, folder: Path) -> object:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer._key import SSlibKey

    from zoo.attestation.envelope import verify

    return verify(content, SSlibKey.from_crypto(Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()))


def _bill(content: bytes, folder: Path) -> object:
    from zoo.attestation.bom import billed

    return billed(content)


def _picture(path: Path) -> object:
    from zoo.pictures.canvas import numbers_of

    return numbers_of(path)


def _successor(content: bytes, folder: Path) -> object:
    from zoo.publishing.succession import successor_of

    return successor_of(content.decode("utf-8", "replace"), "org/name")


def _gguf(path: Path) -> object:
    from zoo.converters.gguf_file import GgufFile

    return GgufFile(path=path).shapes


def _arrays(path: Path) -> object:
    from zoo.converters.tensors import UnpackedFile

    return UnpackedFile(path=path).shapes


def _pickle(path: Path) -> object:
    from zoo.converters.unpickle import unpickle

    return unpickle(path)


def _licence(path: Path) -> object:
    from zoo.specs.licences import stated_license

    return stated_license(path)


def _folder_contents(name: str) -> Callable[[bytes, Path], object]:
    """The checks of files over a folder whose one file is the input."""

    def parse(content: bytes, folder: Path) -> object:
        from zoo.adapter import AdapterRepo
        from zoo.report import Crashed, Skipped
        from zoo.validators.check import Context
        from zoo.validators.checks.files import FILE_CHECKS
        from zoo.validators.engine import run_checks

        (folder / "adapter_config.json").write_text("{}")
        (folder / name).write_bytes(content)
        repo = AdapterRepo(root=folder, name="check")
        found = list(run_checks(Context(repo=repo, static=True), FILE_CHECKS))
        for one in found:
            match one.outcome:
                case Crashed(error=error):
                    raise AssertionError(error)
                case Skipped(reason=reason) if "did not pass" not in reason:
                    raise AssertionError(reason)
                case _:
                    pass
        return found

    return parse


def _template(content: bytes, folder: Path) -> object:
    from zoo.template_sandbox import render

    context: Mapping[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "tools": None}
    return render(content.decode("utf-8", "replace") + "{# strftime_now #}", [context])


def _pattern(content: bytes, folder: Path) -> object:
    from zoo.converters.patterns import resolve_patterns

    return resolve_patterns({content.decode("utf-8", "replace")[:300]: 4}, ["model.layers.0.q_proj"], 8)


def seed_bill() -> bytes:
    import tempfile

    from zoo.adapter import AdapterRepo
    from zoo.attestation.bom import bill, dump_bill

    with tempfile.TemporaryDirectory() as folder:
        repo = AdapterRepo.open(write_release(Path(folder) / "check"))
        assert repo.lock
        assert repo.release
        return dump_bill(bill(repo.root, repo.lock, repo.release))


def seed_picture() -> bytes:
    from tests.security.corpus.secrets import picture_words

    return picture_words()


def seed_gguf() -> bytes:
    def text(words: bytes) -> bytes:
        return struct.pack("<Q", len(words)) + words

    keys = text(b"general.type") + struct.pack("<I", 8) + text(b"adapter")
    keys += text(b"adapter.lora.alpha") + struct.pack("<If", 6, 16.0)
    keys += text(b"adapter.alora.invocation_tokens") + struct.pack("<IIQ3I", 9, 4, 3, 1, 2, 3)
    tensor = text(b"blk.0.attn_q.weight.lora_a") + struct.pack("<IQQIQ", 2, 4, 2, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 3) + keys + tensor
    return head + b"\0" * (-len(head) % 32) + b"\0" * 32


def seed_npz() -> bytes:
    import numpy as np

    made = io.BytesIO()
    np.savez(made, a=np.ones((2, 3), dtype=np.float32), b=np.zeros(4, dtype=np.float16))
    return made.getvalue()


def seed_torch() -> bytes:
    import torch

    made = io.BytesIO()
    torch.save({"lora_A": torch.ones(2, 3), "lora_B": torch.zeros(3, 2)}, made)
    return made.getvalue()


def seed_old_torch() -> bytes:
    import torch

    made = io.BytesIO()
    torch.save({"lora_A": torch.ones(2, 3)}, made, _use_new_zipfile_serialization=False)
    return made.getvalue()


def seed_envelope() -> bytes:
    signature = {"keyid": "a", "sig": base64.b64encode(b"\0" * 64).decode()}
    content = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [],
        "predicateType": "x",
        "predicate": {},
    }
    payload = base64.b64encode(json.dumps(content).encode()).decode()
    return json.dumps(
        {"payload": payload, "payloadType": "application/vnd.in-toto+json", "signatures": [signature]}
    ).encode()


def seed_report() -> bytes:
    import tempfile

    from tests.releases import report_on
    from zoo.render.json import render_json

    with tempfile.TemporaryDirectory() as folder:
        return render_json(report_on(write_release(Path(folder) / "check"))).encode()


def seed_vectors() -> bytes:
    import numpy as np
    from safetensors.numpy import save

    return save({"prompt.ids": np.ones((1, 2), dtype=np.int32)}, metadata={"alora_zoo": '{"format": 1}'})


SEED_IO = b"""model: context-relevance
response_format: |
  {"type": "object", "properties": {"relevance": {"type": "string", "enum": ["yes", "no"]}}}
transformations:
  - {type: likelihood, categories_to_values: {"yes": 1.0, "no": 0.0}, input_path: ["relevance"]}
instruction: Is the passage relevant?
parameters: {max_completion_tokens: 10}
sentence_boundaries: ~
"""
SEED_POLICY = b"""required: [ZR001, ZK001]
allowed_skips:
  - {code: ZX001, reason: "vLLM refuses aLoRA in 0.33", expires: 2027-03-01, adapters: ["rag-*"]}
author_skips: ignore
evaluation: {samples: 200, accuracy: 0.85}
"""
SEED_FLOW = b"steps:\n  - {name: a, adapter: ./a}\n  - {name: b, adapter: ./b, when: a.relevance == 'yes'}\n"
SEED_CARD = b"---\nlicense: apache-2.0\ntags: [a, b]\n---\n# A model\n"
SEED_TEMPLATE = (
    b"{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}\n{% endfor %}{{ tools is none }}"
)
# it is called by the process that it runs in, which turns this into ZV014
_PICKLED = (ValueError,)

PARSERS: Mapping[str, Parser] = {
    "adapter_config.json": Parser(
        read=in_file("adapter_config.json", _config), seed=released("adapter_config.json")
    ),
    "zoo.yaml": Parser(read=in_file("zoo.yaml", _release), seed=released("zoo.yaml")),
    "zoo.lock.json": Parser(read=in_file("zoo.lock.json", _lock), seed=released("zoo.lock.json")),
    "zoo-gate.yaml": Parser(read=in_file("zoo-gate.yaml", _policy), seed=lambda: SEED_POLICY),
    "safetensors": Parser(
        read=in_file("a.safetensors", _weights), seed=released("adapter_model.safetensors")
    ),
    "io.yaml": Parser(read=_io, seed=lambda: SEED_IO),
    "flow.yaml": Parser(read=_flow, seed=lambda: SEED_FLOW),
    "conformance vectors": Parser(read=_vectors, seed=seed_vectors),
    "report": Parser(read=in_file("report.json", _report), seed=seed_report, coded=False),
    "DSSE envelope": Parser(read=_envelope, seed=seed_envelope),
    "bill of materials": Parser(read=_bill, seed=seed_bill),
    "picture": Parser(read=in_file("a.png", _picture), seed=seed_picture),
    "base's card": Parser(read=in_file("README.md", _licence), seed=lambda: SEED_CARD),
    "superseded card": Parser(read=_successor, seed=lambda: SEED_CARD),
    "GGUF": Parser(read=in_file("a.gguf", _gguf), seed=seed_gguf),
    "NPZ": Parser(read=in_file("a.npz", _arrays), seed=seed_npz),
    "torch archive": Parser(read=in_file("a.pt", _pickle), seed=seed_torch, also=_PICKLED),
    "torch pickle": Parser(read=in_file("b.pt", _pickle), seed=seed_old_torch, also=_PICKLED),
    "plain pickle": Parser(
        read=in_file("c.pt", _pickle), seed=lambda: pickle.dumps({"a": [1, 2.5, "x"]}, 2), also=_PICKLED
    ),
    "file contents, text": Parser(read=_folder_contents("NOTES.md"), seed=lambda: b"# Notes\n\nwords\n"),
    "file contents, JSON": Parser(
        read=_folder_contents("tokenizer_config.json"), seed=lambda: b'{"a": [1, {}]}'
    ),
    "file contents, YAML": Parser(read=_folder_contents("a.yaml"), seed=lambda: SEED_POLICY),
    "file contents, archive": Parser(read=_folder_contents("a.png"), seed=seed_npz),
    "pattern": Parser(read=_pattern, seed=lambda: rb"layers\.\d+\.q_proj"),
    "template": Parser(read=_template, seed=lambda: SEED_TEMPLATE),
}
# These start a process for an example.
SLOW = frozenset({"pattern", "template"})
