"""Order, schedule, merge and journal of a fleet; its workers here only pretend."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.ci.fleet.conftest import TODAY, order, result
from zoo.ci.fleet.journal import Journal
from zoo.ci.fleet.lost import lost
from zoo.ci.fleet.merging import Merge
from zoo.ci.fleet.place import Place
from zoo.ci.fleet.run import fleet
from zoo.ci.fleet.schedule import LEADERS, Schedule
from zoo.ci.fleet.task import Finished, Order, Task, tasks
from zoo.errors import SpecError, UsageError
from zoo.report import Report
from zoo.specs.policy import Policy, Suite
from zoo.validators.validate import Settings


class Pretending:
    """A crew that finishes tasks in a given order, and may be killed after some."""

    one_run = True

    def __init__(self, *, backwards: bool = False, dies_after: int = 1000) -> None:
        self.backwards, self.left = backwards, dies_after
        self.did: list[int] = []

    def run(self, tasks: Sequence[Task], done: Sequence[Finished]) -> Iterator[Finished]:
        missing = [task for task in tasks if task.index not in {one.index for one in done}]
        for task in reversed(missing) if self.backwards else missing:
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
            self.did.append(task.index)
            yield result(task, asked={"leak kind": ""}, shown={"leak kind": task.folder.name})

    def again(self, task: Task, known: Mapping[str, str]) -> Finished:
        self.did.append(task.index)
        asked = {"leak kind": known.get("leak kind", "")}
        return result(task, asked=asked, shown={} if asked["leak kind"] else {"leak kind": task.folder.name})


def run(folders: list[Path], crew: Pretending, of: Order | None = None) -> list[Report]:
    wanted = of or order()
    return list(fleet(folders, order=wanted, crew=crew, journal=Journal(wanted)))


def test_an_order_and_a_result_survive_the_journey(folders: list[Path]) -> None:
    sent = order(base="org/base@v1", device="cuda")
    assert Order.load(sent.dump()) == sent
    more = Order(settings=Settings(engines=("vllm",)), policy=sent.policy, today=sent.today)
    assert Order.load(more.dump()) == more
    found = result(Task(index=1, folder=folders[1]), asked={"é": "ü"})
    assert Finished.load(found.dump()) == found


@pytest.mark.parametrize(
    "damage",
    [
        {"index": "0"}, {"report": []}, {"report": {"format": 1}}, {"asked": {"k": 1}}, {"shown": []},
        {"more": 1},
    ],
)  # fmt: skip
def test_a_damaged_result_is_none(folders: list[Path], damage: dict[str, object]) -> None:
    whole = json.loads(result(Task(index=0, folder=folders[0])).dump())
    for text in (json.dumps(whole | damage), json.dumps(whole)[:-1], "[]", "[" * 100_000):
        with pytest.raises(SpecError):
            Finished.load(text)


def test_reports_come_in_the_order_of_one_process_whoever_is_first(folders: list[Path]) -> None:
    crew = Pretending(backwards=True)
    reports = run(folders, crew)
    assert [Path(report.subject).name for report in reports] == [folder.name for folder in folders]
    assert crew.did[:6] == [5, 4, 3, 2, 1, 0]


def test_who_did_not_know_what_one_process_would_have_known_is_run_again(folders: list[Path]) -> None:
    crew = Pretending()
    run(folders, crew)
    assert crew.did == [0, 1, 2, 3, 4, 5, 1, 2, 3, 4, 5]  # all showed it themselves, and one would have


def test_a_merge_takes_what_was_known_and_refuses_the_rest(folders: list[Path]) -> None:
    merge, task = Merge(), Task(index=0, folder=folders[0])
    assert merge.take(result(task, asked={"k": ""}, shown={"k": "a"}))
    assert merge.take(result(task, asked={"k": "a"}))
    assert not merge.take(result(task, asked={"k": ""}))
    assert not merge.take(result(task, asked={"k": "b"}))
    assert merge.take(result(task, asked={"other": ""}))
    assert merge.shown == {"k": "a"}


def test_a_killed_run_goes_on_where_it_was(folders: list[Path]) -> None:
    killed, wanted = Pretending(dies_after=4), order()
    with pytest.raises(KeyboardInterrupt):
        run(folders, killed)
    second = Pretending()
    assert len(run(folders, second)) == 6
    assert second.did[:2] == [4, 5]
    assert not Journal(wanted).folder.exists()
    third = Pretending()
    run(folders, third)  # a complete run leaves nothing behind
    assert third.did[:6] == [0, 1, 2, 3, 4, 5]


def test_only_the_same_question_is_answered_from_the_journal(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folders, Pretending(dies_after=4))
    (folders[0] / "README.md").write_text("another card")
    journal, todo = Journal(order()), tasks(folders, order().settings)
    assert sorted(journal.read(todo)) == [1, 2, 3]
    assert Journal(order(dtype="bfloat16")).read(todo) == {}
    assert Journal(order(), where="jobs:l4x1").read(todo) == {}
    for kept in journal.folder.glob("*.json"):
        if json.loads(kept.read_text())["index"] == 2:
            kept.write_text(kept.read_text()[:-9])
    assert sorted(journal.read(todo)) == [1, 3]
    monkeypatch.chdir(tmp_path)
    assert Journal(order()).read(todo) == {}


def test_another_sample_or_base_is_another_question(folders: list[Path], tmp_path: Path) -> None:
    data, base = tmp_path / "eval.jsonl", tmp_path / "base"
    data.write_text("{}")
    base.mkdir()
    (base / "model.safetensors").write_bytes(b"weights")
    suite = Suite(name="one", data=str(data), sha256="0" * 64)
    wanted = Order(settings=Settings(), policy=Policy(suites=[suite]), today=TODAY)
    task = Task(index=0, folder=folders[0], base=str(base))  # as the adapter names it, without --base
    Journal(wanted).put(task, result(task))
    assert sorted(Journal(wanted).read([task])) == [0]
    (base / "model.safetensors").write_bytes(b"other weights")
    assert Journal(wanted).read([task]) == {}
    (base / "model.safetensors").write_bytes(b"weights")
    Journal(wanted).put(task, result(task))
    assert sorted(Journal(wanted).read([task])) == [0]
    data.write_text("{ }")
    assert Journal(wanted).read([task]) == {}


def test_what_changed_while_it_was_checked_is_not_kept(folders: list[Path]) -> None:
    journal, (task, other, *_) = Journal(order()), tasks(folders, order().settings)
    journal.read([task, other])
    (task.folder / "README.md").write_text("another card, and nobody knows which was checked")
    for one in (task, other):
        journal.put(one, result(one))
    assert sorted(journal.read([task, other])) == [other.index]


def test_what_was_lost_is_not_kept(folders: list[Path]) -> None:
    journal, (task, *_) = Journal(order()), tasks(folders, order().settings)
    journal.put(task, lost(task, "three workers died"))
    assert journal.read([task]) == {}
    assert lost(task, "three workers died").read().exit_code == 3


def test_journals_of_long_ago_are_forgotten(folders: list[Path], cache: Path) -> None:
    old, recent = cache / "fleets" / "old", cache / "fleets" / "recent"
    for folder in (old, recent):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    task = tasks(folders, order().settings)[0]
    Journal(order()).put(task, result(task))
    assert recent.is_dir()
    assert not old.exists()


def test_the_first_of_a_kind_goes_alone_and_the_others_know_what_it_showed(folders: list[Path]) -> None:
    todo = tasks(folders, order().settings)
    assert len({task.group for task in todo}) == 1
    schedule = Schedule(todo)
    first = schedule.take()
    assert first == (todo[0], {})
    assert schedule.take() is None  # a second worker waits
    schedule.finished(todo[0], result(todo[0], asked={"k": ""}, shown={"k": "adapter-0"}))
    assert schedule.take() == (todo[1], {"k": "adapter-0"})
    assert schedule.take() == (todo[2], {"k": "adapter-0"})
    assert schedule.died(todo[1])
    assert schedule.take() == (todo[1], {"k": "adapter-0"})


def test_where_nothing_can_be_shown_some_are_tried_and_then_all_go(folders: list[Path]) -> None:
    todo = tasks(folders, order().settings)
    schedule = Schedule(todo)
    for task in todo[:LEADERS]:
        assert schedule.take() == (task, {})
        assert schedule.take() is None
        schedule.finished(task, result(task, asked={"k": ""}))
    assert schedule.take() == (todo[3], {})
    assert schedule.take() == (todo[4], {})


def test_adapters_whose_files_cannot_be_read_wait_for_nobody(folders: list[Path]) -> None:
    for folder in folders:
        (folder / "adapter_config.json").write_text("{")
    schedule = Schedule(tasks(folders, order().settings))
    assert [schedule.take() is not None for _ in range(7)] == [True] * 6 + [False]


def test_a_worker_stays_with_its_base(folders: list[Path]) -> None:
    todo = [Task(index=i, folder=folder, base="ab"[i % 2], group=str(i)) for i, folder in enumerate(folders)]
    schedule = Schedule(todo)
    taken = [chosen[0].base for _ in range(3) if (chosen := schedule.take("b"))]
    assert taken == ["b", "b", "b"]
    other = schedule.take("b")
    assert other is not None
    assert other[0].base == "a"  # and goes on with another when there is none left


def test_an_adapter_that_kills_its_workers_is_given_up(folders: list[Path]) -> None:
    (task,) = tasks(folders[:1], order().settings)
    schedule = Schedule([task])
    assert [schedule.died(task) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(
    ("text", "repo", "paths"),
    [
        ("slurm", "", 1),
        ("jobs", "org/library", 1),
        ("jobs:l4x1", "", 1),
        ("jobs:l4x1", "org/library", 2),
        ("ray", "org/library", 1),
    ],
)
def test_places_that_are_none(text: str, repo: str, paths: int) -> None:
    with pytest.raises(UsageError):
        Place.parse(text, repo=repo, paths=[Path(str(n)) for n in range(paths)])
    with pytest.raises(UsageError, match="--image"):
        Place.parse("ray", image="an/image")


def test_places() -> None:
    assert Place.parse("", workers=3) == Place(kind="ray", workers=3)
    assert Place.parse("ray:10.0.0.1:6379").detail == "10.0.0.1:6379"
    jobs = Place.parse("jobs:l4x1", repo="org/library@v1", paths=[Path("lib")])
    assert (jobs.detail, jobs.repo, jobs.root) == ("l4x1", "org/library@v1", Path("lib"))


def test_a_copy_elsewhere_is_another_subject(folders: list[Path], tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(folders, Pretending(dies_after=4))
    shutil.copytree(folders[0].parent, tmp_path / "copy")
    copies = [tmp_path / "copy" / folder.name for folder in folders]
    assert Journal(order()).read(tasks(copies, order().settings)) == {}
