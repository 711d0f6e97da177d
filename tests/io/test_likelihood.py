import json
import math
from typing import Any

import pytest

from tests.io.specs import YES_NO, asked, choice, contract, decoding, entry, likelihood, token
from zoo.errors import ContractError
from zoo.io import process

NUMBERS = {"yes": 1.0, "no": 0.0}
SPEC = contract(likelihood(["score"], NUMBERS), response_format=YES_NO)
ASKED = asked("Well?")
HEAD = (token('{"'), token("score"), token('":'))


def score(reply: Any, spec: Any = SPEC) -> float:
    return process(spec, reply, ASKED)["score"]


def refused(code: str, reply: Any, spec: Any = SPEC) -> ContractError:
    with pytest.raises(ContractError) as caught:
        process(spec, reply, ASKED)
    assert caught.value.code == code, caught.value
    return caught.value


def test_the_value_is_the_mean_over_the_categories_tokens() -> None:
    reply = choice(*HEAD, token(' "'), token("yes", 0.6, no=0.2, n=0.1, Maybe=0.05), token('"}'))
    assert score(reply) == pytest.approx(0.6 / 0.9)
    assert score(choice(*HEAD, token(' "'), token("no", 0.6, y=0.3), token('"}'))) == pytest.approx(0.3 / 0.9)


def test_tokens_may_go_on_behind_the_text_and_white_space_may_be_before_it() -> None:
    tokens = (token(" "), *HEAD, token(' "'), token("yes", 0.6, no=0.3), token('"}'), token("<|end|>"))
    text = '{"score": "yes"}'
    assert score(choice(*tokens, content=text)) == pytest.approx(2 / 3)
    assert score(choice(*tokens, content=" " + text)) == pytest.approx(2 / 3)


@pytest.mark.parametrize("glue", ['"', ' "', ': "'])
def test_a_token_glued_to_its_quote_has_alternatives(glue: str) -> None:
    head = (token('{"'), token('score"' + ("" if ":" in glue else ":")))
    value = entry(f"{glue}yes", 0.6, {f"{glue}no": 0.3, "7": 0.1})
    assert score(choice(*head, value, token('"}'))) == pytest.approx(2 / 3)


def test_a_token_glued_to_what_follows_has_alternatives() -> None:
    reply = choice(
        *HEAD, token(' "'), entry('yes"}', 0.6, {'no"}': 0.1, 'no"': 0.1, 'no"\n}': 0.1, "noon": 0.1})
    )
    assert score(reply) == pytest.approx(2 / 3)


def test_a_lone_quote_beside_a_glued_value_says_nothing_unless_it_is_likelier() -> None:
    assert score(choice(*HEAD, entry('"yes', 0.6, {'"no': 0.2, '"': 0.1}), token('"}'))) == pytest.approx(
        0.75
    )
    refused("ZO128", choice(*HEAD, entry('"yes', 0.3, {'"no': 0.1, '"': 0.6}), token('"}')))


def test_an_empty_token_counts_for_no_category() -> None:
    reply = choice(*HEAD, token(' "'), entry("no", 0.5, {"": 0.4, "yes": 0.1}), token('"}'))
    assert score(reply) == pytest.approx(0.1 / 0.6)
    likelier = choice(*HEAD, token(' "'), entry("no", 0.3, {"": 0.6, "yes": 0.1}), token('"}'))
    assert score(likelier) == pytest.approx(0.25)


def test_white_space_in_a_value_is_part_of_it() -> None:
    reply = choice(*HEAD, token(' "'), entry("yes", 0.5, {" no": 0.4, "no": 0.1}), token('"}'))
    assert score(reply) == pytest.approx(0.5 / 0.6)


def test_white_space_before_a_value_is_not() -> None:
    spec = contract(likelihood([], {1: 1.0, 2: 2.0}))
    reply = choice(entry(" 1", 0.5, {"2": 0.25, "\n2": 0.25}))
    assert process(spec, reply, ASKED) == pytest.approx(1.5)


def test_the_next_token_decides_between_categories_that_begin_alike() -> None:
    spec = contract(likelihood([], {1: 1.0, 10: 10.0, 2: 2.0}))
    reply = choice(token("1", 0.8, **{"2": 0.2}), token("0", 0.5), token("", 1.0), content="10")
    reply["logprobs"]["content"][1] = entry("0", 0.5, {"<|end|>": 0.5})
    assert process(spec, reply, ASKED) == pytest.approx(0.2 * 2 + 0.4 * 10 + 0.4 * 1)
    alone = choice(token("1", 0.8, **{"2": 0.2}), entry("<|end|>", 0.5, {"0": 0.5}), content="1")
    assert process(spec, alone, ASKED) == pytest.approx(0.2 * 2 + 0.4 * 10 + 0.4 * 1)


