"""The real tasks' data: no text in two parts, answers that cannot be guessed, contracts that take them."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from tests.demo.relevance_data import read_pairs
from tests.tasks.rows import REQUIREMENTS, misspelt
from tests.tasks.task import TASKS, Task, task_named, write_project
from tests.tasks.texts import Row, articles, runs, unlike
from zoo.models import BaseModel
from zoo.training.dataset import read_dataset

NAMES = [task.name for task in TASKS]
WORDS = 9  # a run of so many words in two texts is no accident


def texts(row: Row) -> set[str]:
    """What a row is about; a requirement or a criterion is the same in many rows by intention."""
    said = {message["content"] for message in row["messages"] if len(message["content"]) > 40}
    return said | {document["text"] for document in row.get("documents", [])}


def shared(one: list[Row], other: list[Row]) -> set[tuple[str, ...]]:
    found = [
        {run for row in part for text in texts(row) for run in runs(text, WORDS)} for part in (one, other)
    ]
    return {run for run in found[0] & found[1] if len(run) == WORDS}


@pytest.mark.parametrize("name", NAMES)
def test_no_text_and_no_group_is_both_trained_on_and_held_out(name: str) -> None:
    train, held_out = task_named(name).rows()

    assert not {row["group"] for row in train} & {row["group"] for row in held_out}
    assert not shared(train, held_out)
    assert shared(train, [*held_out, *train[:20]])  # a leak would be seen


@pytest.mark.parametrize("name", NAMES)
def test_within_a_part_no_text_is_in_two_groups(name: str) -> None:
    """`zoo train` draws validation samples by group."""
    for part in task_named(name).rows():
        groups: dict[str, set[str]] = {}
        for row in part:
            for text in texts(row):
                groups.setdefault(text, set()).add(row["group"])
        assert max(map(len, groups.values())) == 1


def test_a_question_is_never_in_two_groups() -> None:
    train, held_out = task_named("context-relevance").rows()
    groups: dict[str, set[str]] = {}
    for row in (*train, *held_out):
        groups.setdefault(row["messages"][-1]["content"], set()).add(row["group"])

    assert max(map(len, groups.values())) == 1
    assert len(groups) <= len(read_pairs(360))


@pytest.mark.parametrize("task", [task for task in TASKS if task.closed], ids=lambda task: task.name)
def test_without_the_text_a_closed_answer_is_a_guess(task: Task) -> None:
    """Answers are even as a whole, and for each value of the arguments."""
    for part in task.rows():
        for value in {json.dumps(row.get("arguments")) for row in part}:
            answers = Counter(
                json.dumps(row["answer"]) for row in part if json.dumps(row.get("arguments")) == value
            )
            assert len(answers) == 2
            assert max(answers.values()) == min(answers.values())


def test_an_open_answer_is_a_guess_too() -> None:
    for part in task_named("proofreading").rows():
        commonest = Counter(json.dumps(row["answer"]) for row in part).most_common(1)[0][1]
        assert commonest / len(part) < 0.02


def test_every_requirement_is_there_and_has_enough_samples() -> None:
    for part, least in zip(task_named("requirement-check").rows(), (60, 20), strict=True):
        counts = Counter(row["arguments"]["requirement"] for row in part)
        assert counts.keys() == REQUIREMENTS.keys()
        assert min(counts.values()) >= least


def test_a_misspelling_says_what_was_there_and_is_no_word_of_the_texts() -> None:
    everything = " ".join(articles(200, 60)).lower().split()
    for part in task_named("proofreading").rows():
        for row in part:
            wrong, right = row["answer"]["wrong"], row["answer"]["right"]
            assert wrong not in everything
            assert row["messages"][-1]["content"].replace(wrong, right) == row["group"]


def test_a_misspelling_differs_from_its_word() -> None:
    drawn = random.Random(0)

    assert all(misspelt(word, drawn) != word for word in ("hello", "aabbb", "asses") for _ in range(50))


def test_alike_texts_are_left_out() -> None:
    assert unlike(["a b c d", "x a b c", "e f"], words=3) == ("a b c d", "e f")
    assert unlike(["a b c d", "x a b c", "e f"], words=4) == ("a b c d", "x a b c", "e f")


@pytest.mark.parametrize("name", NAMES)
def test_a_project_is_what_zoo_init_makes_and_its_data_is_real(
    name: str, tiny_base: BaseModel, tmp_path: Path
) -> None:
    task = task_named(name)
    project = write_project(task, tmp_path / name, base=str(tiny_base.folder), sizes=(24, 12))

    samples, held_out = (read_dataset(path, values=True) for path in (project.train, project.held_out))
    asked = read_dataset(project.asked)
    assert len(samples.samples) >= 24
    assert len(held_out.samples) >= 12
    assert project.folder.joinpath("io.yaml").read_text().endswith(task.contract.read_text())
    assert task.license in " ".join(project.folder.joinpath("zoo.yaml").read_text().split())
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
    for told, sample in zip(asked.samples, held_out.samples, strict=True):
        assert json.loads(told.answer) == sample.answer
        assert task.question in told.messages[-1]["content"]
        assert task.question not in sample.messages[-1]["content"]
