"""What a file is, told by its bytes and not by its name: archives and pickles that hide in other formats.

An archive is found from its end (the zip format's end-of-central-directory record), so that a picture, a text
or a safetensors file in order can be one as well; a pickle of protocol 0 or 1 has no magic number.
Sources: PKWARE APPNOTE 6.3.10, section 4.3.16; Python's pickletools.
"""

import re
import struct
from pathlib import Path

_TAIL = 22 + (1 << 16)  # the record and its longest comment
_MAGIC = {
    b"PK\x03\x04": "a zip archive, as torch.save writes it",
    b"\x80": "a pickle",
    b"GGUF": "a GGUF file",
}
# The names of a pickle's functions: each needs one, `c` or `i` and two lines, or two texts and `\x93`.
_CALLS = re.compile(rb"[ci][A-Za-z_][\w.]{0,200}\r?\n[A-Za-z_][\w.]{0,200}\r?\n")
_LOOKED_AT = 1 << 16


def beginning(start: bytes) -> str:
    """What a file is by its first bytes; empty where they say nothing."""
    return next((what for magic, what in _MAGIC.items() if start.startswith(magic)), "")


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive, whatever else it is.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        begin = stream.seek(max(0, size - _TAIL))
        tail = stream.read(_TAIL)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        return False
    count, length, offset = struct.unpack_from("<HII", tail, at + 10)
    if tail[:at].rfind(b"PK\x06\x07") >= 0 and 0xFFFF_FFFF in (length, offset):
        return True  # of the format's 64-bit extension
    # weights are random bytes: the four letters alone prove nothing
    return bool(count > 0 and 46 * count <= length and offset + length <= begin + at)


def is_pickle(raw: bytes) -> bool:
    """Whether a text is a pickle that calls something, of a protocol that is plain text.

    Args:
        raw: the beginning of the file, or all of it.
    """
    if not _CALLS.search(raw[:_LOOKED_AT]):
        return False
    import pickletools

    called = False
    try:
        for opcode, _, _ in pickletools.genops(raw[:_LOOKED_AT]):
            called = called or opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL")
    except (ValueError, IndexError, UnicodeDecodeError, OverflowError):
        return False
    return called