def test_an_alternative_of_several_categories_is_no_evidence() -> None:
    spec = contract(likelihood([], {1: 1.0, 10: 10.0, 2: 2.0}))
    refused("ZO128", choice(token("2", 0.8, **{"1": 0.2})), spec)
    assert process(spec, choice(token("2", 0.9999, **{"1": 0.0001})), ASKED) == 2.0


def test_booleans_are_the_tokens_true_and_false() -> None:
    spec = contract(likelihood(["score"], {True: 1.0, False: 0.0}))
    assert score(choice(*HEAD, token(" "), token("true", 0.6, false=0.3), token("}")), spec) == pytest.approx(
        2 / 3
    )
    assert score(choice(*HEAD, entry(" false", 0.6, {" true": 0.3}), token("}")), spec) == pytest.approx(
        1 / 3
    )


def test_categories_are_of_the_replys_type() -> None:
    text = choice(*HEAD, token(' "'), token("yes", 0.6, no=0.3), token('"}'))
    assert refused("ZO125", text, contract(likelihood(["score"], {True: 1.0, False: 0.0}))).path == ("score",)
    refused("ZO125", text, contract(likelihood(["score"], {"no": 0.0})))
    number = choice(*HEAD, token(" "), token("1"), token("}"))
    refused("ZO125", number, contract(likelihood(["score"], {"1": 0.0})))
    refused("ZO125", number, contract(likelihood(["score"], {True: 0.0})))
    refused(
        "ZO125",
        choice(*HEAD, token(" "), token("null"), token("}")),
        contract(likelihood(["score"], NUMBERS)),
    )


@pytest.mark.parametrize("reply", ['{"score": "yes"}', {"message": {"content": '{"score": "yes"}'}}])
def test_without_log_probabilities_there_is_no_value(reply: Any) -> None:
    refused("ZO126", reply)
    if isinstance(reply, dict):
        refused("ZO126", reply | {"logprobs": None})
        refused("ZO126", reply | {"logprobs": {"content": None}})


def test_tokens_must_make_up_the_text() -> None:
    refused("ZO127", choice(*HEAD, token("yes"), content='{"score": "yes"}'))
    refused("ZO127", {"message": {"content": '{"score": "yes"}'}, "logprobs": {"content": []}})


@pytest.mark.parametrize("logprob", [None, "x", math.nan, 0.5, math.inf, True])
def test_a_log_probability_is_a_number_up_to_zero(logprob: Any) -> None:
    reply = choice(*HEAD, token(' "'), token("yes", 0.6, no=0.3), token('"}'))
    for broken in (reply["logprobs"]["content"][4], reply["logprobs"]["content"][4]["top_logprobs"][0]):
        kept, broken["logprob"] = broken["logprob"], logprob
        assert refused("ZO127", reply).path[:3] == ("logprobs", "content", 4)
        broken["logprob"] = kept
    assert score(reply) == pytest.approx(2 / 3)


@pytest.mark.parametrize("broken", [None, {}, {"token": 3}, "yes", []])
def test_malformed_tokens_are_refused(broken: Any) -> None:
    reply = choice(*HEAD, token(' "'), token("yes", 0.6, no=0.3), token('"}'))
    reply["logprobs"]["content"][2] = broken
    refused("ZO127", reply)
    reply = choice(*HEAD, token(' "'), token("yes", 0.6, no=0.3), token('"}'))
    reply["logprobs"]["content"][4]["top_logprobs"][0] = broken
    refused("ZO127", reply)


def test_probabilities_that_are_all_nothing_are_refused() -> None:
    reply = choice(*HEAD, token(' "'), token("yes"), token('"}'))
    reply["logprobs"]["content"][4]["logprob"] = -9999.0
    refused("ZO128", reply)


def test_characters_of_several_tokens_are_found_by_their_bytes() -> None:
    spec = contract(likelihood(["ü"], {"ja": 1.0, "nö": 0.0}))
    text = '{"ü": "nö"}'
    raw = [b'{"', b"\xc3", b"\xbc", b'": "', b"n", b"\xc3", b"\xb6", b'"}']
    tokens = [token(piece.decode("utf-8", "replace"), 0.9) | {"bytes": list(piece)} for piece in raw]
    tokens[4] = entry("n", 0.6, {"ja": 0.3}) | {"bytes": list(b"n")}
    assert process(spec, choice(*tokens, content=text), ASKED) == {"ü": pytest.approx(1 / 3)}
    for item in tokens:
        item.pop("bytes")
    refused("ZO127", choice(*tokens, content=text), spec)


