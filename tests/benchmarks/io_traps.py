"""Cases on which the published executors are wrong, silent or incomplete, each class with the reason."""

import json
from typing import Any

from tests.benchmarks.io_cases import Case, Rng, case, cut, entry, request, spec, text

# ---------------------------------------------------------------- likelihood


def scored(value: Any, numbers: dict[Any, float], tokens: list[dict[str, Any]], **more: Any) -> Case:
    """A record with one weighed field."""
    contract = spec(
        schema=more.pop("schema", None),
        transformations=[{"type": "likelihood", "input_path": ["score"], "categories_to_values": numbers}],
    )
    content = more.pop("content", "".join(token["token"] for token in tokens))
    reply = {"message": {"content": content}, "logprobs": {"content": tokens}}
    return case("likelihood", contract, {"messages": [{"role": "user", "content": "Well?"}]}, reply, **more)


def record_tokens(
    rng: Rng, value: list[dict[str, Any]], key: str = "score", after: str = "}"
) -> list[dict[str, Any]]:
    before = [entry(piece, 0.99) for piece in cut(rng, f'{{"{key}": ')]
    return [*before, *value, entry(after, 0.99)]


YES_NO = {"yes": 1.0, "no": 0.0}


def quoted(token: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry('"', 0.99), token, entry('"', 0.99)]


def uncovered(rng: Rng) -> Case:
    return scored("maybe", YES_NO, record_tokens(rng, quoted(entry("maybe", 0.8))))


def wrong_type(rng: Rng) -> Case:
    """YAML's unquoted yes and no."""
    return scored("yes", {True: 1.0, False: 0.0}, record_tokens(rng, quoted(entry("yes", 0.8, {"no": 0.1}))))


def empty_token(rng: Rng) -> Case:
    said = rng.choice(("yes", "no"))
    other = "no" if said == "yes" else "yes"
    return scored(said, YES_NO, record_tokens(rng, quoted(entry(said, 0.5, {"": 0.3, other: 0.1}))))


def glued_quote(rng: Rng) -> Case:
    said, other = rng.sample(("yes", "no"), 2)
    chance = rng.uniform(0.4, 0.6)
    return scored(
        said, YES_NO, record_tokens(rng, [entry(f'"{said}"', chance, {f'"{other}"': 0.9 - chance})])
    )


def glued_end(rng: Rng) -> Case:
    said, other = rng.sample(("yes", "no"), 2)
    token = entry(f'{said}"}}', 0.6, {f'{other}"}}': 0.3})
    return scored(said, YES_NO, [*record_tokens(rng, [entry('"', 0.99)], after="")[:-1], token])


def booleans(rng: Rng) -> Case:
    said, other = rng.sample(("true", "false"), 2)
    value = [entry(said, 0.6, {other: 0.3})]
    return scored(said == "true", {True: 1.0, False: 0.0}, record_tokens(rng, value))


def undecided(rng: Rng) -> Case:
    """Ten begins with one: the first token alone says nothing."""
    value = [entry("1", 0.9, {"2": 0.05}), entry("0", 0.7)]
    tokens = record_tokens(rng, value, after="}")
    tokens[-2] = entry("0", 0.7, {"}": 0.2})
    return scored(10, {1: 1.0, 2: 2.0, 10: 10.0}, tokens)


def only_said(rng: Rng) -> Case:
    """A server that lists no other token where one of two categories is chosen."""
    said = rng.choice(("yes", "no"))
    return scored(said, YES_NO, record_tokens(rng, quoted(entry(said, rng.uniform(0.3, 0.95)))))


def cut_tokens(rng: Rng) -> Case:
    """The tokens end where ten could have followed from one."""
    said = spec(
        transformations=[{"type": "likelihood", "input_path": [], "categories_to_values": {1: 1.0, 10: 10.0}}]
    )
    token = entry("1", rng.uniform(0.6, 0.9), {"2": 0.05})
    reply = {"message": {"content": "1"}, "logprobs": {"content": [token]}}
    return case("likelihood", said, request(rng), reply)


def open_alternative(rng: Rng) -> Case:
    """An alternative that could become either of two categories, and is likely."""
    return scored(2, {1: 1.0, 2: 2.0, 10: 10.0}, record_tokens(rng, [entry("2", 0.6, {"1": 0.3})]))


