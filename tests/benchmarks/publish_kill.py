"""main-5: `zoo publish` killed (SIGKILL) at any moment leaves the old release or the new one.

    python -m tests.benchmarks.publish_kill

Release 0.1.0 is published, then 0.2.0 again and again, each time killed at another moment: at every request
that the Hub receives, before and after it is acted on; at every step in the file system; and at random
times. After each kill the Hub's `main` and tags, or the folder, must be one whole release, and the same
command run once more must complete the new one with a single commit.

The killed processes are real ones that run the command line. They are forked from a process that has
imported torch and the client already, because 300 cold starts would take an hour.
"""

import argparse
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.publishing.spawner import Spawner, spawner

REPO = "org/relevance"
ROOT = Path(__file__).resolve().parents[2]
State = Literal["old", "new", "nothing", "mixture"]


# ---------------------------------------------------------------- what there is, and whether it is whole


@dataclass
class Releases:
    """The two releases, and how to tell what a folder holds."""

    old: Path
    new: Path
    base: Path

    def state(self, folder: Path, hub_id: str) -> tuple[State, str]:
        """Which release a folder is, entirely; `mixture` with the reason when it is neither."""
        from zoo.adapter import AdapterRepo
        from zoo.cards.card import recorded_report, render_card
        from zoo.errors import ZooError
        from zoo.provenance import payload_digests

        if not folder.exists() or not any(folder.iterdir()):
            return "nothing", ""
        present = payload_digests(folder)
        found: State = "mixture"
        for name, source in (("old", self.old), ("new", self.new)):
            if present == payload_digests(source):
                found = "old" if name == "old" else "new"
        if found == "mixture":
            return found, f"payload is neither's: {sorted(present)}"
        try:
            repo = AdapterRepo.open(folder)
            if repo.lock is None or repo.lock.files != present:
                return "mixture", "the lock belongs to other files"
            card = render_card(repo, recorded_report(repo), hub_id=hub_id)
        except ZooError as error:
            return "mixture", str(error)
        if (folder / "README.md").read_text() != card:
            return "mixture", "the card belongs to other files"
        return found, ""


@dataclass
class Tally:
    """What happened, counted."""

    runs: int = 0
    killed: int = 0
    left_old: int = 0
    left_new: int = 0
    problems: list[str] = field(default_factory=list)

    def note(self, where: str, code: int, state: State, reason: str) -> None:
        """Counts one run and what it left."""
        self.runs += 1
        self.killed += code == -signal.SIGKILL
        self.left_old += state == "old"
        self.left_new += state == "new"
        if state not in ("old", "new"):
            self.problems.append(f"{where}: {state}: {reason}")

    def require(self, where: str, holds: bool, what: str) -> None:
        """Notes a problem unless something holds."""
        if not holds:
            self.problems.append(f"{where}: {what}")


# ---------------------------------------------------------------- the Hub


