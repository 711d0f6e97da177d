import copy
import json
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.io.exercise import exercise
from tests.io.specs import asked, choice, contract, decoding, likelihood, token
from zoo.errors import ContractError
from zoo.io import process, rewrite

TEXT = " It rained.\n\nBoats  came in.\tNight fell.  "


def step(kind: str, path: Any = (), **fields: Any) -> dict[str, Any]:
    return {"type": kind, "input_path": list(path), **fields}


def done(
    reply: Any, *steps: dict[str, Any], request: Any = None, spans: Any = "untagged", **fields: Any
) -> Any:
    text = reply if isinstance(reply, str) else json.dumps(reply)
    return process(contract(*steps, **fields), text, request or asked("Hi."), spans=spans)


def refused(
    code: str, path: tuple[str | int, ...], reply: Any, *steps: dict[str, Any], **fields: Any
) -> ContractError:
    with pytest.raises(ContractError) as caught:
        done(reply, *steps, **fields)
    assert (caught.value.code, caught.value.path) == (code, path), caught.value
    return caught.value


# ---------------------------------------------------------------- sentences


def test_spans_are_of_the_callers_text_and_join() -> None:
    request = asked("Hi.", documents=(TEXT, "One. Two."))
    rows = done(
        [{"n": number} for number in range(5)],
        decoding("documents", [None, "n"], "begin", "end", "text", "document_id"),
        sentence_boundaries={"documents": "c"},
        request=request,
    )
    texts = {"d0": TEXT, "d1": "One. Two."}
    assert [texts[row["document_id"]][row["begin"] : row["end"]] for row in rows] == [
        row["text"] for row in rows
    ]
    assert "".join(row["text"] for row in rows[:3]) == TEXT.rstrip()
    assert [row["document_id"] for row in rows] == ["d0", "d0", "d0", "d1", "d1"]
    assert all(left["end"] == right["begin"] for left, right in pairwise(rows[:3]))


def test_the_older_spans_are_of_the_tagged_text() -> None:
    spec = contract(decoding("documents", [None, "n"]), sentence_boundaries={"documents": "c"})
    request = asked("Hi.", documents=("One. Two. " * 6,))
    tagged = rewrite(spec, request)["extra_body"]["documents"][0]["text"]
    rows = process(spec, json.dumps([{"n": number} for number in range(12)]), request, spans="tagged")
    for number, row in enumerate(rows):
        assert tagged[row["begin"] : row["end"]].startswith(f"<c{number}> ")
    assert "".join(tagged[row["begin"] : row["end"]] for row in rows) == tagged


def test_the_history_counts_on_from_the_documents() -> None:
    request = asked("One. Two.", "Three.", "Last.", documents=("A.", "", "B."))
    rows = done(
        [{"n": 2}, {"n": 3}, {"n": 4}],
        decoding("all_but_last_message", [None, "n"], "text", "message_index", "document_id"),
        sentence_boundaries={"documents": "c", "all_but_last_message": "c"},
        docs_as_message="json",
        request=request,
    )
    assert [(row["text"], row["message_index"], row["document_id"]) for row in rows] == [
        ("One. ", 0, None),
        ("Two.", 0, None),
        ("Three.", 1, None),
    ]


@pytest.mark.parametrize("number", [-1, 3, 10**9, 10**400])
def test_a_number_without_sentence_is_refused(number: int) -> None:
    boundaries = {"last_message": "r"}
    steps = decoding("last_message", [0, "n"])
    error = refused(
        "ZO129",
        (0, "n"),
        [{"n": number}],
        steps,
        request=asked("One. Two. Six."),
        sentence_boundaries=boundaries,
    )
    assert "0 to 2" in error.hint
    refused("ZO129", (0, "n"), [{"n": 0}], steps, request=asked(" "), sentence_boundaries=boundaries)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [1], {}])
def test_what_is_no_number_is_refused(value: Any) -> None:
    refused(
        "ZO124",
        (0, "n"),
        [{"n": value}],
        decoding("last_message", [0, "n"]),
        request=asked("One. Two."),
        sentence_boundaries={"last_message": "r"},
    )


def test_decoding_needs_numbers_of_its_source_that_mean_one_sentence() -> None:
    refused("ZO130", ("sentence_boundaries",), [{"n": 0}], decoding("last_message", [0, "n"]))
    both = decoding(["documents", "last_message"], [0, "n"])
    boundaries = {"last_message": "r", "documents": "c"}
    request = asked("Hi.", documents=("A.",))
    refused("ZO130", (), [{"n": 0}], both, request=request, sentence_boundaries=boundaries)
    assert done([{"n": 0}], both, sentence_boundaries=boundaries)[0]["text"] == "Hi."


