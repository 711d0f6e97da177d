"""A shard of a library, gated by one Job: `python -m zoo.ci.fleet.shard` inside its container.

What it is to do is in the variable ZOO_SHARD, and what it found goes into its log, a few lines an adapter,
each of bounded length and with a digest: a log that was cut is seen, and its adapters are done again.
"""

import base64
import binascii
import json
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from zoo.ci.fleet.task import Finished, Order
from zoo.ci.fleet.worker import Worker
from zoo.errors import SpecError, ZooError
from zoo.provenance import sha256_bytes

ORDER, LIBRARY = "ZOO_SHARD", "ZOO_LIBRARY"
BEGUN, PART, REFUSED = "zoo-begun", "zoo-part", "zoo-refused"
LINE_BYTES = 4000  # of packed content; a longer line may be cut
MAX_BYTES = 32 << 20  # of one adapter's result, unpacked


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a shard's log holds.

    Attributes:
        finished: results by index.
        begun: indices of adapters that it began with, in order.
        refused: why it gave up as a whole; empty unless it did.
    """

    finished: Mapping[int, Finished] = field(default_factory=dict)
    begun: Sequence[int] = ()
    refused: str = ""


def pack(text: str) -> str:
    """Text in a form that fits a variable or a line."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def unpack(packed: str) -> str:
    """Text from what `pack` made.

    Raises:
        SpecError: it is damaged, or larger than any result.
    """
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(base64.b64decode(packed, validate=True), MAX_BYTES)
        if not stream.eof:
            raise SpecError("a shard's log holds a result that is cut, or too large")
        return content.decode()
    except (binascii.Error, zlib.error, UnicodeDecodeError):
        raise SpecError("a shard's log is damaged") from None


def lines_of(result: Finished) -> Iterator[str]:
    """A result as lines of a log."""
    packed = pack(result.dump())
    parts = [packed[at : at + LINE_BYTES] for at in range(0, len(packed), LINE_BYTES)]
    digest = sha256_bytes(packed.encode())[:16]
    for number, part in enumerate(parts, 1):
        yield f"{PART} {result.index} {number}/{len(parts)} {digest} {part}"


def read(lines: Iterable[str]) -> Said:
    """What a log says; a result of which anything is missing or damaged is left out."""
    parts: dict[tuple[int, str], dict[str, str]] = {}
    begun, refused = [], ""
    for line in lines:
        match line.split():
            case [word, task] if word == BEGUN and task.isdecimal():
                begun.append(int(task))
            case [word, task, number, digest, part] if word == PART and task.isdecimal():
                parts.setdefault((int(task), digest), {})[number] = part
            case [word, reason] if word == REFUSED:
                refused = _quietly(reason) or "it does not say why"
    finished = {}
    for (index, digest), found in parts.items():
        packed = "".join(found.get(f"{number}/{len(found)}", "") for number in range(1, len(found) + 1))
        if sha256_bytes(packed.encode())[:16] == digest and (text := _quietly(packed)):
            try:
                finished[index] = replace(Finished.load(text), index=index)
            except SpecError:
                continue
    return Said(finished=finished, begun=begun, refused=refused)


def work(text: str, library: Path) -> Iterator[str]:
    """Gates the adapters of a shard; what is shown on one holds for the next.

    Args:
        text: the shard: an order, and indices with places in the library.
        library: where that is here.

    Yields:
        The lines of the log.
    """
    content = json.loads(text)
    order = Order.load(content["order"])
    suites = [one.model_copy(update={"data": str(library / one.data)}) for one in order.policy.suites]
    order = replace(order, policy=order.policy.model_copy(update={"suites": suites}))
    worker, known = Worker(order.dump()), dict[str, str]()
    for index, place in content["adapters"]:
        yield f"{BEGUN} {index}"
        result = worker.check(index, str(library / place), known)
        known |= result.shown
        yield from lines_of(result)


def main() -> int:
    """Does the shard of this container; its exit code says only whether it came to the end."""
    try:
        for line in work(unpack(os.environ[ORDER]), Path(os.environ[LIBRARY])):
            print(line, flush=True)
    except ZooError as error:
        print(f"{REFUSED} {pack(str(error))}", flush=True)
        return error.exit_code
    return 0


def _quietly(packed: str) -> str:
    try:
        return unpack(packed)
    except SpecError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