def no_logprobs(rng: Rng) -> Case:
    made = scored("yes", YES_NO, record_tokens(rng, quoted(entry("yes", 0.8))))
    made["reply"].pop("logprobs")
    return made


def other_tokens(rng: Rng) -> Case:
    tokens = record_tokens(rng, quoted(entry("yes", 0.8)))
    return scored("yes", YES_NO, tokens, content='{ "score": "yes" }')


def digit_in_key(rng: Rng) -> Case:
    made = scored("yes", YES_NO, record_tokens(rng, quoted(entry("yes", 0.6, {"no": 0.2})), key="score1"))
    made["spec"]["transformations"][0]["input_path"] = ["score1"]
    return made


def null_beside(rng: Rng) -> Case:
    value = quoted(entry("yes", 0.6, {"no": 0.2}))
    return scored("yes", YES_NO, record_tokens(rng, value, after=', "why": null}'))


def misspelt_path(rng: Rng) -> Case:
    made = scored("yes", YES_NO, record_tokens(rng, quoted(entry("yes", 0.6, {"no": 0.2}))))
    made["spec"]["transformations"][0]["input_path"] = ["scores"]
    return made


def breaks_schema(rng: Rng) -> Case:
    schema = {"type": "object", "properties": {"score": {"enum": ["yes", "no"]}, "why": {"type": "string"}}}
    value = quoted(entry("yes", 0.6, {"no": 0.2}))
    return scored("yes", YES_NO, record_tokens(rng, value, after=', "why": 3}'), schema=schema)


# ---------------------------------------------------------------- sentences


def decoding(rng: Rng, number: int, source: Any = "documents", **more: Any) -> Case:
    names = {"begin": "b", "end": "e", "text": "t"}
    contract = spec(
        sentence_boundaries=more.pop("boundaries", {"documents": "c"}),
        transformations=[
            {"type": "decode_sentences", "input_path": ["n"], "source": source, "output_names": names}
        ],
        **more.pop("fields", {}),
    )
    asked = more.pop("asked", None) or request(rng, documents=2, turns=2)
    return case("decode_sentences", contract, asked, {"n": number}, **more)


def out_of_range(rng: Rng) -> Case:
    return decoding(rng, rng.randint(500, 10**9))


def negative(rng: Rng) -> Case:
    return decoding(rng, -rng.randint(1, 3))


def true_as_number(rng: Rng) -> Case:
    made = decoding(rng, 0)
    made["reply"]["message"]["content"] = '{"n": true}'
    return made


def white_space(rng: Rng) -> Case:
    asked = request(rng, documents=1, turns=2)
    gap = rng.choice(("\n\n", "  ", "\n", "\t", " \n "))
    asked["extra_body"]["documents"][0]["text"] = gap.join(("It rained.", "Boats came in.", "Night fell."))
    return decoding(rng, rng.randint(0, 2), asked=asked)


def tagged_text(rng: Rng) -> Case:
    asked = request(rng, documents=1, turns=2)
    asked["extra_body"]["documents"][0]["text"] = "Keep <c1> out of this. It is a label. The end."
    return decoding(rng, 1, asked=asked)


def empty_document(rng: Rng) -> Case:
    asked = request(rng, documents=2, turns=2)
    asked["extra_body"]["documents"][0]["text"] = rng.choice(("", " ", "\n"))
    return decoding(rng, 0, asked=asked)


def empty_instruction(rng: Rng) -> Case:
    made = decoding(rng, 0, "last_message", boundaries={"last_message": "r"}, fields={"instruction": ""})
    return made


def history_after_documents(rng: Rng) -> Case:
    """The history counts on from the documents, and only the history is decoded."""
    asked = request(rng, documents=0, turns=3)
    asked["extra_body"] = {"documents": [{"text": "It rained.", "doc_id": "1"}]}
    return decoding(
        rng,
        1,
        "all_but_last_message",
        asked=asked,
        boundaries={"documents": "c", "all_but_last_message": "c"},
    )


def string_documents(rng: Rng) -> Case:
    return decoding(rng, 0, fields={"docs_as_message": "string"})


# ---------------------------------------------------------------- records


def step_case(kind: str, step: dict[str, Any], reply: Any) -> Case:
    asked = {"messages": [{"role": "user", "content": "Well?"}]}
    return case(kind, spec(transformations=[{"type": kind, "input_path": [], **step}]), asked, reply)


