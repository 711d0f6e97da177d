"""A frozen sample: lines of a data file, drawn once and stratified, that every version is asked.

Of closed answers every one comes as often as any other, as far as there are so many: a rare answer is then
measured as well as a common one. Open answers are stratified by the length of their request. Lines are drawn
by a digest of their own text, so neither the file's order nor lines that come later change which; and of each
group one is taken before a second.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoo.evaluation.answers import is_closed
from zoo.provenance import sha256_bytes
from zoo.training.dataset import Sample, read_dataset

QUARTERS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What was drawn.

    Attributes:
        content: the lines, in the order of the file they came from.
        strata: how many of each stratum.
    """

    content: bytes
    strata: Mapping[str, int]

    @property
    def sha256(self) -> str:
        """Digest of the content, which a policy states."""
        return sha256_bytes(self.content)


def draw(path: Path, *, samples: int, seed: int = 0) -> Drawn:
    """Draws a stratified sample of a data file; all of it where it has no more lines.

    Args:
        path: JSONL, see `zoo.training.dataset.read_dataset`.
        samples: how many lines.
        seed: of the draw.

    Raises:
        NotFoundError: no such file.
        SpecError: ZD001, a line breaks the form.
    """
    data = read_dataset(path, values=True)
    lines = path.read_bytes().split(b"\n")
    raw = {one.line: lines[one.line - 1].strip() for one in data.samples}
    keys = {line: sha256_bytes(f"{seed}\n".encode() + text) for line, text in raw.items()}
    names = dict(zip(keys, strata(data.samples), strict=True))
    waiting: dict[str, list[int]] = {}
    for line in _order(data.samples, keys):
        waiting.setdefault(names[line], []).append(line)
    chosen: list[int] = []
    while len(chosen) < samples and waiting:
        for name in sorted(waiting)[: samples - len(chosen)]:  # one of each stratum in turn
            chosen.append(waiting[name].pop(0))
            if not waiting[name]:
                del waiting[name]
    found = sorted(chosen)
    return Drawn(
        content=b"".join(raw[line] + b"\n" for line in found),
        strata=dict(sorted(Counter(names[line] for line in found).items())),
    )


def strata(samples: Sequence[Sample]) -> list[str]:
    """The stratum of each sample: a closed answer itself, else the quarter of its length."""
    answers = [json.dumps(one.answer, sort_keys=True, ensure_ascii=False) for one in samples]
    if is_closed(len(set(answers)), len(answers)):
        return answers
    order = sorted(range(len(samples)), key=lambda row: (_length(samples[row]), row))
    quarter = {row: place * QUARTERS // len(samples) for place, row in enumerate(order)}
    return [f"length quarter {quarter[row] + 1}" for row in range(len(samples))]


def _order(samples: Sequence[Sample], keys: Mapping[int, str]) -> list[int]:
    """The lines by their digests, the first of every group before the second of any."""
    seen: Counter[str] = Counter()
    places = {}
    for one in sorted(samples, key=lambda one: keys[one.line]):
        places[one.line] = (seen[one.group], keys[one.line])
        seen[one.group] += 1
    return sorted(places, key=places.__getitem__)


def _length(sample: Sample) -> int:
    """Characters of a request."""
    return sum(len(message["content"]) for message in sample.messages) + sum(
        len(json.dumps(one)) for one in sample.documents
    )
