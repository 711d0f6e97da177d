"""Checkpoints in other formats that come to be converted or inspected: archives, pickles, GGUF."""

import io
import json
import pickle
import shutil
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.security.corpus.pickles import TEXTUAL, WEIGHTS, Payload, pickled, torch_zip
from tests.security.hostile import Change, Door, Hostile
from zoo.models import BaseModel

ZEROS = b"\0" * (64 << 20)


def instead(name: str, content: bytes | Callable[[], bytes]) -> Change:
    """The weights lie under another name."""

    def change(folder: Path, base: BaseModel) -> None:
        (folder / WEIGHTS).unlink()
        (folder / name).write_bytes(content if isinstance(content, bytes) else content())

    return change


def alone(name: str, content: bytes | Callable[[], bytes]) -> Change:
    """Nothing but one file of weights, as other trainers write it."""

    def change(folder: Path, base: BaseModel) -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / name).write_bytes(content if isinstance(content, bytes) else content())

    return change


def zipped(members: dict[str, bytes], times: int = 1) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            with archive.open(name, "w", force_zip64=True) as stream:
                for _ in range(times):
                    stream.write(content)
    return made.getvalue()


def npy(shape: str, data: bytes = b"", kind: str = "<f4") -> bytes:
    words = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}}}".encode()
    words += b" " * (-(len(words) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(words)) + words + data


def objects() -> bytes:
    return npy("(1,)", pickle.dumps([Payload()]), "|O")


def expanded() -> bytes:
    """One stored number seen as a matrix of gigabytes."""
    import torch

    made = io.BytesIO()
    torch.save({"lora_A": torch.ones(1).expand(30_000, 30_000)}, made)
    return made.getvalue()


def inflated() -> bytes:
    """torch's archive with its storage deflated: small on disk, gigabytes in memory."""
    import torch

    stored = io.BytesIO()
    torch.save({"lora_A": torch.zeros(1)}, stored)
    made = io.BytesIO()
    with (
        zipfile.ZipFile(stored) as old,
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for info in old.infolist():
            content = old.read(info)
            with new.open(info.filename, "w", force_zip64=True) as stream:
                stream.write(content)
                if "/data/" in info.filename:
                    for _ in range(32):
                        stream.write(ZEROS)
    return made.getvalue()


def doubling() -> bytes:
    """A pickle of a few hundred bytes whose lists hold 2^60 elements when they are followed."""
    nest: Any = [0]
    for _ in range(60):
        nest = [nest, nest]
    return pickle.dumps({"lora_A": nest}, protocol=2)


def swelling() -> bytes:
    """A pickle that asks for ten gigabytes of bytes from an allowed function."""
    return b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\xe4\x0b\x54\x02\x85R."


def jumping() -> bytes:
    """A pickle whose memo has one entry, at four billion."""
    return b"\x80\x02}r\xff\xff\xff\xff."


def giant() -> bytes:
    return zipped({"a.npy": npy("(33554432, 16)"), "b.npy": ZEROS}, times=32)


def many() -> bytes:
    return zipped({f"{number}.npy": b"" for number in range(100_000)})


def gguf(tensors: int, keys: int, more: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + more


def gguf_text(length: int) -> bytes:
    return struct.pack("<Q", length) + b"general.name"


def gguf_array(count: int, times: int) -> bytes:
    one = b"".join((struct.pack("<Q", 1), b"a", struct.pack("<IIQ", 9, 0, count), b"\0" * count))
    return gguf(0, times, one * times)


def _case(
    name: str, change: Change, code: str = "ZV014", *, family: str = "source", door: Door = Door.CONVERT
) -> Hostile:
    return Hostile(family=family, name=name, code=code, change=change, door=door, relock=False)


NESTED_METADATA = json.dumps({"__metadata__": {"ss_network_args": "[" * 1_000_000}}).encode()
SOURCES = (
    _case("a pickle", instead("adapter_model.bin", pickled())),
    _case("a pickle, inspected", instead("adapter_model.bin", pickled()), door=Door.INSPECT),
    _case("a pickle of protocol 0", alone("adapter_0.pt", TEXTUAL)),
    _case("a pickle in an archive", instead("adapter_model.bin", torch_zip())),
    _case("a pickle one level down", alone("lit_model.pth.lora", pickle.dumps({"model": Payload()}, 2))),
    _case("a pickle that doubles", instead("adapter_model.bin", doubling())),
    _case("a pickle that swells", instead("adapter_model.bin", swelling())),
    _case("a pickle that jumps", instead("adapter_model.bin", jumping())),
    _case("a pickle of another map", instead("adapter_model.bin", pickle.dumps(OrderedDict(a=1), 2))),
    _case("one number as gigabytes", instead("adapter_model.bin", expanded), family="zip bomb"),
    _case("torch's archive, deflated", instead("adapter_model.bin", inflated), family="zip bomb"),
    _case("an archive without end", instead("adapter_model.bin", torch_zip()[:-40])),
    _case("arrays of objects", alone("adapters.npz", zipped({"a.npy": objects()}))),
    _case("arrays that are a pickle", alone("adapters.npz", pickled())),
    _case("arrays of 2 GB", alone("adapters.npz", giant), family="zip bomb"),
    _case("an array larger than its data", alone("adapters.npz", zipped({"a.npy": npy("(9999999999999,)")}))),
    _case("an array of -1", alone("adapters.npz", zipped({"a.npy": npy("(-1,)")}))),
    _case("an array whose header is code", alone("adapters.npz", zipped({"a.npy": npy("__import__('os')")}))),
    _case("an array's header that nests",
          alone("adapters.npz", zipped({"a.npy": npy("(" * 4000 + ")" * 4000)}))),
    _case("100,000 arrays", alone("adapters.npz", many)),
    _case("2^60 tensors", alone("a.gguf", gguf(1 << 60, 0)), "ZV016", family="gguf"),
    _case("2^60 keys", alone("a.gguf", gguf(0, 1 << 60)), "ZV016", family="gguf"),
    _case("a text of 2^62", alone("a.gguf", gguf(0, 1, gguf_text(1 << 62))), "ZV016", family="gguf"),
    _case("an array of 2^61", alone("a.gguf", gguf(0, 1, struct.pack("<Q", 1) + b"a"
          + struct.pack("<IIQ", 9, 0, 1 << 61))), "ZV016", family="gguf"),
    _case("arrays of ten million", alone("a.gguf", lambda: gguf_array(500_000, 20)), "ZV016", family="gguf"),
    _case("arrays of arrays", alone("a.gguf", gguf(0, 1, struct.pack("<Q", 1) + b"a" + struct.pack("<I", 9)
          + struct.pack("<IQ", 9, 1) * 100_000)), "ZV016", family="gguf"),
    _case("GGUF, cut", alone("a.gguf", b"GGUF\x03\0\0\0"), "ZV016", family="gguf"),
    _case("metadata that nest", alone("adapters.safetensors",
          len(NESTED_METADATA).to_bytes(8, "little") + NESTED_METADATA), "ZF003"),
)  # fmt: skip
