"""Contracts, requests and replies made of any bytes, for fuzzers: nothing but a ZooError may come out."""

import copy
import json
import math
from collections.abc import Sequence
from typing import Any

import yaml

from zoo.errors import ZooError
from zoo.io import conversation, process, rewrite
from zoo.specs.io_file import parse_io

NAMES = ("r", "c", "score", "a", "b", "text", "1", "ü", "b", "e", "r", "c")
WORDS = (
    "yes",
    "no",
    "It rained. Boats came in.",
    "Dr. A. B. said: “No!” 3.5. ... Why?",
    "<c0> ",
    "<r1>",
    "\n\n  Two. ",
    "\ud800",
    "{x}",
    "}{",
    "{{}}",
    "{a.b}",
    "{last_message}",
    "<|channel|>final<|message|>",
    "é€𝄞",
    "\x00\x85\u2028",
    "a" * 300 + ". ",
    ". " * 40,
)
NUMBERS = (0, 1, 2, -1, 10**30, 2**63, 1e308, 0.5, True, False, None, math.nan, math.inf)
KINDS = ("likelihood", "decode_sentences", "explode", "drop_duplicates", "project", "nest", "merge_spans")
REPLIES: tuple[Any, ...] = (
    [{"r": 0, "c": [0, 1], "b": 0, "e": 2, "text": "q"}],
    [{"r": 1, "c": [2, 0], "score": "yes"}, {"r": 0, "c": [], "score": "no"}],
    {"r": "yes", "c": True, "score": 10},
    "yes",
    1,
    [{"r": 0, "c": 1, "b": 3, "e": 5, "text": "Ω"}, {"r": 0, "c": 1, "b": 0, "e": 3, "text": "q"}],
)
PLACES = ("last_message", "documents", "all_but_last_message")