@dataclass
class HubTarget:
    """A repository with the old release, put back before each run."""

    hub: Any
    spawner: Spawner
    releases: Releases
    work: Path
    refs: dict[str, str] = field(default_factory=dict)

    def arguments(self, release: Path) -> list[object]:
        """The command line that publishes a release here."""
        return ["publish", release, "--repo", REPO, "--base", self.releases.base, "--quiet"]

    def prepare(self) -> None:
        """Publishes the old release and remembers the references."""
        assert self.spawner.run(*self.arguments(self.releases.old)) == 0, (self.work / "log").read_text()
        self.refs = dict(self.hub.store.repository(REPO).refs)

    def reset(self) -> None:
        """Makes the repository what it was after the old release, the new weights not yet uploaded."""
        from zoo.provenance import sha256_file

        self.hub.faults.clear()
        weights = sha256_file(self.releases.new / "adapter_model.safetensors")
        self.hub.store.blobs.path(weights).unlink(missing_ok=True)
        repository = self.hub.store.repository(REPO)
        repository.refs.clear()
        repository.refs.update(self.refs)

    def state(self, revision: str) -> tuple[State, str]:
        """What a revision holds."""
        folder = Path(tempfile.mkdtemp(dir=self.work))
        for name, content in self.hub.store.contents(REPO, revision).items():
            if name != ".gitattributes":
                (folder / name).write_bytes(content)
        try:
            return self.releases.state(folder, REPO)
        finally:
            shutil.rmtree(folder)

    def check(self, tally: Tally, where: str, code: int) -> None:
        """Checks main and tags after a kill, then that one more run completes the release."""
        store = self.hub.store
        self.hub.faults.clear()
        state, reason = self.state("main")
        tally.note(where, code, state, reason)
        tags = store.tags(REPO)
        tally.require(where, tags.get("v0.1.0") == self.refs["refs/tags/v0.1.0"], "the old tag moved")
        if "v0.2.0" in tags:
            tally.require(where, self.state("v0.2.0")[0] == "new", "the new tag names something else")
        again = self.spawner.run(*self.arguments(self.releases.new))
        tally.require(where, again == 0, f"the second run ended with {again}")
        tally.require(where, self.state("main")[0] == "new", "the second run did not complete it")
        head = store.head(REPO)
        tally.require(where, store.tags(REPO).get("v0.2.0") == head, "the tag is not at the head")
        parent = store.repository(REPO).resolve("main").parent
        tally.require(where, parent == self.refs["refs/heads/main"], "there is more than one new commit")

    def kill_at_requests(self, tally: Tally, only: Callable[[int], bool]) -> int:
        """Kills the client at every request, before and after the Hub acts on it; returns their number."""
        from tests.hub.faults import Fault

        self.reset()
        self.hub.requests.clear()
        assert self.spawner.run(*self.arguments(self.releases.new)) == 0
        total = len(self.hub.requests)
        for number in range(total):
            for moment in ("before", "after"):
                if not only(number):
                    continue
                self.reset()
                pid: list[int] = []
                known = threading.Event()

                def kill(_: object, pid: list[int] = pid, known: threading.Event = known) -> None:
                    known.wait()
                    os.kill(pid[0], signal.SIGKILL)

                acted = {"meanwhile": kill} if moment == "before" else {"afterwards": kill}
                self.hub.faults.add(Fault(skip=number, drop=moment, **acted))  # type: ignore[arg-type]

                def started(process: int, pid: list[int] = pid, known: threading.Event = known) -> None:
                    pid.append(process)
                    known.set()

                code = self.spawner.run(*self.arguments(self.releases.new), started=started)
                self.check(tally, f"hub, {moment} request {number + 1} of {total}", code)
        return total

    def kill_at_times(self, tally: Tally, count: int, seed: int) -> None:
        """Kills the client at random times."""
        chance = random.Random(seed)
        self.reset()
        begin = time.perf_counter()
        assert self.spawner.run(*self.arguments(self.releases.new)) == 0
        length = time.perf_counter() - begin
        for _ in range(count):
            self.reset()
            moment = chance.uniform(0, length)
            code = self.spawner.run(*self.arguments(self.releases.new), started=killer(moment))
            self.check(tally, f"hub, after {moment:.3f} s", code)


# ---------------------------------------------------------------- a local folder


@dataclass
class FolderTarget:
    """A folder with the old release, put back before each run."""

    spawner: Spawner
    releases: Releases
    work: Path

    @property
    def target(self) -> Path:
        """The folder."""
        return self.work / "shelf" / "relevance"

    def arguments(self, release: Path) -> list[object]:
        """The command line that publishes a release here."""
        return ["publish", release, "--to", self.target, "--base", self.releases.base, "--quiet"]

    def prepare(self) -> None:
        """Publishes the old release and keeps a copy."""
        assert self.spawner.run(*self.arguments(self.releases.old)) == 0, (self.work / "log").read_text()
        shutil.copytree(self.target, self.work / "kept")

    def reset(self) -> None:
        """Makes the folder what it was after the old release; leftovers of killed runs stay."""
        shutil.rmtree(self.target, ignore_errors=True)
        shutil.copytree(self.work / "kept", self.target)

    def check(self, tally: Tally, where: str, code: int) -> None:
        """Checks the folder after a kill, then that one more run completes the release and cleans up."""
        state, reason = self.releases.state(self.target, "")
        tally.note(where, code, state, reason)
        again = self.spawner.run(*self.arguments(self.releases.new))
        tally.require(where, again == 0, f"the second run ended with {again}")
        tally.require(where, self.releases.state(self.target, "")[0] == "new", "it was not completed")
        rest = [path.name for path in self.target.parent.iterdir() if path != self.target]
        tally.require(where, not rest or state == "new", f"leftovers: {rest}")

    def kill_at_steps(self, tally: Tally, only: Callable[[int], bool]) -> int:
        """Kills the process before every step in the file system; returns their number."""
        self.reset()
        counted = self.work / "count"
        assert self.spawner.run(*self.arguments(self.releases.new), count_to=counted) == 0
        total = int(counted.read_text())
        for number in range(total):
            if not only(number):
                continue
            self.reset()
            code = self.spawner.run(*self.arguments(self.releases.new), step=number)
            self.check(tally, f"folder, before step {number + 1} of {total}", code)
        return total

    def kill_at_times(self, tally: Tally, count: int, seed: int) -> None:
        """Kills the process at random times."""
        chance = random.Random(seed)
        self.reset()
        begin = time.perf_counter()
        assert self.spawner.run(*self.arguments(self.releases.new)) == 0
        length = time.perf_counter() - begin
        for _ in range(count):
            self.reset()
            moment = chance.uniform(0, length)
            code = self.spawner.run(*self.arguments(self.releases.new), started=killer(moment))
            self.check(tally, f"folder, after {moment:.3f} s", code)


