import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo import safetensors_header
from zoo.errors import RefusedError
from zoo.safetensors_header import parse_header, read_header

PATH = Path("adapter_model.safetensors")


def file_bytes(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def refused(content: bytes) -> str:
    """What the parser says against the content, or an empty string."""
    length = int.from_bytes(content[:8], "little")
    try:
        parse_header(content[8 : 8 + length], data_begin=8 + length, size_bytes=len(content), path=PATH)
    except RefusedError as error:
        return f"{error.code}: {error.message}" if error.code == "ZF003" else ""
    return ""


def library_accepts(content: bytes) -> bool:
    from safetensors import SafetensorError, deserialize

    try:
        deserialize(content)
    except SafetensorError:
        return False
    return True


DTYPES = ["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"]
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


@st.composite
def well_formed(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    names = draw(st.lists(st.text(min_size=1, max_size=8), max_size=5, unique=True))
    header: dict[str, Any] = {}
    position = 0
    for name in names:
        if name == "__metadata__":
            continue
        dtype = draw(st.sampled_from(DTYPES))
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        size = SIZES[dtype]
        for dimension in shape:
            size *= dimension
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    if draw(st.booleans()):
        header["__metadata__"] = draw(st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2))
    return header, bytes(position)


@settings(max_examples=200, deadline=None)
@given(well_formed())
def test_what_the_library_reads_is_read_the_same(content: tuple[dict[str, Any], bytes]) -> None:
    from safetensors import deserialize

    header, data = content
    raw = file_bytes(header, data)
    if not library_accepts(raw):  # surrogates and the like, which JSON lets through
        return
    length = int.from_bytes(raw[:8], "little")
    ours = parse_header(raw[8 : 8 + length], data_begin=8 + length, size_bytes=len(raw), path=PATH)
    theirs = {name: (entry["dtype"], list(entry["shape"])) for name, entry in deserialize(raw)}
    assert {name: (info.dtype, list(info.shape)) for name, info in ours.tensors.items()} == theirs
    assert ours.metadata == header.get("__metadata__", {})


@settings(max_examples=400, deadline=None)
@given(well_formed(), st.data())
def test_damage_that_the_library_notices_is_noticed_here(
    content: tuple[dict[str, Any], bytes], data: st.DataObject
) -> None:
    raw = bytearray(file_bytes(*content))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(8, len(raw) - 1))] = data.draw(st.integers(0, 255))
    if not library_accepts(bytes(raw)):
        assert refused(bytes(raw))


@pytest.mark.parametrize(
    "header",
    [
        b'{"\\ud800 x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
        b'{"__metadata__": {"a": "\\udc00"}, "x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
    ],
)
def test_half_a_surrogate_pair_is_no_name(header: bytes) -> None:
    raw = len(header).to_bytes(8, "little") + header + bytes(8)
    assert not library_accepts(raw)
    assert refused(raw)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_do_anything_but_parse_or_be_refused(raw: bytes) -> None:
    refused(file_bytes(raw))


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        (b"[1]", 0, "not an object"),
        (b"{", 0, "unreadable"),
        (b'{"a": 1, "a": 1}', 0, "stands twice"),
        (b"[" * 100_000, 0, "unreadable"),
        (b'{"a": ' * 100_000, 0, "unreadable"),
        ({"a": entry()}, 7, "lacks its last"),
        ({"a": entry()}, 9, "no tensor claims"),
        ({"a": entry(offsets=[4, 12])}, 12, "a gap or an overlap"),
        ({"a": entry(), "b": entry(offsets=[4, 12])}, 12, "a gap or an overlap"),
        ({"a": entry(shape=[3])}, 8, "does not fit its bytes"),
        ({"a": entry(shape=[-2])}, 8, "does not know"),
        ({"a": entry(shape=[True, 2])}, 8, "does not know"),
        ({"a": entry(shape=[2**40, 0], offsets=[0, 0])}, 0, "does not know"),
        ({"a": entry(shape=[1] * 9)}, 8, "does not know"),
        ({"a": entry(dtype="F4")}, 8, "does not know"),
        ({"a": entry(dtype="PICKLE")}, 8, "does not know"),
        ({"a": entry(offsets=[8, 0])}, 8, "does not know"),
        ({"a": entry(offsets=[0.0, 8.0])}, 8, "does not know"),
        ({"a": entry(offsets=[False, 8])}, 8, "does not know"),
        ({"a": entry(offsets=[0])}, 8, "does not know"),
        ({"a": 3}, 0, "does not know"),
        ({"__metadata__": {"a": 1}}, 0, "metadata"),
        ({"__metadata__": "x"}, 0, "metadata"),
    ],
)
def test_each_kind_of_damage_has_its_words(header: object, data: int, says: str) -> None:
    assert says in refused(file_bytes(header, bytes(data)))


def test_bounds_hold_before_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "adapter_model.safetensors"
    for content in (
        b"",
        b"\x80\x05",
        (2**63).to_bytes(8, "little") + b"{}",
        (safetensors_header.MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b"{}",
        b"\x80\x04\x95\x00\x00\x00\x00\x00" + b"a pickle" * 4,
    ):
        path.write_bytes(content)
        with pytest.raises(RefusedError) as caught:
            read_header(path)
        assert caught.value.code == "ZF003"
        assert "safetensors" in caught.value.message


def test_a_million_tensors_are_too_many() -> None:
    header = {f"t{i}": entry(shape=[0], offsets=[0, 0]) for i in range(safetensors_header.MAX_TENSORS + 1)}
    assert "over the limit" in refused(file_bytes(header))


def test_a_real_file(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    save_file({"b": torch.ones(2, 3), "a": torch.ones(4, dtype=torch.bfloat16)}, path, metadata={"k": "v"})
    found = read_header(path)
    assert {name: (i.dtype, i.shape, i.elements) for name, i in found.tensors.items()} == {
        "a": ("BF16", (4,), 4),
        "b": ("F32", (2, 3), 6),
    }
    assert found.metadata == {"k": "v"}
    info = found.tensors["b"]
    assert (
        torch.frombuffer(bytearray(path.read_bytes()[info.begin : info.end]), dtype=torch.float32).tolist()
        == [1] * 6
    )
    assert info.size_bytes == 24