class Bytes:
    """Choices taken from bytes, zeros when they run out."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[self.byte() % len(choices)]

    def maybe(self, chance: int) -> bool:
        return self.byte() % 100 < chance

    def text(self) -> str:
        if self.maybe(70):
            return "".join(self.pick(WORDS) for _ in range(self.byte() % 4))
        size = self.byte() % 40
        self.at += size
        return self.data[self.at - size : self.at].decode("utf-8", "surrogateescape")

    def value(self, depth: int = 0) -> Any:
        kind = self.byte() % 8
        if depth > 4 or kind < 3:
            return self.pick(NUMBERS) if kind else self.text()
        if kind == 3:
            return self.pick(WORDS)
        size = self.byte() % 4
        if kind < 6:
            return {self.pick(NAMES): self.value(depth + 1) for _ in range(size)}
        return [self.value(depth + 1) for _ in range(size)]


def contract(source: Bytes) -> dict[str, Any]:
    fields: dict[str, Any] = {"model": None, "response_format": None, "transformations": []}
    if source.maybe(40):
        fields["response_format"] = source.pick(
            (
                '{"type": "array", "items": {"type": "object"}}',
                '{"enum": ["yes", "no", 1, true]}',
                '{"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}',
                '{"type": "string", "pattern": "^(a+)+$"}',
                '{"anyOf": [{"type": "array"}, {"type": "object"}, {"type": "string"}]}',
                source.value() if source.maybe(10) else None,
            )
        )
    if source.maybe(70):
        fields["sentence_boundaries"] = {
            source.pick(PLACES[:3]): source.pick(("c", "r", "(")) for _ in range(source.byte() % 4)
        }
    if source.maybe(50):
        fields["instruction"] = source.pick(
            (source.text() if source.maybe(20) else "{a}", "{a} {last_message}", "{a}", "")
        )
    if source.maybe(30):
        fields["docs_as_message"] = source.pick(("string", "json", "roles"))
    if source.maybe(20):
        fields["parameters"] = source.pick(({"extra_body": {"a": 1}}, {"a": source.value()}, {"seed": 3}))
    if source.maybe(20):
        fields["logprobs_workaround"] = source.pick((True, False))
    if source.maybe(5):
        fields[source.pick(NAMES)] = source.value()
    fields["transformations"] = [step(source) for _ in range(source.byte() % 5)]
    return fields


def step(source: Bytes) -> dict[str, Any]:
    kind = source.pick(KINDS) if source.maybe(98) else source.text()
    made: dict[str, Any] = {"type": kind, "input_path": path(source)}
    name = source.pick(NAMES)
    names = [source.pick(NAMES) for _ in range(source.byte() % 3)]
    more: dict[str, dict[str, Any]] = {
        "likelihood": {
            "categories_to_values": source.pick(
                ({"yes": 1.0, "no": 0.5}, {1: 1.0, 10: 0.5, 0: 0.1}, {True: 1.0, False: source.pick(NUMBERS)})
            )
        },
        "decode_sentences": {
            "source": source.pick((source.pick(PLACES), [source.pick(PLACES), source.pick(PLACES)])),
            "output_names": {key: source.pick(NAMES) for key in ("begin", "end", "text", "document_id")},
        },
        "explode": {"target_field": name},
        "drop_duplicates": {"target_fields": names},
        "project": {"retained_fields": source.pick((names, {key: source.pick(NAMES) for key in names}))},
        "nest": {"field_name": name},
        "merge_spans": {"group_fields": names, "begin_field": "b", "end_field": "e", "text_field": "text"},
    }
    return made | more.get(kind, {})


def path(source: Bytes) -> list[Any]:
    if source.maybe(60):
        return source.pick(([], [None, "r"], [None, "c"], [None, "score"], ["r"], [None]))
    return [source.pick((None, 0, 1, -1, 10**25, *NAMES)) for _ in range(source.byte() % 3)]


def request(source: Bytes) -> Any:
    if source.maybe(5):
        return source.value()
    roles = ("user", "assistant", "system", "", 3)
    messages = [
        {
            "role": source.pick(roles[:3]) if source.maybe(95) else source.pick(roles),
            "content": content(source),
        }
        for _ in range(source.byte() % 4)
    ]
    made: dict[str, Any] = {"messages": messages}
    if source.maybe(60):
        listed = [
            {"text": content(source), "doc_id": source.pick(("1", "2", "x"))}
            for _ in range(source.byte() % 3)
        ]
        made["extra_body"] = {"documents": listed}
    if source.maybe(10):
        made[source.pick(("extra_body", "temperature", "messages"))] = source.value()
    return made


def content(source: Bytes) -> Any:
    return source.text() if source.maybe(95) else source.value()


def reply(source: Bytes) -> Any:
    if source.maybe(5):
        return source.value()
    if source.maybe(85):
        try:
            text = json.dumps(source.pick((source.value(), source.pick(REPLIES), source.pick(REPLIES))))
        except ValueError:
            text = "{}"
    else:
        text = source.text()
    if source.maybe(40):
        return text
    tokens, rest = [], text
    if source.maybe(20):
        tokens = [{"token": token, "logprob": -0.1} for token in ("<|channel|>", "final", "<|message|>")]
    while rest:
        size = 1 + source.byte() % 8
        piece, rest = rest[:size], rest[size:]
        entry: dict[str, Any] = {"token": piece, "logprob": source.pick((-0.1, 0.0, -9999.0, *NUMBERS))}
        if source.maybe(50):
            entry["top_logprobs"] = [
                {"token": source.pick(("no", "", '"no"', "yes", "1", "10", " ", '"')), "logprob": -1.5}
                for _ in range(source.byte() % 4)
            ]
        if source.maybe(5):
            entry = source.value()
        tokens.append(entry)
    return {"message": {"content": text}, "logprobs": source.pick(({"content": tokens}, tokens, None))}


def exercise(data: bytes) -> str:
    """One input through loading, rewriting and processing.

    Returns:
        What became of it: `done`, or the code of the first error.
    """
    source = Bytes(data)
    try:
        if source.maybe(20):
            raw = data[1:]
        else:
            raw = yaml.dump(contract(source), allow_unicode=False).encode("utf-8", "replace")
        spec = parse_io(raw, name="io.yaml").spec
    except ZooError as error:
        return error.code or type(error).__name__
    asked, answered = request(source), reply(source)
    arguments = {"a": source.text()} if spec.instruction and source.maybe(90) else {}
    if source.maybe(10):
        arguments[source.pick(("a", "b", "last_message", "spec"))] = source.value()
    before = copy.deepcopy((asked, answered, arguments))
    dumped = spec.model_dump()
    said = "done"
    try:
        sent = rewrite(spec, asked, **arguments)
        json.dumps(sent, allow_nan=False, ensure_ascii=False).encode()
        conversation(sent)
    except ZooError as error:
        said = error.code
    for spans in ("untagged", "tagged"):
        try:
            result = process(spec, answered, asked, spans=spans)
            json.dumps(result, allow_nan=False, ensure_ascii=False).encode()
        except ZooError as error:
            said = error.code
    if repr((asked, answered, arguments)) != repr(before):
        raise AssertionError("an argument was changed")
    if repr(spec.model_dump()) != repr(dumped):
        raise AssertionError("the contract was changed")
    return said
