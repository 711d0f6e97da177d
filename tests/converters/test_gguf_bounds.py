"""A GGUF header is added up before anything follows it."""

import struct
from pathlib import Path

import pytest

from tests.security.corpus.sources import gguf, gguf_array, gguf_text
from tests.security.parsers import seed_gguf
from zoo.converters.gguf_bounds import BoundsError, check_bounds


def test_a_header_in_order_is_let_through(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(seed_gguf())
    check_bounds(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "ends within"),
        (b"GGML" + bytes(20), "no GGUF"),
        (gguf(1 << 60, 0), "announces"),
        (gguf(0, 1 << 60), "announces"),
        (gguf(0, 1), "ends within"),
        (gguf(0, 1, gguf_text(1 << 62)), "a text of"),
        (gguf_array(200_000, 1), "more than 100,000 values"),
        (gguf(0, 1, struct.pack("<Q", 1) + b"a" + struct.pack("<IIQ", 9, 9, 1)), "array of arrays"),
        (gguf(0, 1, struct.pack("<Q", 1) + b"a" + struct.pack("<I", 77)), "type 77"),
        (gguf(1, 0, struct.pack("<Q", 1) + b"a" + struct.pack("<I", 5000)), "5,000 dimensions"),
    ],
)
def test_what_announces_too_much_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    with pytest.raises(BoundsError, match=said):
        check_bounds(path)
