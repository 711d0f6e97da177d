"""A sample of release-1: real commands, whose requests go wrong; and that its checks see what is wrong."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from tests.benchmarks.publish_faults import (
    FAULTS,
    FLOWS,
    ON_READING,
    check_words,
    flow_targets,
    plan,
    run_with,
)
from tests.benchmarks.publish_targets import HubTarget, Tally

Prepared = Callable[[str], HubTarget]


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    with flow_targets(tmp_path_factory.mktemp("faults")) as prepared:
        yield prepared


@pytest.mark.slow
@pytest.mark.parametrize("name", list(FLOWS))
def test_the_commit_failed_in_every_way_is_taken_up_again(flow: Prepared, name: str) -> None:
    target = flow(name)
    target.reset()
    target.hub.requests.clear()
    assert target.spawner.run(*target.arguments(target.releases.new)) == 0
    numbers = [number for number, one in enumerate(target.hub.requests) if "/commit/main" in one.path]
    for fault in FAULTS:
        assert run_with(target, f"{name}, {fault}", numbers[0], fault)["problems"] == []


@pytest.mark.slow
def test_control_the_checks_see_what_is_wrong(flow: Prepared) -> None:
    target = flow("straight")
    target.reset()
    target.hub.requests.clear()
    store, tally = target.hub.store, Tally()
    check_words(target, tally, "no release", 0, "")
    check_words(target, tally, "nothing said", 3, "cannot")
    check_words(target, tally, "untrue", 3, "v0.2.0 is published and verified")
    check_words(target, tally, "a token", 3, "nothing was written hf_abcdefgh")
    assert [one.partition(":")[0] for one in tally.problems] == [
        "no release",
        "nothing said",
        "untrue",
        "a token",
    ]
    tally = Tally()
    head = store.commit(target.place.repo, {"zoo.yaml": b"name: other\n"})
    store.repository(target.place.repo).refs["refs/tags/v0.1.0"] = head
    target.check(tally, "broken", 3)
    assert any("mixture" in one for one in tally.problems)
    assert any("the old tag moved" in one for one in tally.problems)


def test_every_writing_request_gets_every_fault_and_reads_what_a_reader_notices() -> None:
    requests = [
        SimpleNamespace(method="GET", path="/api/models/org/a", write=False),
        SimpleNamespace(method="POST", path="/api/models/org/a/commit/main", write=True),
        SimpleNamespace(method="GET", path="/org/a/resolve/main/x", write=False),
        SimpleNamespace(method="GET", path="/org/a/resolve/main/y", write=False),
    ]
    planned = dict(plan(requests, everything=False, writes_only=False))
    assert planned == {0: ON_READING, 1: tuple(FAULTS), 2: ON_READING}
    assert dict(plan(requests, everything=False, writes_only=True)) == {1: tuple(FAULTS)}
    assert dict(plan(requests, everything=True, writes_only=True)) == dict.fromkeys(range(4), tuple(FAULTS))
