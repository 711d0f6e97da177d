"""Weights whose header lies, explodes, or means different things to different readers."""

import json
from pathlib import Path
from typing import Any

from tests.security.corpus.pickles import WEIGHTS
from tests.security.hostile import Change, Door, Hostile, put
from zoo.models import BaseModel

_MIB = 1 << 20


def raw(header: bytes, data: bytes = b"", *, length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def table(tensors: Any, data: bytes = b"") -> bytes:
    return raw(json.dumps(tensors).encode(), data)


def tensor(shape: Any, begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def holes(size: int, header: bytes | None = None) -> Change:
    """A file that claims to be large and takes no room: reading it is the attack."""

    def change(folder: Path, base: BaseModel) -> None:
        with (folder / WEIGHTS).open("wb") as stream:
            stream.write(header or b"")
            stream.truncate(size)

    return change


def one_giant(rows: int) -> Change:
    """A single tensor of zeros, in order but for being a hole of gigabytes."""
    header = json.dumps({"a": tensor([rows, 1024], 0, rows * 4096)}).encode()
    return holes(8 + len(header) + rows * 4096, raw(header))


def doubled() -> bytes:
    """A name that stands twice: readers differ in which one they take."""
    one = json.dumps(tensor([1], 0, 4))
    return raw(f'{{"a": {one}, "a": {one}}}'.encode(), b"\0" * 4)


def many() -> bytes:
    return table({str(index): tensor([0], 0, 0) for index in range(200_000)})


def millions(one: bytes, count: int) -> Change:
    """A header of very many small things."""
    return put(WEIGHTS, lambda: raw(b'{"a":[' + (one + b",") * count + one + b"]}"))


def _case(
    name: str,
    content: bytes | Change,
    door: Door = Door.VALIDATE,
    code: str = "ZF003",
    relock: bool = True,
) -> Hostile:
    change = put(WEIGHTS, content) if isinstance(content, bytes) else content
    return Hostile(family="header", name=name, code=code, change=change, door=door, relock=relock)


HEADERS = (
    _case("a length of 2^63", raw(b"{}", length=1 << 63)),
    _case("a length past the end", raw(b"{}", length=4096)),
    _case("seven bytes", b"\0" * 7),
    _case("twenty million brackets", put(WEIGHTS, lambda: raw(b'{"a":' + b"[" * (20 * _MIB) + b"}"))),
    _case("six million objects", millions(b"{}", 6 * _MIB)),
    _case("seven million lists", millions(b"[]", 7 * _MIB), Door.CONVERT),
    _case("five million numbers", millions(b"1.5", 5 * _MIB), Door.INSPECT),
    _case("200,000 tensors", put(WEIGHTS, many)),
    _case("200,000 tensors, converted", put(WEIGHTS, many), Door.CONVERT),
    _case("a dimension of 2^40", table({"a": tensor([2**40, 0], 0, 0)})),
    _case("a product beyond 64 bits", table({"a": tensor([2**31 - 1] * 8, 0, 4)}, b"\0" * 4)),
    _case("a thousand dimensions", table({"a": tensor([1] * 1000, 0, 4)}, b"\0" * 4)),
    _case("a number of 5,000 digits", raw(b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b"]}}")),
    _case("a negative dimension", table({"a": tensor([-1, -1], 0, 4)}, b"\0" * 4)),
    _case("a dimension that is true", table({"a": tensor([True], 0, 4)}, b"\0" * 4)),
    _case("tensors that overlap", table({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, b"\0" * 12)),
    _case("a gap between tensors", table({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, b"\0" * 12)),
    _case("bytes behind the tensors", table({"a": tensor([1], 0, 4)}, b"\0" * 4096)),
    _case("a name twice", doubled()),
    _case("a type nobody knows", table({"a": tensor([1], 0, 4, "Q4_K")}, b"\0" * 4)),
    _case("metadata that nest", table({"__metadata__": {"a": {"b": "c"}}})),
    _case("UTF-16", raw(json.dumps({"a": tensor([0], 0, 0)}).encode("utf-16"))),
    _case("half a character", raw(b'{"\\ud800": {"dtype":"F32","shape":[0],"data_offsets":[0,0]}}')),
    _case("a hole of 200 GB", holes(200 << 30), code="ZF004", relock=False),
    _case("a hole of 3.5 GB in order", one_giant(917_504), code="ZF004", relock=False),
    _case("a hole of 3.5 GB, verified", one_giant(917_504), Door.VERIFY, code="ZF004", relock=False),
    _case("a hole of 200 GB, on a card", holes(200 << 30), Door.CARD, code="ZF004", relock=False),
    _case("a hole of 3.5 GB, published", one_giant(917_504), Door.PUBLISH, code="ZF004", relock=False),
)
