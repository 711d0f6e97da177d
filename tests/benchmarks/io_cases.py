"""Seeded requests, contracts and replies of every transformation kind, plain ones and traps.

A case without a trap is one on which the published executors are right. A trap is named, with who is right in
TRAPS; whatever is neither is a disagreement that nobody has explained.
"""

import json
import math
import random
from typing import Any

Case = dict[str, Any]
Rng = random.Random

SENTENCES = (
    "The ferry leaves at noon.",
    "Nobody told the harbour master!",
    "Is the bridge open on Sundays?",
    "Dr. Okafor measured 3.5 metres of rope.",
    "It rained, e.g. on Tuesday.",
    "Wait... what happened?",
    "Ärger über Öl kostet 12,50 €.",
    "“Leave it,” she said.",
    "The museum (opened in 1904) is closed.",
    "版本很好。 It works.",
    "no capital here.",
    "J. K. Moss wrote it.",
    "Prices rose by 4 % in May",
)
CATEGORIES: tuple[tuple[Any, ...], ...] = (
    ("yes", "no"),
    ("answerable", "unanswerable"),
    ("faithful", "partial", "unfaithful"),
    ("relevant", "irrelevant", "partially relevant"),
    tuple("0123456789"),
    tuple(range(10)),
)
ROLES = ("user", "assistant")


def text(rng: Rng, most: int = 5) -> str:
    return " ".join(rng.choice(SENTENCES) for _ in range(rng.randint(1, most)))


def request(rng: Rng, *, documents: int | None = None, turns: int | None = None) -> dict[str, Any]:
    turns = rng.randint(1, 5) if turns is None else turns
    said: dict[str, Any] = {
        "messages": [{"role": ROLES[index % 2], "content": text(rng)} for index in range(turns)]
    }
    count = rng.randint(0, 3) if documents is None else documents
    if count:
        listed = [{"text": text(rng, 7), "doc_id": str(100 + index)} for index in range(count)]
        for document in listed:
            if rng.random() < 0.3:
                document["title"] = rng.choice(("Harbour news", "Notes"))
        said["extra_body"] = {"documents": listed}
    if rng.random() < 0.3:
        said["temperature"] = rng.choice((0.0, 0.5))
    if rng.random() < 0.2:
        said["model"] = "some-base"
    return said


def spec(**fields: Any) -> dict[str, Any]:
    """A contract as its file gives it, which is what both published executors take."""
    schema = fields.pop("schema", None)
    return {
        "model": None,
        "response_format": json.dumps(schema) if schema is not None else None,
        "transformations": None,
        **fields,
    }


def case(kind: str, contract: dict[str, Any], asked: dict[str, Any], reply: Any = None, **more: Any) -> Case:
    said: Case = {"kind": kind, "spec": contract, "request": asked, "arguments": {}, "trap": None, **more}
    if reply is not None:
        said["reply"] = reply if isinstance(reply, dict) and "message" in reply else answer(reply)
    return said


def answer(value: Any) -> dict[str, Any]:
    return {"message": {"content": json.dumps(value)}}


# ---------------------------------------------------------------- rewriting


def rewriting_tags(rng: Rng) -> Case:
    places = rng.sample(("last_message", "documents", "all_but_last_message"), rng.randint(1, 3))
    boundaries = {place: rng.choice(("r", "c", "i", "s")) for place in places}
    contract = spec(sentence_boundaries=boundaries)
    return case("tags", contract, request(rng))


def rewriting_documents(rng: Rng) -> Case:
    contract = spec(docs_as_message=rng.choice(("string", "json", "roles")))
    if rng.random() < 0.5:
        contract["sentence_boundaries"] = {"documents": "c"}
    if rng.random() < 0.5:
        contract["instruction"] = "Judge this: {last_message}"
    return case("docs_as_message", contract, request(rng, documents=rng.randint(0, 3)))


def rewriting_instruction(rng: Rng) -> Case:
    template = rng.choice(
        (
            '<check>{criteria} Answer in JSON: {{"score": "yes"}}',
            "{last_message}\n{criteria}{criteria}",
            "Plain words only.",
            "{{}} {last_message}",
            "",
        )
    )
    contract = spec(instruction=template, sentence_boundaries=rng.choice((None, {"last_message": "r"})))
    arguments = {"criteria": rng.choice(("Is it {true}?", "ünsafe", 7))} if "{criteria}" in template else {}
    return case("instruction", contract, request(rng), arguments=arguments)