def test_decoded_fields_do_not_overwrite_others() -> None:
    boundaries = {"last_message": "r"}
    reply = [{"n": 0, "text": "mine"}]
    refused(
        "ZO131", (0, "n"), reply, decoding("last_message", [0, "n"], "text"), sentence_boundaries=boundaries
    )
    over = decoding("last_message", [0, "n"]) | {"output_names": {"text": "n"}}
    assert done(reply, over, sentence_boundaries=boundaries) == [{"n": "Hi.", "text": "mine"}]


def test_a_sentence_is_decoded_in_a_record_only() -> None:
    boundaries = {"last_message": "r"}
    refused("ZO124", (), 0, decoding("last_message", []), sentence_boundaries=boundaries)
    refused("ZO124", (), [0], decoding("last_message", [None]), sentence_boundaries=boundaries)


# ---------------------------------------------------------------- records


def test_explode_makes_records_that_share_nothing() -> None:
    reply = [{"o": {"q": 1}, "l": [1, 2], "z": 0}, {"o": {}, "l": [], "z": 1}]
    rows = done(reply, step("explode", target_field="l"), step("nest", [0, "o", "q"], field_name="deep"))
    assert rows == [{"o": {"q": {"deep": 1}}, "l": 1, "z": 0}, {"o": {"q": 1}, "l": 2, "z": 0}]
    assert list(rows[0]) == ["o", "l", "z"]


def test_of_duplicates_the_last_stays_at_the_firsts_place() -> None:
    reply = [{"k": 1, "v": "a"}, {"k": 2, "v": "b"}, {"k": 1, "v": "c"}]
    assert done(reply, step("drop_duplicates", target_fields=["k"])) == [
        {"k": 1, "v": "c"},
        {"k": 2, "v": "b"},
    ]
    different = [{"k": 1}, {"k": True}, {"k": "1"}, {"k": None}, {"k": [1]}, {"k": {"a": 1, "b": 2}}]
    same = [{"k": [1]}, {"k": {"b": 2, "a": 1}}]
    assert len(done(different + same, step("drop_duplicates", target_fields=["k"]))) == len(different)


def test_project_keeps_and_renames() -> None:
    rows = [{"a": 1, "b": 2, "c": 3}]
    assert done(rows, step("project", retained_fields=["c", "a"])) == [{"c": 3, "a": 1}]
    assert done({"x": rows[0]}, step("project", ["x"], retained_fields={"a": "b", "b": "a"})) == {
        "x": {"b": 1, "a": 2}
    }
    refused("ZO131", (), rows, step("project", retained_fields={"a": "x", "b": "x"}))


@pytest.mark.parametrize("value", [1, None, "a", [1], {"q": 2}])
def test_nest_wraps_anything(value: Any) -> None:
    assert done({"a": value}, step("nest", ["a"], field_name="n")) == {"a": {"n": value}}
    assert done(json.dumps(value), step("nest", field_name="n")) == {"n": value}


MERGE = step("merge_spans", group_fields=["g"], begin_field="b", end_field="e", text_field="t")


def span(group: Any, begin: int, end: int) -> dict[str, Any]:
    return {"g": group, "b": begin, "e": end, "t": "x" * (end - begin)}


def test_spans_that_touch_in_one_group_are_joined() -> None:
    rows = [
        span("y", 4, 6),
        span("x", 3, 4),
        span("x", 0, 3),
        span(None, 4, 5),
        span("x", 9, 10),
        span("y", 6, 7),
    ]
    assert done(rows, MERGE) == [span(None, 4, 5), span("x", 0, 4), span("x", 9, 10), span("y", 4, 7)]
    assert done([], MERGE) == []
    assert done([span(1, 0, 2), span(True, 2, 3)], MERGE) == [span(1, 0, 2), span(True, 2, 3)]


def test_spans_that_cannot_be_joined_are_refused() -> None:
    refused("ZO132", (), [span("x", 0, 3), span("x", 0, 4)], MERGE)
    refused("ZO124", (0, "more"), [span("x", 0, 3) | {"more": 1}], MERGE)
    refused("ZO124", (0, "b"), [span("x", 0, 3) | {"b": "0"}], MERGE)
    refused("ZO124", (0, "e"), [span("x", 0, 3) | {"e": True}], MERGE)
    refused("ZO124", (0, "t"), [span("x", 0, 3) | {"t": None}], MERGE)
    refused("ZO123", (0,), [{"g": "x", "b": 1, "t": ""}], MERGE)