def test_literals_are_found_wherever_they_stand() -> None:
    """Keys with digits, nulls, escapes and equal values elsewhere."""
    head = '{"n1": null, "true": [1.5e3, "yes", "\\"[]{},:"], "f": [{"s": "yes"}, {"s": "yes"}]'
    spec = contract(likelihood(["f", None, "s"], NUMBERS))
    first, _, rest = head.partition('{"s": "')
    reply = choice(
        *(token(letter) for letter in first + '{"s": "'),
        token("yes", 0.6, no=0.3),
        *(token(letter) for letter in '"}, {"s": "'),
        token("yes", 0.3, no=0.6),
        token('"}]}'),
    )
    result = process(spec, reply, ASKED)
    assert [row["s"] for row in result["f"]] == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert {key: result[key] for key in ("n1", "true")} == {"n1": None, "true": [1500.0, "yes", '"[]{},:']}
    assert rest


def test_a_literal_keeps_its_tokens_through_other_transformations() -> None:
    tokens = [token(letter) for letter in '[{"l": [], "s": "'] + [token("no", 0.9, yes=0.1)]
    tokens += [token(letter) for letter in '"}, {"l": [0, 0], "s": "'] + [
        token("yes", 0.6, no=0.3),
        token('"}]'),
    ]
    spec = contract(
        {"type": "explode", "input_path": [], "target_field": "l"},
        decoding("last_message", [None, "l"], "text"),
        {"type": "drop_duplicates", "input_path": [], "target_fields": ["s"]},
        {"type": "project", "input_path": [], "retained_fields": {"s": "p", "text": "text"}},
        likelihood([0, "p"], NUMBERS),
        sentence_boundaries={"last_message": "r"},
    )
    assert process(spec, choice(*tokens), ASKED) == [{"p": pytest.approx(2 / 3), "text": "Well?"}]


def test_a_new_value_has_no_tokens() -> None:
    reply = choice(*HEAD, token(' "'), token("yes", 0.6, no=0.3), token('"}'))
    assert refused("ZO124", reply, contract(*[likelihood(["score"], NUMBERS)] * 2)).path == ("score",)
    refused("ZO124", reply, contract(likelihood([], NUMBERS)))


HARMONY = ["<|channel|>", "analysis", "<|message|>", '{"score": "no"}', "<|end|>", "<|start|>", "assistant"]


@pytest.mark.parametrize(
    "heading",
    [["final"], [" final"], [" ", "final", " "], ["final", " ", "<|constrain|>", "json"]],
)
@pytest.mark.parametrize("passed_on", [True, False])
def test_the_final_channel_is_cut_out(heading: list[str], passed_on: bool) -> None:
    spec = SPEC.model_copy(update={"logprobs_workaround": True})
    answer = [*HEAD, token(' "'), token("yes", 0.6, no=0.3), token('"}')]
    channels = [token(text) for text in (*HARMONY, "<|channel|>", *heading, "<|message|>")]
    content = None if passed_on else "".join(item["token"] for item in answer)
    reply = choice(*channels, *answer, token("<|return|>"), content=content)
    assert score(reply, spec) == pytest.approx(2 / 3)
    unaware = SPEC
    refused("ZO120" if passed_on else "ZO127", reply, unaware)


def test_a_final_channel_is_found_in_text_that_has_channels() -> None:
    spec = contract(logprobs_workaround=True)
    text = "".join([*HARMONY, "<|channel|>final<|message|>", '{"a": 1}', "<|return|>"])
    assert process(spec, text, ASKED) == {"a": 1}
    said = json.dumps("it says <|channel|>final<|message|>2")
    assert process(spec, said, ASKED) == "it says <|channel|>final<|message|>2"


def test_channels_without_a_final_one_are_refused() -> None:
    spec = contract(logprobs_workaround=True)
    refused("ZO120", "".join(HARMONY), spec)
    refused("ZO120", choice(*(token(text) for text in HARMONY)), spec)
    empty = ["<|channel|>", "final", "<|message|>", "<|return|>"]
    refused("ZO120", choice(*(token(text) for text in empty), content="{}"), spec)
    spelt = [token(text) for text in ("<|", "channel", "|>", "final", "<|message|>", "{}")]
    refused("ZO120", choice(*spelt), spec)
