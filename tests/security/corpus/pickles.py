"""Pickles under any name. Each would leave a file if anything ran it."""

import io
import os
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

from tests.security.hostile import CANARY, Change, Hostile, put
from zoo.models import BaseModel

WEIGHTS = "adapter_model.safetensors"


class Payload:
    """Leaves a file in the working folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {CANARY}",)


def pickled(protocol: int = 2) -> bytes:
    return pickle.dumps({"lora_A": Payload()}, protocol=protocol)


TEXTUAL = f"cos\nsystem\n(S'touch {CANARY}'\ntR.".encode()  # protocol 0 is plain text


def torch_zip(content: bytes | None = None) -> bytes:
    """What torch.save writes: a zip archive around a pickle."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", pickled() if content is None else content)
        archive.writestr("archive/version", "3\n")
    return made.getvalue()


def png(more: bytes = b"") -> bytes:
    """One grey pixel, and whatever comes behind it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    head = chunk(b"IHDR", b"\0\0\0\1\0\0\0\1\x08\0\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"") + more


def padded(more: bytes) -> Change:
    """Weights in order whose last tensor, which nobody needs, is something else."""

    def change(folder: Path, base: BaseModel) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / WEIGHTS)
        tensors["zzz"] = torch.frombuffer(bytearray(more), dtype=torch.uint8)  # the narrowest type is last
        save_file(tensors, folder / WEIGHTS)

    return change


def _case(name: str, code: str, change: Change) -> Hostile:
    return Hostile(family="pickle", name=name, code=code, change=change)


PICKLES = (
    _case("beside the weights", "ZF001", put("adapter_model.bin", pickled())),
    _case("as the weights", "ZF003", put(WEIGHTS, pickled())),
    _case("torch's archive as the weights", "ZF003", put(WEIGHTS, torch_zip())),
    _case("training arguments", "ZF001", put("training_args.bin", pickled(4))),
    _case("joblib", "ZF001", put("labels.joblib", pickled(4))),
    _case("numpy objects", "ZF001", put("classes.npy", b"\x93NUMPY\x01\x00" + pickled())),
    _case("as notes", "ZF003", put("NOTES.md", pickled(4))),
    _case("as notes, protocol 0", "ZF003", put("NOTES.md", TEXTUAL)),
    _case("as a licence", "ZF003", put("LICENSE", pickled())),
    _case("as a sentencepiece model", "ZF003", put("tokenizer.model", pickled())),
    _case("as a sentencepiece model, protocol 0", "ZF003", put("tokenizer.model", TEXTUAL)),
    _case("as a template, protocol 0", "ZF003", put("chat_template.jinja", TEXTUAL)),
    _case("as a picture", "ZF003", put("images/loss.png", pickled())),
    _case("archive behind a picture", "ZF003", put("images/loss.png", png(torch_zip()))),
    _case("archive behind a picture's words", "ZF003", put("images/loss.jpg", b"\xff\xd8" + torch_zip())),
    _case("archive in the weights", "ZF003", padded(torch_zip())),
    _case("archive as vectors", "ZF003", put("conformance.safetensors", torch_zip())),
    _case("archive behind a text", "ZF003", put("NOTICE", b"Copyright\n" + torch_zip())),
)
