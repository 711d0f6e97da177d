"""`zoo publish` killed at every request and every file-system step; the benchmark has real checks."""

from collections.abc import Iterator

import pytest

from tests.benchmarks.publish_kill import kill_at_requests, kill_at_steps
from tests.benchmarks.publish_targets import FolderTarget, HubTarget, Tally, targets


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubTarget, FolderTarget]]:
    with targets(tmp_path_factory.mktemp("kill"), checked=False) as found:
        yield found


@pytest.mark.slow
def test_the_hub_has_the_old_release_or_the_new_one(both: tuple[HubTarget, FolderTarget]) -> None:
    tally = Tally()
    requests = kill_at_requests(both[0], tally, lambda _: True)
    assert tally.problems == []
    assert tally.killed == tally.runs == 2 * requests
    assert tally.left_old > 10
    assert tally.left_new > 10


@pytest.mark.slow
def test_the_folder_has_the_old_release_or_the_new_one(both: tuple[HubTarget, FolderTarget]) -> None:
    tally = Tally()
    steps = kill_at_steps(both[1], tally, lambda _: True)
    assert tally.problems == []
    assert tally.killed == tally.runs == steps
    assert tally.left_old > 10
    assert tally.left_new > 0  # after the exchange, while the old one is removed