def rewriting_parameters(rng: Rng) -> Case:
    contract = spec(
        model=rng.choice((None, "adapter-a")),
        parameters=rng.choice(
            (
                None,
                {},
                {"temperature": 0.0, "max_completion_tokens": 6},
                {"extra_body": {"add_generation_prompt": False}, "seed": 3},
                {"model": "other", "logprobs": False},
            )
        ),
        schema=rng.choice((None, {"type": "string", "enum": ["a", "b"]})),
    )
    if rng.random() < 0.4:
        contract["transformations"] = [
            {"type": "likelihood", "input_path": [], "categories_to_values": {"a": 1, "b": 0}}
        ]
    return case("parameters", contract, request(rng))


# ---------------------------------------------------------------- likelihood


def entry(token: str, chance: float, others: dict[str, float] | None = None) -> dict[str, Any]:
    top = {token: chance, **(others or {})}
    return {
        "token": token,
        "logprob": math.log(chance),
        "top_logprobs": [{"token": other, "logprob": math.log(p)} for other, p in top.items()],
    }


def cut(rng: Rng, text: str) -> list[str]:
    """A text in random pieces."""
    pieces = []
    while text:
        size = rng.randint(1, 4)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def deciding(said: Any, categories: tuple[Any, ...]) -> list[str]:
    """Beginnings of a category that no other one has."""
    shown = str(said)
    others = [str(other) for other in categories if other != said]
    begins = [shown[:size] for size in range(1, len(shown) + 1)]
    return [begin for begin in begins if not any(other.startswith(begin) for other in others)]


def chances(rng: Rng, said: Any, categories: tuple[Any, ...]) -> tuple[str, float, dict[str, float]]:
    """A literal's first token, its probability and its alternatives' with theirs."""
    first = rng.choice(deciding(said, categories))
    left, others = 1.0, {}
    chance = rng.uniform(0.3, 0.95)
    left -= chance
    for other in categories:
        token = rng.choice([*deciding(other, categories), "Maybe", "("])
        if other != said and token not in others and token != first and rng.random() < 0.8:
            others[token] = left * rng.uniform(0.1, 0.6)
            left -= others[token]
    others = others or {"(": left / 2}  # a server lists other tokens; TRAPS has one that does not
    return first, chance, others


def weighed(
    rng: Rng, before: str, said: Any, after: str, categories: tuple[Any, ...]
) -> list[dict[str, Any]]:
    first, chance, others = chances(rng, said, categories)
    shown = json.dumps(said)
    opening = '"' if isinstance(said, str) else ""
    rest = shown[len(opening) + len(first) :]
    tokens = [entry(piece, 0.99) for piece in cut(rng, before + opening)]
    tokens.append(entry(first, chance, others))
    return tokens + [entry(piece, 0.98) for piece in cut(rng, rest + after)]


def likelihood(rng: Rng) -> Case:
    categories = rng.choice(CATEGORIES)
    numbers = {category: round(rng.uniform(-1, 2), 3) for category in categories}
    form = rng.choice(("bare", "record", "list"))
    schema: dict[str, Any] = {
        "type": "integer" if isinstance(categories[0], int) else "string",
        "enum": list(categories),
    }
    values = [rng.choice(categories) for _ in range(rng.randint(1, 3) if form == "list" else 1)]
    tokens: list[dict[str, Any]] = []
    if form == "bare":
        path: list[Any] = []
        tokens = weighed(rng, rng.choice(("", " ", "\n")), values[0], "", categories)
    elif form == "record":
        path, schema = ["score"], {"type": "object", "properties": {"score": schema}}
        tokens = weighed(rng, '{"score": ', values[0], rng.choice(("}", "\n}", "} ")), categories)
    else:
        path, schema = [None, "f"], {"type": "array", "items": {"properties": {"f": schema}}}
        for index, value in enumerate(values):
            tokens += weighed(rng, '[{"f": ' if not index else ', {"f": ', value, "}", categories)
        tokens.append(entry("]", 1.0))
    content = "".join(token["token"] for token in tokens)
    if rng.random() < 0.5:
        tokens.append(entry("<|end_of_text|>", 0.9))
    contract = spec(
        schema=schema,
        transformations=[{"type": "likelihood", "input_path": path, "categories_to_values": numbers}],
    )
    reply = {"message": {"content": content}, "logprobs": {"content": tokens}}
    return case("likelihood", contract, request(rng), reply)