def project_missing(rng: Rng) -> Case:
    return step_case("project", {"retained_fields": ["k", "gone"]}, [{"k": rng.randint(0, 9)}])


def project_clash(rng: Rng) -> Case:
    return step_case("project", {"retained_fields": {"k": "x", "v": "x"}}, [{"k": rng.randint(0, 9), "v": 2}])


def list_as_key(rng: Rng) -> Case:
    reply = [{"k": [1, 2], "v": rng.randint(0, 9)}, {"k": [1, 2], "v": 3}]
    return step_case("drop_duplicates", {"target_fields": ["k"]}, reply)


def true_is_one(rng: Rng) -> Case:
    return step_case("drop_duplicates", {"target_fields": ["k"]}, [{"k": True}, {"k": 1}])


def same_begin(rng: Rng) -> Case:
    step = {"group_fields": ["g"], "begin_field": "b", "end_field": "e"}
    return step_case("merge_spans", step, [{"g": "x", "b": 0, "e": 3}, {"g": "x", "b": 0, "e": 4}])


def mixed_groups(rng: Rng) -> Case:
    step = {"group_fields": ["g"], "begin_field": "b", "end_field": "e"}
    return step_case("merge_spans", step, [{"g": "x", "b": 0, "e": 3}, {"g": None, "b": 3, "e": 4}])


def shared_part(rng: Rng) -> Case:
    """Records made by explode have a part in common, and one of them is changed."""
    steps = [
        {"type": "explode", "input_path": [], "target_field": "l"},
        {"type": "nest", "input_path": [0, "o", "q"], "field_name": "deep"},
    ]
    asked = {"messages": [{"role": "user", "content": "Well?"}]}
    reply = [{"o": {"q": rng.randint(0, 9)}, "l": [1, 2]}]
    return case("explode", spec(transformations=steps), asked, reply)


# ---------------------------------------------------------------- requests and replies


def plain_request(rng: Rng, contract: dict[str, Any], **more: Any) -> Case:
    return case("rewriting", contract, request(rng, turns=2), **more)


def missing_argument(rng: Rng) -> Case:
    return plain_request(rng, spec(instruction="Judge by {criteria}."))


def extra_argument(rng: Rng) -> Case:
    return plain_request(rng, spec(instruction="Judge."), arguments={"criterai": text(rng, 1)})


def argument_hidden(rng: Rng) -> Case:
    return plain_request(rng, spec(instruction="{last_message}"), arguments={"last_message": "mine"})


def attribute_field(rng: Rng) -> Case:
    return plain_request(rng, spec(instruction="Judge {x.__class__}."), arguments={"x": "y"})


def list_argument(rng: Rng) -> Case:
    return plain_request(rng, spec(instruction="Judge {x}."), arguments={"x": ["a", "b"]})


def messages_parameter(rng: Rng) -> Case:
    return plain_request(rng, spec(parameters={"messages": []}))


def unnamed_documents(rng: Rng) -> Case:
    asked = request(rng, turns=1)
    asked["extra_body"] = {"documents": [{"text": text(rng)}]}
    return case("docs_as_message", spec(docs_as_message=rng.choice(("string", "roles"))), asked)


def two_values(rng: Rng) -> Case:
    reply = {"message": {"content": '{"a": 1, "a": 2}'}}
    return plain_request(rng, spec(), reply=reply)


def not_a_number(rng: Rng) -> Case:
    reply = {
        "message": {"content": json.dumps({"a": 0}).replace("0", rng.choice(("NaN", "Infinity", "1e999")))}
    }
    return plain_request(rng, spec(), reply=reply)


def bracket_in_key(rng: Rng) -> Case:
    """A first key that has something of JSON's own in it."""
    reply = {"message": {"content": json.dumps({rng.choice(("[x]", "a, b", "k:v", "null")): 1})}}
    return plain_request(rng, spec(), reply=reply)


def constrained_channel(rng: Rng) -> Case:
    heading = ["<|channel|>", "final", " ", "<|constrain|>", "json", "<|message|>"]
    made = scored("yes", YES_NO, record_tokens(rng, quoted(entry("yes", 0.6, {"no": 0.2}))))
    tokens = [entry(token, 0.97) for token in heading] + made["reply"]["logprobs"]["content"]
    made["reply"]["logprobs"]["content"] = tokens
    made["reply"]["message"]["content"] = "".join(token["token"] for token in tokens)
    made["spec"]["logprobs_workaround"] = True
    return made
