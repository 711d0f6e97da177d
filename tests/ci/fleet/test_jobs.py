"""A library gated by Jobs, through the real client, on the Hub double."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ci.fleet.conftest import order, result
from tests.hub.job import BrokenError, Job
from tests.hub.server import HubServer
from tests.hub.this_process import connect
from zoo.ci.fleet import on_jobs
from zoo.ci.fleet.journal import Journal
from zoo.ci.fleet.run import fleet
from zoo.ci.fleet.shard import BEGUN, LIBRARY, ORDER, PART, lines_of, pack, read, unpack
from zoo.ci.fleet.task import Task
from zoo.errors import NotFoundError, SpecError, UndecidedError, UsageError
from zoo.hub import jobs
from zoo.report import Report, Skipped

Machine = Callable[[Job], Iterator[str]]


@pytest.fixture
def hub(folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A Hub with the library on it, whose machines have nothing to compute with yet."""
    monkeypatch.setattr(on_jobs, "POLL_SECONDS", 0.02)
    jobs._namespace.cache_clear()
    with HubServer() as server:
        connect(server, tmp_path / "home", monkeypatch)
        server.store.create("org/library")
        library = folders[0].parent
        files = {p.relative_to(library).as_posix(): p.read_bytes() for p in library.rglob("*") if p.is_file()}
        server.store.commit("org/library", dict(files))
        server.store.machine = machine(folders)
        yield server
    jobs._namespace.cache_clear()


def machine(folders: list[Path], *, dies_on: str = "", times: int = 1000) -> Machine:
    """A machine that finds an adapter in order, and breaks off at one of them so often."""
    left = [times]

    def run(job: Job) -> Iterator[str]:
        for index, place in shard_of(job)["adapters"]:
            yield f"{BEGUN} {index}"
            if place == dies_on and left[0]:
                left[0] -= 1
                raise BrokenError("OOMKilled")
            found = result(Task(index=index, folder=folders[0].parent / place))
            yield from lines_of(found)

    return run


def shard_of(job: Job) -> dict[str, Any]:
    import json

    content: dict[str, Any] = json.loads(unpack(job.spec["environment"][ORDER]))
    return content


def gate(folders: list[Path], *, workers: int = 2, repo: str = "org/library") -> list[Report]:
    target = on_jobs.Target(flavour="l4x1", repo=repo, root=folders[0].parent, workers=workers)
    journal = Journal(order())
    with on_jobs.jobs_crew(order(), at=target, folders=folders, journal=journal) as crew:
        return list(fleet(folders, order=order(), crew=crew, journal=journal))


def places(job: Job) -> list[str]:
    return [place for _, place in shard_of(job)["adapters"]]


def test_every_shard_is_a_job_that_mounts_the_library_at_its_commit(
    hub: HubServer, folders: list[Path]
) -> None:
    reports = gate(folders)
    assert [report.subject for report in reports] == [str(folder) for folder in folders]
    assert all(report.exit_code == 0 for report in reports)
    first, second = hub.store.jobs.values()
    assert places(first) + places(second) == [folder.name for folder in folders]
    commit = hub.store.head("org/library")
    mount = {"type": "model", "source": "org/library", "mountPath": "/library", "revision": commit}
    assert first.spec["volumes"] == [mount]
    assert first.spec["flavor"] == "l4x1"
    assert first.spec["timeoutSeconds"] == on_jobs.SECONDS + 3 * on_jobs.SECONDS_EACH
    assert first.spec["environment"][LIBRARY] == "/library"
    assert first.spec["command"][-3:] == ["python", "-m", "zoo.ci.fleet.shard"]


def test_the_token_is_a_secret_and_nothing_else(hub: HubServer, folders: list[Path]) -> None:
    gate(folders)
    for job in hub.store.jobs.values():
        assert job.spec.pop("secrets") == {"HF_TOKEN": hub.token}
        assert hub.token not in repr(job.spec)
        assert hub.token not in unpack(job.spec["environment"][ORDER])


def test_what_a_broken_job_left_is_done_by_another(hub: HubServer, folders: list[Path]) -> None:
    hub.store.machine = machine(folders, dies_on="adapter-4", times=2)
    assert len(gate(folders)) == 6
    assert [places(job) for job in hub.store.jobs.values()] == [
        ["adapter-0", "adapter-1", "adapter-2"],
        ["adapter-3", "adapter-4", "adapter-5"],
        ["adapter-4", "adapter-5"],
        ["adapter-4", "adapter-5"],
    ]


def test_an_adapter_on_which_jobs_end_is_undecided_and_the_others_are_not(
    hub: HubServer, folders: list[Path]
) -> None:
    hub.store.machine = machine(folders, dies_on="adapter-4")
    reports = {Path(report.subject).name: report for report in gate(folders)}
    assert {name for name, report in reports.items() if report.exit_code} == {"adapter-4"}
    bad = reports["adapter-4"]
    assert (bad.exit_code, bad.results[0].code) == (3, "ZG012")
    assert isinstance(bad.results[0].outcome, Skipped)
    assert "OOMKilled" in bad.results[0].outcome.reason


def test_jobs_that_never_begin_end_the_run(hub: HubServer, folders: list[Path]) -> None:
    def broken(job: Job) -> Iterator[str]:
        raise BrokenError("ImagePullBackOff")
        yield ""

    hub.store.machine = broken
    with pytest.raises(UndecidedError, match="ImagePullBackOff"):
        gate(folders)
    assert len(hub.store.jobs) <= 4


