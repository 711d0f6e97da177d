"""Every kind of plain case, and those made of several transformations; see `io_cases`."""

import random
from collections.abc import Callable

from tests.benchmarks.io_cases import (
    Case,
    Rng,
    case,
    entry,
    likelihood,
    request,
    rewriting_documents,
    rewriting_instruction,
    rewriting_parameters,
    rewriting_tags,
    spec,
)
from tests.benchmarks.io_records import (
    CITATIONS,
    CITATIONS_SCHEMA,
    decode_sentences,
    drop_duplicates,
    explode,
    merge_spans,
    nest,
    project,
)


def pipeline(rng: Rng) -> Case:
    """The published citations contract's steps, in its order."""
    asked = request(rng, documents=rng.randint(1, 3), turns=2)
    count = len(asked["extra_body"]["documents"])
    reply = [{"r": 0, "c": rng.choices(range(count), k=rng.randint(0, 3))} for _ in range(rng.randint(1, 2))]
    contract = spec(
        schema=CITATIONS_SCHEMA,
        sentence_boundaries={"last_message": "r", "documents": "c"},
        instruction="Name the sentences.",
        transformations=CITATIONS,
    )
    return case("pipeline", contract, asked, reply)


def harmony(rng: Rng) -> Case:
    drawn = likelihood(rng)
    payload = [
        token for token in drawn["reply"]["logprobs"]["content"] if not token["token"].startswith("<|end")
    ]
    heading = ["<|channel|>", "analysis", "<|message|>", "Hm", "."] if rng.random() < 0.5 else []
    if heading:
        heading += ["<|end|>", "<|start|>", "assistant"]
    heading += ["<|channel|>", *rng.choice((["final"], [" final"], [" ", "final"])), "<|message|>"]
    tokens = [entry(token, 0.97) for token in heading] + payload
    tokens += [entry(rng.choice(("<|return|>", "<|end|>")), 0.9)] if rng.random() < 0.7 else []
    drawn["reply"]["logprobs"]["content"] = tokens
    drawn["reply"]["message"]["content"] = rng.choice(
        ("".join(token["token"] for token in payload), "".join(token["token"] for token in tokens))
    )
    drawn["spec"]["logprobs_workaround"] = True
    return drawn | {"kind": "harmony"}


KINDS: tuple[Callable[[Rng], Case], ...] = (
    rewriting_tags,
    rewriting_documents,
    rewriting_instruction,
    rewriting_parameters,
    likelihood,
    decode_sentences,
    explode,
    drop_duplicates,
    project,
    nest,
    merge_spans,
    pipeline,
    harmony,
)


def plain_cases(seed: int, each: int) -> list[Case]:
    rng = random.Random(seed)
    return [make(rng) for make in KINDS for _ in range(each)]
