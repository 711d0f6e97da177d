"""What the numbers of a safetensors file look like, told from their bits.

A float is NaN or infinite exactly when all its exponent bits are set, and zero when all but its sign are
clear; both can be read off the stored bytes, many lanes at once in one large integer, without numpy (whose
import alone costs more than looking at ten megabytes) and without converting anything.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import BinaryIO

from zoo.safetensors_header import Header, TensorInfo

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Lanes:
    """How one float type stores its exponent.

    Attributes:
        width_bytes: bytes an element.
        exponent: mask of the exponent bits; for F8_E4M3, which has no infinity, of exponent and mantissa.
        carry: added to `exponent` it sets exactly the sign bit.
    """

    width_bytes: int
    exponent: int
    carry: int

    @property
    def sign(self) -> int:
        """Mask of the sign bit."""
        return self.exponent + self.carry

    @cached_property
    def suspicious(self) -> bytes:
        """The top bytes that an element has which is not finite, and that trained weights never have."""
        mask = self.exponent >> 8 * (self.width_bytes - 1)
        return bytes(byte for byte in range(256) if byte & mask == mask)


# Sources: IEEE 754 for F64, F32, F16; bfloat16 is F32's upper half; the F8 types are those of
# "FP8 Formats for Deep Learning" (arXiv 2209.05433), in which E4M3 has a single NaN pattern and no infinity.
FLOATS: Mapping[str, Lanes] = {
    "F64": Lanes(width_bytes=8, exponent=0x7FF0_0000_0000_0000, carry=0x0010_0000_0000_0000),
    "F32": Lanes(width_bytes=4, exponent=0x7F80_0000, carry=0x0080_0000),
    "F16": Lanes(width_bytes=2, exponent=0x7C00, carry=0x0400),
    "BF16": Lanes(width_bytes=2, exponent=0x7F80, carry=0x0080),
    "F8_E5M2": Lanes(width_bytes=1, exponent=0x7C, carry=0x04),
    "F8_E4M3": Lanes(width_bytes=1, exponent=0x7F, carry=0x01),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """One tensor's numbers.

    Attributes:
        not_finite: how many are NaN or infinite; None when its dtype is no float.
        zero: whether all are zero (also when there are none).
    """

    not_finite: int | None
    zero: bool


def inspect_file(path: Path, header: Header) -> Mapping[str, Payload]:
    """Looks at every tensor of a file, one megabyte at a time.

    Args:
        path: the file.
        header: its header.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        return {name: _inspect(stream, info) for name, info in header.tensors.items()}


def _inspect(stream: BinaryIO, info: TensorInfo) -> Payload:
    lanes = FLOATS.get(info.dtype)
    stream.seek(info.begin)
    remaining, not_finite, zero = info.size_bytes, 0, True
    while remaining:
        piece = stream.read(min(PIECE_BYTES, remaining))
        if not piece:
            raise OSError(5, "the file ends before its tensors do")
        remaining -= len(piece)
        if lanes:
            not_finite += count_not_finite(piece, lanes)
            zero = zero and _all_zero(piece, lanes)
        else:
            zero = zero and not any(piece)
    return Payload(not_finite=not_finite if lanes else None, zero=zero)


def count_not_finite(piece: bytes, lanes: Lanes) -> int:
    """How many floats in the bytes are NaN or infinite.

    Adding one exponent unit to the exponent bits alone carries into the sign position exactly where all of
    them were set, and never further, so that no lane touches its neighbour.

    Args:
        piece: whole elements, little-endian.
        lanes: their type.
    """
    tops = piece[lanes.width_bytes - 1 :: lanes.width_bytes]
    if len(tops.translate(None, delete=lanes.suspicious)) == len(tops):
        return 0
    exponents = int.from_bytes(piece, "little") & _repeat(lanes.exponent, lanes.width_bytes, len(piece))
    carried = exponents + _repeat(lanes.carry, lanes.width_bytes, len(piece))
    return (carried & _repeat(lanes.sign, lanes.width_bytes, len(piece))).bit_count()


def _all_zero(piece: bytes, lanes: Lanes) -> bool:
    if piece.strip(b"\x00\x80"):  # a byte with more than its top bit set: found at once in trained weights
        return False
    everything_but_sign = _repeat(lanes.sign - 1, lanes.width_bytes, len(piece))
    return not int.from_bytes(piece, "little") & everything_but_sign


@lru_cache(maxsize=32)  # pieces mostly have one size, and a mask costs as much to make as to use
def _repeat(lane: int, width_bytes: int, size_bytes: int) -> int:
    """`lane` in every element of so many bytes, as one integer."""
    return int.from_bytes(lane.to_bytes(width_bytes, "little") * (size_bytes // width_bytes), "little")