@pytest.mark.parametrize(
    "kind",
    [
        step("explode", target_field="l"),
        step("drop_duplicates", target_fields=["l"]),
        step("project", retained_fields=["l"]),
        MERGE,
    ],
)
def test_records_are_needed(kind: dict[str, Any]) -> None:
    refused("ZO124", (), '"text"', kind)
    refused("ZO124", (0,), [1], kind)
    refused("ZO123", (0,), [{}], kind)
    if kind["type"] != "project":
        refused("ZO124", (), {"l": []}, kind)


def test_explode_needs_a_list() -> None:
    refused("ZO124", (0, "l"), [{"l": 1}], step("explode", target_field="l"))


# ---------------------------------------------------------------- paths and replies


@pytest.mark.parametrize(
    ("path", "where"),
    [
        (["x"], ()),
        (["a", "x"], ("a",)),
        (["a", 0], ("a",)),
        (["l", 5], ("l",)),
        (["l", "0"], ("l",)),
        (["l", None, "x"], ("l", 0)),
        (["l", 0, None], ("l", 0)),
    ],
)
def test_a_path_that_means_nothing_is_refused(path: list[Any], where: tuple[str | int, ...]) -> None:
    refused("ZO123", where, {"a": {"b": 1}, "l": [1, 2]}, step("nest", path, field_name="n"))


def test_wildcards_mean_every_element() -> None:
    nest = step("nest", [None, None], field_name="n")
    assert done({"a": [1, 2], "b": {"c": 3}, "e": []}, nest) == {
        "a": [{"n": 1}, {"n": 2}],
        "b": {"c": {"n": 3}},
        "e": [],
    }
    assert done([], nest) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "yes",
        '{"a": 1} x',
        '{"a": NaN}',
        "[Infinity]",
        "1e999",
        '{"a": 1, "a": 2}',
        "9" * 5000,
        '"\\ud800"',
    ],
)
def test_what_is_no_json_is_refused(text: str) -> None:
    refused("ZO120", (), text)


def test_sizes_of_replies_are_bounded() -> None:
    refused("ZO102", (), "[" * 65 + "]" * 65)
    assert done("[" * 64 + "]" * 64)
    assert done([{"a": "[" * 100}] * 70)
    refused("ZO102", (), "[" * 100_000)
    refused("ZO102", (), '"' + "a" * 1_000_000 + '"')
    refused("ZO102", (0,), [{"a": "x" * 1000, "l": [0] * 10_000}], step("explode", target_field="l"))
    doubled = [step("explode", target_field="l"), step("explode", target_field="m")]
    with pytest.raises(ContractError, match="ZO102"):
        done([{"l": [0] * 1000, "m": [0] * 1000}], *doubled)
    long = asked("a" * 100_000 + ".")
    with pytest.raises(ContractError, match="ZO102"):
        done(
            [{"n": 0}] * 100,
            decoding("last_message", [None, "n"], "text"),
            request=long,
            sentence_boundaries={"last_message": "r"},
        )


def test_huge_integers_and_nulls_pass() -> None:
    assert done({"n": 10**300, "x": None}) == {"n": 10**300, "x": None}


@pytest.mark.parametrize(
    "reply", [None, 3, {}, {"message": "x"}, {"message": {"content": None}}, {"message": {}}]
)
def test_what_is_no_reply_is_refused(reply: Any) -> None:
    with pytest.raises(ContractError) as caught:
        process(contract(), reply, asked("Hi."))
    assert caught.value.code == "ZO121"


def test_nothing_of_the_arguments_is_changed_or_shared() -> None:
    request = asked("One. Two.", documents=("Six.",))
    spec = contract(
        likelihood([0, "s"], {"yes": 1.0}),
        decoding("last_message", [0, "n"]),
        sentence_boundaries={"last_message": "r"},
        response_format={"type": "array"},
    )
    reply = choice(*(token(letter) for letter in '[{"n": 1, "s": "yes", "x": [1]}]'))
    before = copy.deepcopy((request, reply, spec.model_dump()))
    result = process(spec, reply, request)
    result[0]["x"].append(2)
    assert (request, reply, spec.model_dump()) == before
    assert process(spec, reply, request)[0]["x"] == [1]


def test_spans_are_of_two_kinds() -> None:
    with pytest.raises(ContractError, match="ZO100"):
        done(1, spans="other")


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.one_of(st.binary(max_size=300), st.integers(0, 2**32).map(lambda seed: Random(seed).randbytes(300)))
)
def test_any_bytes_end_in_a_result_or_in_an_error_of_ours(data: bytes) -> None:
    assert exercise(data)
