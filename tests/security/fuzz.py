"""Every parser of a stranger's bytes, fed with what nobody would write.

    python -m tests.security.fuzz [--examples 2000]

A parser may read its input or refuse it: with an error of zoo's own, which has a code, and within seconds.
Anything else is a hole. Inputs are valid ones with pieces cut, doubled, moved, and put in from a list of what
parsers stumble over; hypothesis chooses, and shrinks what it finds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.errors import ZooError

MAX_SECONDS = 5.0
Read = Callable[[bytes, Path], object]


@dataclass(frozen=True, kw_only=True)
class Parser:
    """One parser.

    Attributes:
        read: gives it bytes; the folder is scratch.
        seed: a valid input.
        also: what it raises by contract besides zoo's errors: it is called by what turns that into one.
        coded: whether its errors carry a code; where the caller gives one, they do not.
    """

    read: Read
    seed: Callable[[], bytes]
    also: tuple[type[Exception], ...] = ()
    coded: bool = True


# What YAML, JSON, binary formats, file systems and terminals stumble over.
PIECES: tuple[bytes, ...] = (
    b"", b"\0", b"\n", b"\r\n", b"\t", b" ", b"[", b"]", b"{", b"}", b":", b",", b'"', b"'", b"\\", b"#",
    b"- ",
    b"? ", b"[" * 300, b'{"a":' * 300, b"- " * 300, b"&a ", b"*a", b"<<: ", b"!!int ''", b"%YAML 9", b"---\n",
    b"!!python/object:os.system", b"...\n", b"|+9\n", b">-\n", b"null", b"true", b"no", b"~", b"-1", b"0",
    b"1e999",
    b"NaN", b"-Infinity", b"9" * 400, b"9" * 5000, b"0x" + b"f" * 400, b"1:" * 200 + b"1", b"2001-13-45",
    b"0001-01-01 00:00:00 +23:59", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3(", b"\\ud800",
    b"\\u0000", "\u202e\u200b\ufeff".encode(), b"\x1b[2J", b"../../etc/passwd", b"(.*)*x", b"a" * 5000,
    b"\x7f" + b"\xff" * 7, b"\xff" * 8, b"\x80\x02", b"PK\x03\x04", b"PK\x05\x06", b"GGUF", b"\x93NUMPY",
    b"{% for a in b %}", b"$ref", b"cos\nsystem\n",
)  # fmt: skip


def edited(seed: bytes) -> st.SearchStrategy[bytes]:
    """A valid input with some edits, or something else altogether."""
    place = st.integers(0, max(len(seed), 1))
    edit = st.tuples(
        place, st.integers(0, 40), st.one_of(st.sampled_from(PIECES), st.binary(max_size=12), place)
    )

    def apply(edits: Sequence[tuple[int, int, bytes | int]]) -> bytes:
        content = seed
        for at, cut, piece in edits:
            new = content[piece : piece + 60] if isinstance(piece, int) else piece
            content = content[:at] + new + content[at + cut :]
        return content

    whole = st.one_of(st.binary(max_size=400), st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join))
    return st.one_of(st.lists(edit, min_size=1, max_size=6).map(apply), whole)


def trial(parser: Parser, content: bytes, folder: Path) -> str:
    """What is wrong with how a parser takes an input; empty where nothing is."""
    begin = time.process_time()
    try:
        parser.read(content, folder)
    except ZooError as error:
        if error.exit_code == 4 or (parser.coded and not error.code):
            return f"{type(error).__name__} without a code: {error}"
        str(error).encode()
    except parser.also:
        pass
    except Exception as error:  # the hole that is looked for
        return f"{type(error).__name__}: {str(error)[:200]}"
    seconds = time.process_time() - begin
    return f"took {seconds:.1f} s" if seconds > MAX_SECONDS else ""


def fuzz(parser: Parser, folder: Path, examples: int) -> None:
    """Runs so many examples; raises an AssertionError with the smallest input that gets through."""

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(edited(parser.seed()))
    def look(content: bytes) -> None:
        problem = trial(parser, content, folder)
        assert not problem, (problem, content[:500])

    look()


def main() -> None:
    """Fuzzes every parser and prints a line each."""
    from tests.security.parsers import PARSERS

    options = argparse.ArgumentParser()
    options.add_argument("--examples", type=int, default=2000)
    options.add_argument("--only", default="")
    chosen = options.parse_args()
    for name, parser in PARSERS.items():
        if chosen.only in name:
            begin = time.process_time()
            with tempfile.TemporaryDirectory() as folder:
                try:
                    fuzz(parser, Path(folder), chosen.examples)
                except AssertionError as error:
                    print(f"{name:<24} {error}", flush=True)
                else:
                    print(f"{name:<24} {chosen.examples} in {time.process_time() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
