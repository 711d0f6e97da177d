import hashlib
from dataclasses import replace
from typing import Any

import pytest

from tests.training.conftest import Write, sample, task
from zoo.errors import NotFoundError, RefusedError, SpecError
from zoo.prompts import Invocation, Prompter
from zoo.specs.release import Position
from zoo.training.dataset import encode, read_dataset, split

GOOD = sample("hello", "yes")


def test_reads_samples_with_their_lines_and_the_digest_of_the_bytes(write: Write) -> None:
    path = write([GOOD, "", sample("other", "no", group="a")])
    dataset = read_dataset(path)
    assert [(s.line, s.answer) for s in dataset.samples] == [(1, "yes"), (3, "no")]
    assert dataset.samples[1].group == "a"
    assert dataset.samples[0].messages == ({"role": "user", "content": "hello"},)
    assert dataset.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "line",
    [
        "{not json",
        "[" * 100_000,
        "[]",
        '"text"',
        {"answer": "yes"},
        {"messages": [], "answer": "yes"},
        {"messages": GOOD["messages"]},
        {**GOOD, "answer": ""},
        {**GOOD, "answer": "  "},
        {**GOOD, "answer": 1},
        {**GOOD, "gruop": "a"},
        {**GOOD, "messages": [{"role": "usre", "content": "x"}]},
        {**GOOD, "group": 7},
        {**GOOD, "messages": ["hello"]},
        {**GOOD, "messages": [{"role": "user"}]},
        {**GOOD, "messages": [{"role": 1, "content": "x"}]},
        {**GOOD, "messages": [{"role": "user", "content": ["x"]}]},
    ],
)
def test_a_broken_line_is_named(write: Write, line: Any) -> None:
    with pytest.raises(SpecError) as caught:
        read_dataset(write([GOOD, line]))
    assert caught.value.code == "ZD001"
    assert "data.jsonl, line 2" in caught.value.message


def test_an_empty_file_and_a_missing_one(write: Write) -> None:
    path = write([])
    with pytest.raises(SpecError) as caught:
        read_dataset(path)
    assert caught.value.code == "ZD001"
    with pytest.raises(NotFoundError):
        read_dataset(path.with_name("absent.jsonl"))


def test_a_split_keeps_groups_whole_and_depends_on_the_seed_alone(write: Write) -> None:
    samples = read_dataset(write(task(20))).samples
    inside, outside = split(samples, held_out=0.25, seed=0)
    assert len(outside) == 10
    assert len(inside) == 30
    assert not {s.group for s in inside} & {s.group for s in outside}
    assert split(samples, held_out=0.25, seed=0) == (inside, outside)
    assert split(samples, held_out=0.25, seed=1)[1] != outside


def test_the_same_prompt_never_stands_on_both_sides(write: Write) -> None:
    lines = [sample(f"text {n % 5}", answer) for n in range(10) for answer in ("yes", "no")]
    inside, outside = split(read_dataset(write(lines)).samples, held_out=0.4, seed=0)
    assert inside
    assert outside
    assert not {s.messages[0]["content"] for s in inside} & {s.messages[0]["content"] for s in outside}


def test_one_group_cannot_be_split(write: Write) -> None:
    samples = read_dataset(write([sample(str(n), "yes", group="only") for n in range(5)])).samples
    with pytest.raises(SpecError) as caught:
        split(samples, held_out=0.2, seed=0)
    assert caught.value.code == "ZD002"


def test_a_sample_is_prefix_invocation_and_answer_with_its_end(
    write: Write, prompter: Prompter, invocation: Invocation
) -> None:
    samples = read_dataset(write([GOOD])).samples
    (encoded,) = encode(samples, prompter, invocation, name="d", max_tokens=100)
    assert encoded.lead == invocation.ids
    assert encoded.answer == prompter.encode("yes") + prompter.end_ids
    assert prompter.end_ids == (2,)
    assert prompter.decode(encoded.prefix) == "<|im_start|>user\nhello<|im_end|>\n"


def test_a_prompt_without_the_invocation_names_its_line(
    write: Write, prompter: Prompter, invocation: Invocation
) -> None:
    inside = replace(invocation, position=Position.IN_MESSAGE)
    samples = read_dataset(write([sample(f"hi {invocation.text}", "yes"), GOOD])).samples
    with pytest.raises(RefusedError) as caught:
        encode(samples, prompter, inside, name="data.jsonl", max_tokens=100)
    assert caught.value.code == "ZI004"
    assert "data.jsonl, line 2" in caught.value.message
    (first,) = encode(samples[:1], prompter, inside, name="data.jsonl", max_tokens=100)
    assert first.lead[: len(invocation.ids)] == invocation.ids
    assert len(first.lead) > len(invocation.ids)  # the template closes the message after it


def test_a_sample_that_is_too_long_names_its_line_or_loses_its_beginning(
    write: Write, prompter: Prompter, invocation: Invocation
) -> None:
    samples = read_dataset(write([GOOD, sample("hello " * 50, "no")])).samples
    whole = encode(samples, prompter, invocation, name="data.jsonl", max_tokens=1000)[1]
    limit = whole.tokens - 7
    with pytest.raises(RefusedError) as caught:
        encode(samples, prompter, invocation, name="data.jsonl", max_tokens=limit)
    assert caught.value.code == "ZD003"
    assert "data.jsonl, line 2" in caught.value.message
    cut = encode(samples, prompter, invocation, name="data.jsonl", max_tokens=limit, truncate="left")[1]
    assert cut == replace(whole, prefix=whole.prefix[7:])
    assert cut.tokens == limit


def test_truncation_never_cuts_the_invocation_or_the_answer(
    write: Write, prompter: Prompter, invocation: Invocation
) -> None:
    samples = read_dataset(write([GOOD])).samples
    needed = len(invocation.ids) + len(prompter.encode("yes")) + 1
    (bare,) = encode(samples, prompter, invocation, name="d", max_tokens=needed, truncate="left")
    assert bare.prefix == ()
    with pytest.raises(RefusedError) as caught:
        encode(samples, prompter, invocation, name="d", max_tokens=needed - 1, truncate="left")
    assert caught.value.code == "ZD003"


@pytest.mark.parametrize("more", [{"documents": [{"text": "x"}]}, {"arguments": {"n": 1}}])
def test_documents_and_arguments_are_not_dropped_where_nothing_places_them(
    write: Write, prompter: Prompter, invocation: Invocation, more: dict[str, Any]
) -> None:
    samples = read_dataset(write([sample("question", "yes", **more)])).samples
    with pytest.raises(SpecError, match="line 1 has documents or arguments") as caught:
        encode(samples, prompter, invocation, name="d", max_tokens=400)
    assert caught.value.code == "ZD001"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"adapter": 3}, "`adapter`"),
        ({"documents": ["x"]}, "`documents`"),
        ({"arguments": []}, "`arguments`"),
    ],
)
def test_the_other_fields_have_their_forms(write: Write, more: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        read_dataset(write([sample("question", "yes", **more)]))
    assert caught.value.code == "ZD001"


def test_documents_tell_prompts_apart_when_no_group_is_given(write: Write) -> None:
    one, two, three = read_dataset(
        write([sample("q", "yes", documents=[{"text": t}]) for t in "ab"] + [sample("q", "yes")])
    ).samples
    assert len({one.group, two.group, three.group}) == 3
