"""What a vector is before its numbers are computed."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.vectors.make_model import MERGED, READABLE, VOCABULARY
from zoo.validators.conformance.vectors.case import Earlier, Padding, invocation_of

RULE = "peft 0.21.2, tuners/lora/variants.py, calculate_alora_offsets and ALoraLinearVariant.forward"
PAPER = "arXiv 2504.12397, section 3"
A, B, C = (list(invocation_of(name)) for name in "abc")
X, Y = C[0], C[2]
PAD = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One row: its adapter, its prompt, and what was decoded after it."""

    adapter: str | None
    prompt: Sequence[int]
    decoded: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    id: str
    comment: str
    rows: Sequence[Ask]
    source: str = RULE
    history: Sequence[Earlier] = ()
    padding: Padding | None = None
    calls: Sequence[int] = ()
    embeds: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftGroup:
    name: str
    description: str
    drafts: Callable[[], Iterator[Draft]]
    source: str = field(default=f"{RULE}; {PAPER}")


def text(count: int, seed: int) -> list[int]:
    """Ids that belong to no invocation and are not special; the seeds are chosen for a wide separation."""
    draw = random.Random(seed)
    taken = {*A, *B, *C, A[2] + 1}
    allowed = [*range(*READABLE), *range(MERGED, VOCABULARY)]
    return draw.choices([token for token in allowed if token not in taken], k=count)


def one(
    id: str,
    comment: str,
    adapter: str | None,
    prompt: Sequence[int],
    **rest: object,
) -> Draft:
    return Draft(id=id, comment=comment, rows=[Ask(adapter=adapter, prompt=prompt)], **rest)  # type: ignore[arg-type]


def earlier(adapter: str | None, ids: Sequence[int]) -> Earlier:
    return Earlier(adapter=adapter, invocation=invocation_of(adapter), ids=tuple(ids))