def killer(seconds: float) -> Callable[[int], threading.Timer]:
    """Starts a timer that kills a process."""

    def start(pid: int) -> threading.Timer:
        timer = threading.Timer(seconds, os.kill, (pid, signal.SIGKILL))
        timer.start()
        return timer

    return start


# ---------------------------------------------------------------- the figure


@contextmanager
def targets(work: Path, *, checked: bool = True) -> Iterator[tuple[HubTarget, FolderTarget]]:
    """A Hub and a folder that hold release 0.1.0."""
    from tests.hub.server import HubServer

    releases = Releases(work / "old", work / "new", work / "base")
    if checked:
        from tests.conftest import build_tiny_base
        from tests.real_release import real_release
        from zoo.models import resolve

        base = resolve(str(build_tiny_base(releases.base)))
        real_release(base, releases.old, version="0.1.0", seed=1)
        real_release(base, releases.new, version="0.2.0", seed=2)
    else:
        from tests.releases import write_release

        write_release(releases.old, version="0.1.0", seed=1)
        write_release(releases.new, version="0.2.0", seed=2)
    (releases.old / "LICENSE").write_text("the old release has a licence\n")
    (releases.new / "NOTES.md").write_text("the new release has notes\n")
    with (
        HubServer() as hub,
        spawner(work, hub.environment(work / "home", xet=False), checked=checked) as forks,
    ):
        on_hub = HubTarget(hub, forks, releases, work)
        in_folder = FolderTarget(forks, releases, work)
        on_hub.prepare()
        in_folder.prepare()
        control(on_hub, in_folder)
        yield on_hub, in_folder


def control(on_hub: HubTarget, in_folder: FolderTarget) -> None:
    """The checks must find a mixture when there is one."""
    for name in ("adapter_model.safetensors", "zoo.yaml", "LICENSE"):
        folder = in_folder.work / f"mixed-{name}"
        shutil.copytree(in_folder.target, folder)
        source = in_folder.releases.new / name
        (folder / name).write_bytes(source.read_bytes()) if source.exists() else (folder / name).unlink()
        assert in_folder.releases.state(folder, "")[0] == "mixture"
    assert in_folder.releases.state(in_folder.target, "") == ("old", "")
    assert in_folder.releases.state(in_folder.target, REPO)[0] == "mixture"  # a card of another place
    assert on_hub.state("main")[0] == "old"


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=25, help="random moments for each target")
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    from tests.benchmarks.evidence import record

    tally = Tally()
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="kill-") as name, targets(Path(name)) as (on_hub, in_folder):
        requests = on_hub.kill_at_requests(tally, lambda _: True)
        print(f"{requests} requests: {tally.runs} kills, {len(tally.problems)} problems", flush=True)
        steps = in_folder.kill_at_steps(tally, lambda _: True)
        print(f"{steps} steps: {tally.runs} kills so far, {len(tally.problems)} problems", flush=True)
        on_hub.kill_at_times(tally, options.times, options.seed)
        in_folder.kill_at_times(tally, options.times, options.seed + 1)
    print(*tally.problems, sep="\n")
    record(
        "main",
        "main-5",
        "zoo publish killed at every request, every file-system step and at random times: states that are "
        "neither the old nor the new release, moved tags, second runs that do not complete it",
        value={
            "runs": tally.runs,
            "killed": tally.killed,
            "left_old": tally.left_old,
            "left_new": tally.left_new,
            "requests": requests,
            "steps": steps,
            "problems": len(tally.problems),
        },
        bar="0 problems",
        met=not tally.problems and tally.killed > 0,
        ratio_of="the same command, not killed",
        command="python -m tests.benchmarks.publish_kill",
        note=f"{time.perf_counter() - begin:.0f} s; the processes are forked from one with torch imported",
    )


if __name__ == "__main__":
    main()