def test_a_job_that_gives_up_says_why_and_the_others_are_stopped(hub: HubServer, folders: list[Path]) -> None:
    import threading

    release = threading.Event()

    def refusing(job: Job) -> Iterator[str]:
        if "adapter-0" in places(job):
            yield f"zoo-refused {pack('the base model org/base cannot be had')}"
            raise BrokenError("exit 3")
        release.wait(10)

    hub.store.machine = refusing
    with pytest.raises(UndecidedError, match="org/base cannot be had"):
        gate(folders)
    assert [job.stage for job in hub.store.jobs.values()] == ["ERROR", "CANCELED"]
    release.set()


def test_what_a_job_found_before_it_gave_up_is_kept(hub: HubServer, folders: list[Path]) -> None:
    """It is paid for."""
    whole = machine(folders)

    def refusing(job: Job) -> Iterator[str]:
        lines = list(whole(job))
        yield from lines[: lines.index(f"{BEGUN} 2")]
        yield f"zoo-refused {pack('the disk is full')}"
        raise BrokenError("exit 3")

    hub.store.machine = refusing
    with pytest.raises(UndecidedError, match="the disk is full"):
        gate(folders, workers=1)
    from zoo.ci.fleet.task import tasks

    assert sorted(Journal(order()).read(tasks(folders, order().settings))) == [0, 1]


def test_the_image_is_the_one_that_is_named(hub: HubServer, folders: list[Path]) -> None:
    from zoo.ci.fleet.place import Place, gate_at

    image = f"example.org/uv@sha256:{'0' * 64}"
    place = Place.parse("jobs:l4x1", repo="org/library", image=image, paths=[folders[0].parent])
    list(gate_at(place, folders, policy=order().policy, settings=order().settings))
    gate(folders)
    assert {job.spec["dockerImage"] for job in hub.store.jobs.values()} == {image, on_jobs.IMAGE}


def test_a_log_that_was_cut_is_not_believed(hub: HubServer, folders: list[Path]) -> None:
    whole, cut = machine(folders), [True]

    def cutting(job: Job) -> Iterator[str]:
        for line in whole(job):
            if line.startswith(f"{PART} 1 ") and cut[0]:
                cut[0] = False
                line = line[:-8]
            yield line

    hub.store.machine = cutting
    assert len(gate(folders)) == 6
    assert [places(job) for job in hub.store.jobs.values()][2:] == [["adapter-1"]]


def test_another_state_of_the_library_is_no_verdict_on_this_one(hub: HubServer, folders: list[Path]) -> None:
    (folders[2] / "extra.txt").write_text("not pushed")
    found = result(Task(index=2, folder=folders[2]))
    (folders[2] / "extra.txt").write_text("changed again")

    def stale(job: Job) -> Iterator[str]:
        for index, place in shard_of(job)["adapters"]:
            yield f"{BEGUN} {index}"
            yield from lines_of(
                found if index == 2 else result(Task(index=index, folder=folders[0].parent / place))
            )

    hub.store.machine = stale
    with pytest.raises(UndecidedError, match="holds other files of adapter-2"):
        gate(folders)


def test_a_run_that_was_killed_takes_over_the_jobs_that_went_on(hub: HubServer, folders: list[Path]) -> None:
    target = on_jobs.Target(flavour="l4x1", repo="org/library", root=folders[0].parent, workers=2)
    mount = jobs.Mount(repo="org/library", commit=hub.store.head("org/library"), path="/library")
    killed = on_jobs.JobsCrew(order(), at=target, mount=mount, journal=Journal(order()))
    from zoo.ci.fleet.task import tasks

    todo = tasks(folders, order().settings)
    killed._start(todo[:3])  # and then nothing: it is gone
    assert len(gate(folders)) == 6
    assert [len(places(job)) for job in hub.store.jobs.values()] == [3, 1, 2]
    assert not Journal(order()).folder.exists()


def test_what_no_job_could_see_is_refused_before_one_is_paid_for(
    hub: HubServer, folders: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="org/nothing"):
        gate(folders, repo="org/nothing")
    with pytest.raises(UsageError, match="no repository"):
        gate(folders, repo="library")
    target = on_jobs.Target(flavour="l4x1", repo="org/library", root=folders[0])
    with (
        pytest.raises(UsageError, match="lies outside"),
        on_jobs.jobs_crew(order(), at=target, folders=folders, journal=Journal(order())),
    ):
        pass
    assert not hub.store.jobs


def test_lines_of_a_log_are_bounded_and_damage_is_seen(folders: list[Path]) -> None:
    found = result(Task(index=3, folder=folders[3]))
    lines = list(lines_of(found))
    assert max(map(len, lines)) < 5000
    assert read(["noise", *lines, f"{BEGUN} 4"]).finished == {3: found}
    assert read([*lines, f"{BEGUN} 4"]).begun == [4]
    assert read([line.replace(f"{PART} 3 1/", f"{PART} 3 2/") for line in lines]).finished == {}
    assert read([line[:-1] + "!" for line in lines]).finished == {}
    with pytest.raises(SpecError):
        unpack(pack("x" * (33 << 20)))
