"""Engines that start the adapter at the wrong token, never, or everywhere."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from tests.validators.conformance.mutations.mutant import CONSTRUCTED, Mutant
from tests.validators.conformance.mutations.seams import Offsets, Seam, calls, offsets, search, update
from zoo.activation import invocation_start, occurrences

SCANNED = 16  # tokens
STRONG = {"strength": 3.0}  # so that greedy tokens are no ties


def each(change: Callable[[int], int | None]) -> Seam:
    """Changes the offset of each row that has one."""
    return offsets(lambda found, *_: [None if one is None else change(one) for one in found])


def when_absent(change: Callable[[int], int]) -> Seam:
    """An offset, from the row's length, for rows that have none."""
    return offsets(lambda found, ids, _: [change(ids.shape[1]) if one is None else one for one in found])


def first_occurrence(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    found = occurrences(ids, invocation)
    return len(ids) - found[0] if found else None


def beginning(count: int) -> Callable[[Sequence[int], Sequence[int]], int | None]:
    """The last match of the invocation's first ids is enough."""

    def change(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
        start = invocation_start(ids, invocation[:count])
        return None if start is None else len(ids) - start

    return change


def backwards(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    """llama-server's scan: on a mismatch it starts over without looking at that token again."""
    wanted = len(invocation) - 1
    for at in range(len(ids) - 1, -1, -1):
        if ids[at] != invocation[wanted]:
            wanted = len(invocation) - 1
        elif wanted == 0:
            return len(ids) - at
        else:
            wanted -= 1
    return None


def near_the_end(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    start = invocation_start(ids[-SCANNED:], invocation)
    return None if start is None else len(ids[-SCANNED:]) - start


def unpadded(found: Offsets, ids: Tensor, invocation: Sequence[int], *, left: bool) -> Offsets:
    """Counts without the padding, id 0, on one side of a row, and applies that to the padded row."""
    changed: Offsets = []
    for row, one in zip(ids.tolist(), found, strict=True):
        side = row if left else row[::-1]
        fill = next((at for at, id in enumerate(side) if id), 0)
        changed.append(None if one is None else one + fill if left else max(one - fill, 1))
    return changed


def one_by_one(
    right: Callable[..., Tensor], module: Any, *, x: Tensor, result: Tensor, **rest: Any
) -> Tensor:
    """No decode step is adapted."""
    return result if x.shape[1] == 1 else right(module, x=x, result=result, **rest)


class SecondStep:
    """Leaves out the first decode step after each prefill."""

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}

    def __call__(
        self, right: Callable[..., Tensor], module: Any, *, x: Tensor, result: Tensor, **rest: Any
    ) -> Tensor:
        step = self.seen[id(module)] = 0 if x.shape[1] > 1 else self.seen.get(id(module), 0) + 1
        return result if step == 1 else right(module, x=x, result=result, **rest)


class Remembered:
    """Uses the offsets of the call before."""

    def __init__(self) -> None:
        self.last: Offsets = []

    def __call__(self, found: Offsets, *_: Any) -> Offsets:
        old, self.last = self.last, found
        return old if len(old) == len(found) else found


def as_inputs(right: Callable[..., Any], model: Any, **arguments: Any) -> Any:
    """`generate(inputs=ids)`, in which PEFT does not find the ids."""
    if "generation_config" in arguments:
        arguments["inputs"] = arguments.pop("input_ids")
    return right(**arguments)


def chunked(right: Callable[..., Any], model: Any, **arguments: Any) -> Any:
    """`generate(prefill_chunk_size=)`: the offset is counted from the end of each chunk."""
    if config := arguments.get("generation_config"):
        config.prefill_chunk_size = 2
    return right(**arguments)


def mutant(id: str, what: str, source: str, codes: str, engine: Seam, **more: Any) -> Mutant:
    return Mutant(
        id=id,
        family="engines",
        what=what,
        source=source,
        codes=frozenset(codes.split()),
        engine=engine,
        **more,
    )


STARTS = (
    mutant("one-early", "starts one token before the invocation",
           "llama-server since PR 15327, server-context.cpp:3201", "ZR001 ZR002 ZK001",
           each(lambda one: one + 1)),
    mutant("one-late", "starts behind the invocation's first token",
           "alora 0.3.0 generate, peft_model_alora.py:1785", "ZR001 ZK002", each(lambda one: one - 1)),
    mutant("behind-the-invocation", "starts behind the whole invocation",
           CONSTRUCTED, "ZR001",
           offsets(lambda found, _, invocation: [one and max(one - len(invocation), 1) for one in found])),
    mutant("first-occurrence", "takes the first occurrence, not the last", CONSTRUCTED, "ZR006",
           search(first_occurrence)),
    mutant("first-token-matches", "takes a match of the first id for the invocation",
           CONSTRUCTED, "ZR005", search(beginning(1))),
    mutant("two-tokens-match", "takes a match of the first two ids for the invocation", CONSTRUCTED, "ZR005",
           search(beginning(2))),
    mutant("backward-matcher", "misses an invocation that its own last id follows",
           "llama-server, server-context.cpp:1724-1742", "ZR006", search(backwards)),
    mutant("scans-the-end-only", "looks for the invocation in the last 16 tokens only", CONSTRUCTED, "ZR006",
           search(near_the_end)),
    mutant("acts-on-the-end-only", "adapts the last 16 tokens at most", CONSTRUCTED, "ZR006",
           each(lambda one: min(one, SCANNED))),
    mutant("plain-when-absent", "is a plain LoRA when the invocation is missing",
           "mellea issue 1286, as reported there", "ZR005", when_absent(lambda length: length)),
    mutant("last-token-when-absent", "adapts the last token when the invocation is missing",
           "alora 0.3.0, forward's initial offset 1", "ZR005", when_absent(lambda length: 1)),
    mutant("plain-lora", "is a plain LoRA on every token", "vllm 0.25-0.31, sglang 0.5.23, llama-cpp-python",
           "ZR001 ZR002 ZK001 ZR005", offsets(lambda found, ids, _: [ids.shape[1]] * len(found))),
    mutant("never-active", "never activates the adapter", "transformers 5.23 load_adapter", "ZR001 ZR003",
           offsets(lambda found, *_: [None] * len(found))),
    mutant("decode-forgets", "no decoded token is adapted",
           "peft 0.21.2 in a hand-written decode loop (routekv)", "ZP002 ZK002", update(one_by_one),
           release=STRONG),
    mutant("decode-one-late", "the first decoded token is not adapted", CONSTRUCTED, "ZP002",
           lambda: update(SecondStep())(), release=STRONG),
    mutant("generate-inputs", "generate(inputs=ids) runs the base model", "peft 0.21.2; mellea issue 1286",
           "ZP002", calls(as_inputs), release=STRONG),
    mutant("chunk-offsets", "counts the offset from the end of each prefill chunk",
           "peft 0.21.2 generate(prefill_chunk_size=)", "ZP005", calls(chunked), release=STRONG),
    mutant("row-0-for-all", "uses the first row's offset for every row of a batch", CONSTRUCTED, "ZP004",
           offsets(lambda found, *_: [found[0]] * len(found))),
    mutant("last-row-only", "activates the last row of a batch only",
           "peft 0.21.2, packed rows: only the last sample", "ZP004",
           offsets(lambda found, *_: [None] * (len(found) - 1) + found[-1:])),
    mutant("right-padding-moved", "counts back without the padding on the right",
           "peft 0.21.2 when the pad id ends the invocation", "ZP004",
           offsets(lambda *given: unpadded(*given, left=False))),
    mutant("left-padding-ignored", "counts forward without the padding on the left", CONSTRUCTED, "ZP004",
           offsets(lambda *given: unpadded(*given, left=True))),
    mutant("offsets-of-the-call-before", "runs with the offsets of the call before",
           "peft 0.21.2, hooks that stay after an exception", "ZR006", lambda: offsets(Remembered())()),
)  # fmt: skip
