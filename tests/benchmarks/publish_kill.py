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
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.publish_targets import FolderTarget, HubTarget, Tally, targets


def kill_at_requests(target: HubTarget, tally: Tally, only: Callable[[int], bool]) -> int:
    """Kills the client at every request, before and after the Hub acts on it; returns their number."""
    from tests.hub.faults import Fault

    target.reset()
    target.hub.requests.clear()
    assert target.spawner.run(*target.arguments(target.releases.new)) == 0
    total = len(target.hub.requests)
    for number in range(total):
        for moment in ("before", "after"):
            if not only(number):
                continue
            target.reset()
            pid: list[int] = []
            known = threading.Event()

            def kill(_: object, pid: list[int] = pid, known: threading.Event = known) -> None:
                known.wait()
                os.kill(pid[0], signal.SIGKILL)

            acted = {"meanwhile": kill} if moment == "before" else {"afterwards": kill}
            target.hub.faults.add(Fault(skip=number, drop=moment, **acted))  # type: ignore[arg-type]

            def started(process: int, pid: list[int] = pid, known: threading.Event = known) -> None:
                pid.append(process)
                known.set()

            code = target.spawner.run(*target.arguments(target.releases.new), started=started)
            target.check(tally, f"hub, {moment} request {number + 1} of {total}", code)
    return total


def kill_at_steps(target: FolderTarget, tally: Tally, only: Callable[[int], bool]) -> int:
    """Kills the process before every step in the file system; returns their number."""
    target.reset()
    counted = target.work / "count"
    assert target.spawner.run(*target.arguments(target.releases.new), count_to=counted) == 0
    total = int(counted.read_text())
    for number in range(total):
        if not only(number):
            continue
        target.reset()
        code = target.spawner.run(*target.arguments(target.releases.new), step=number)
        target.check(tally, f"folder, before step {number + 1} of {total}", code)
    return total


def kill_at_times(target: HubTarget | FolderTarget, tally: Tally, count: int, seed: int) -> None:
    """Kills the client at random times."""
    chance = random.Random(seed)
    target.reset()
    begin = time.perf_counter()
    assert target.spawner.run(*target.arguments(target.releases.new)) == 0
    length = time.perf_counter() - begin
    for _ in range(count):
        target.reset()
        moment = chance.uniform(0, length)
        code = target.spawner.run(*target.arguments(target.releases.new), started=killer(moment))
        target.check(tally, f"{type(target).__name__}, after {moment:.3f} s", code)


def killer(seconds: float) -> Callable[[int], threading.Timer]:
    """Starts a timer that kills a process."""

    def start(pid: int) -> threading.Timer:
        timer = threading.Timer(seconds, os.kill, (pid, signal.SIGKILL))
        timer.start()
        return timer

    return start


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
        requests = kill_at_requests(on_hub, tally, lambda _: True)
        print(f"{requests} requests: {tally.runs} kills, {len(tally.problems)} problems", flush=True)
        steps = kill_at_steps(in_folder, tally, lambda _: True)
        print(f"{steps} steps: {tally.runs} kills so far, {len(tally.problems)} problems", flush=True)
        kill_at_times(on_hub, tally, options.times, options.seed)
        kill_at_times(in_folder, tally, options.times, options.seed + 1)
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
