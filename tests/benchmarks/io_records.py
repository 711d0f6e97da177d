"""Seeded cases of what is done to sentences and records in a reply; see `io_cases`."""

from typing import Any

from tests.benchmarks.io_cases import Case, Rng, case, request, spec


def decode_sentences(rng: Rng) -> Case:
    asked = request(rng, documents=rng.randint(1, 3), turns=rng.randint(2, 5))
    source: Any = rng.choice(
        ("last_message", "documents", "all_but_last_message", ["documents", "all_but_last_message"])
    )
    named = {"begin": "b", "end": "e", "text": "t"}
    if "documents" in source:
        named["document_id"] = "d"
    if "all_but_last_message" in source:
        named["message_index"] = "m"
    names = {key: named[key] for key in rng.sample(list(named), rng.randint(1, len(named)))}
    boundaries = dict.fromkeys([source] if isinstance(source, str) else source, "c")
    if rng.random() < 0.3:
        boundaries["last_message"] = "r"
    contract = spec(
        sentence_boundaries=boundaries,
        docs_as_message=rng.choice((None, None, "json")) if source == "documents" else None,
        instruction=rng.choice((None, "Go.")),
        transformations=[
            {"type": "decode_sentences", "input_path": [None, "n"], "source": source, "output_names": names}
        ],
    )
    reply = [{"n": rng.randrange(_count(asked, source)), "x": "kept"} for _ in range(rng.randint(0, 3))]
    return case("decode_sentences", contract, asked, reply)


def _count(asked: dict[str, Any], source: Any) -> int:
    """A number of sentences that is surely there: one for each text."""
    sources = [source] if isinstance(source, str) else source
    size = {"last_message": 1, "documents": len(asked["extra_body"]["documents"])}
    size["all_but_last_message"] = len(asked["messages"]) - 1
    return sum(size[place] for place in sources)


def rows(rng: Rng, *, most: int = 5) -> list[dict[str, Any]]:
    values = (1, 2, "a", "b", 0.5, "c d")
    return [
        {
            "k": rng.choice(values),
            "v": rng.choice(values),
            "l": [rng.randint(0, 3) for _ in range(rng.randint(0, 3))],
        }
        for _ in range(rng.randint(0, most))
    ]


def housed(rng: Rng, value: Any) -> tuple[list[Any], Any]:
    """A path and a reply with the value at it."""
    match rng.randrange(4):
        case 0:
            return ["out"], {"out": value, "other": [1, "x"]}
        case 1:
            return ["a", "b"], {"a": {"b": value, "c": 2}}
        case 2:
            return [0], [value, "last"]
        case _:
            pass
    return [], value


def explode(rng: Rng) -> Case:
    path, reply = housed(rng, rows(rng))
    step = {"type": "explode", "input_path": path, "target_field": "l"}
    return case("explode", spec(transformations=[step]), request(rng), reply)


def drop_duplicates(rng: Rng) -> Case:
    path, reply = housed(rng, rows(rng, most=8))
    step = {"type": "drop_duplicates", "input_path": path, "target_fields": rng.choice((["k"], ["k", "v"]))}
    return case("drop_duplicates", spec(transformations=[step]), request(rng), reply)


def project(rng: Rng) -> Case:
    value: Any = rows(rng)
    if value and rng.random() < 0.4:
        value = value[0]
    path, reply = housed(rng, value)
    fields: Any = rng.choice((["k"], ["v", "k"], {"k": "key", "l": "list"}, {"v": "k", "k": "v"}))
    step = {"type": "project", "input_path": path, "retained_fields": fields}
    return case("project", spec(transformations=[step]), request(rng), reply)


def nest(rng: Rng) -> Case:
    path, reply = housed(rng, rng.choice((rows(rng), "word", 3, True, {"q": 1})))
    step = {"type": "nest", "input_path": path, "field_name": rng.choice(("score", "wrapped"))}
    return case("nest", spec(transformations=[step]), request(rng), reply)


def merge_spans(rng: Rng) -> Case:
    spans = []
    for group in rng.sample(("x", "y", "z"), rng.randint(1, 3)):
        at = rng.randint(0, 9)
        for _ in range(rng.randint(1, 5)):
            size = rng.randint(1, 9)
            spans.append({"g": group, "b": at, "e": at + size, "t": "s" * size})
            at += size + rng.choice((0, 0, 3))
    rng.shuffle(spans)
    path, reply = housed(rng, spans)
    step = {
        "type": "merge_spans",
        "input_path": path,
        "group_fields": ["g"],
        "begin_field": "b",
        "end_field": "e",
    }
    return case("merge_spans", spec(transformations=[step | {"text_field": "t"}]), request(rng), reply)


CITATIONS: list[dict[str, Any]] = [
    {"type": "explode", "input_path": [], "target_field": "c"},
    {"type": "drop_duplicates", "input_path": [], "target_fields": ["r", "c"]},
    {
        "type": "decode_sentences",
        "input_path": [None, "r"],
        "source": "last_message",
        "output_names": {"begin": "response_begin", "end": "response_end", "text": "response_text"},
    },
    {
        "type": "decode_sentences",
        "input_path": [None, "c"],
        "source": "documents",
        "output_names": {
            "document_id": "citation_doc_id",
            "begin": "citation_begin",
            "end": "citation_end",
            "text": "citation_text",
        },
    },
    {
        "type": "project",
        "input_path": [],
        "retained_fields": [
            "response_begin",
            "response_end",
            "response_text",
            "citation_doc_id",
            "citation_begin",
            "citation_end",
            "citation_text",
        ],
    },
    {
        "type": "merge_spans",
        "input_path": [],
        "group_fields": ["response_begin", "response_end", "response_text", "citation_doc_id"],
        "begin_field": "citation_begin",
        "end_field": "citation_end",
        "text_field": "citation_text",
    },
]
CITATIONS_SCHEMA: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "r": {"type": "integer", "minimum": 0},
            "c": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        },
        "required": ["r", "c"],
    },
}
