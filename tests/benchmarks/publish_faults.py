"""release-1: every request of a publication failed in every way leaves whole releases, and reruns complete.

    python -m tests.benchmarks.publish_faults

Release 0.1.0 is published, then 0.2.0 again and again by the command line, each time with another fault at
another request: refused, told to wait, dropped before or after the Hub acted, answered in part, acted on
after the client has given up, done twice, the client killed. In four flows: straight, through a pull request,
into a repository that is not there yet and is to be gated, and into a folder of a library with a collection
and a superseded repository.

After each run `main` and all tags must be whole, what the command said of the state must be true, and the
same command must complete the release with one commit. The checks of the adapter are replaced by a report
that was made up: what is measured is the publication, and 1,000 real validations would take an hour.

A request that only reads cannot be half done: such requests get the faults that a reader notices, and of one
route (a download of many files) the first stands for all, unless `--all` is given. Several processes share
the work, since each of them waits most of the time; with `--journal FILE` it can be ended and gone on with.
"""

import argparse
import json
import os
import re
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.benchmarks.publish_targets import PLACE, HubTarget, Tally, targets
from tests.publishing.spawner import PATIENCE_SECONDS
from zoo.hub.address import Address

LIBRARY = Address(repo="org/library", folder="relevance/tiny-llama/alora")
OLD, SHELF = "org/relevance-old", "org/Adapters"
FLOWS: dict[str, dict[str, Any]] = {
    "straight": {},
    "pull request": {"options": ("--pr",)},
    "new repository": {
        "place": Address(repo="org/new"),
        "fresh": True,
        "options": ("--private", "--gated", "manual"),
    },
    "library": {"place": LIBRARY, "options": ("--collection", SHELF, "--supersedes", OLD)},
}
SHARED = ("new repository", "library")  # their reads are those of the first flow
LATE_SECONDS = 0.15
FAULTS: dict[str, dict[str, Any]] = {
    "refused": {"status": 403},
    "no room": {"status": 413},
    "down": {"status": 503},
    "busy": {"status": 429, "headers": {"Retry-After": "0"}},
    "dropped before": {"drop": "before"},
    "dropped after": {"drop": "after"},
    "cut": {"truncate": 10},
    "late": {"drop": "early", "delay": LATE_SECONDS},
    "slow": {"delay": PATIENCE_SECONDS + 0.5},
    "twice, first answer": {"twice": "first answer"},
    "twice, second answer": {"twice": "second answer"},
    "killed before": {"drop": "before"},
    "killed after": {"drop": "after"},
}
ON_READING = ("refused", "down", "dropped before", "cut", "killed before")
CLAIMS = (
    "nothing was written",
    "holds nothing of the release",
    "may have arrived",
    "nothing of this release",
    "main is as it was",
    "may be merged",
    "no tag may name it yet",
    "not compared to the end",
    "is published and verified",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A part of the work, for one process.

    Attributes:
        flow: which of `FLOWS`.
        faults: which of `FAULTS`.
        everything: every request with every fault.
        part: this job takes every `parts`-th failure, from this one on.
        parts: how many jobs share the flow.
        journal: a line of JSON for each run, by all jobs.
    """

    flow: str
    faults: tuple[str, ...]
    everything: bool
    part: int
    parts: int
    journal: Path


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--flow", action="append", choices=list(FLOWS), help="only this one; repeatable")
    parser.add_argument("--fault", action="append", choices=list(FAULTS), help="only this one; repeatable")
    parser.add_argument("--all", action="store_true", help="every request with every fault")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--journal", type=Path, help="runs noted there are not run again; kept")
    parser.add_argument("--record", action="store_true", help="record what the journal has; run nothing")
    options = parser.parse_args()
    if options.record:
        runs = [json.loads(line) for line in options.journal.read_text().splitlines()]
        record_runs(runs, 0, whole=True, note="; ended before all planned runs were done")
        return
    begin = time.perf_counter()
    flows, faults = options.flow or list(FLOWS), tuple(options.fault or FAULTS)
    parts = -(-options.processes // len(flows))
    with tempfile.TemporaryDirectory(prefix="journal-") as name:
        journal = options.journal or Path(name) / "runs.jsonl"
        journal.touch()
        jobs = [
            Job(flow=one, faults=faults, everything=options.all, part=part, parts=parts, journal=journal)
            for part in range(parts)
            for one in flows
        ]
        with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
            for done in as_completed([pool.submit(run_job, job) for job in jobs]):
                done.result()
        runs = [json.loads(line) for line in journal.read_text().splitlines()]
    whole = not options.flow and not options.fault
    record_runs(runs, time.perf_counter() - begin, whole=whole)


def record_runs(runs: list[dict[str, Any]], seconds: float, *, whole: bool, note: str = "") -> None:
    """Writes the figure; of a part of the flows and faults it is only printed."""
    from tests.benchmarks.evidence import record

    problems = [problem for run in runs for problem in run["problems"]]
    ended = Counter(f"{run['fault']}: {'killed' if run['code'] < 0 else run['code']}" for run in runs)
    value = {
        "runs": len(runs),
        "runs_by_flow": dict(Counter(run["flow"] for run in runs)),
        "requests_of_a_run": {run["flow"]: run["requests"] for run in runs},
        "first_run_ended": dict(sorted(ended.items())),
        "left_as_before": sum(run["left"] == "before" for run in runs),
        "left_new": sum(run["left"] == "new" for run in runs),
        "pull_requests_left_open": sum(run["open"] for run in runs),
        "problems": len(problems),
    }
    print(*problems, sep="\n")
    if not whole:
        print(value)
        return
    record(
        "release",
        "release-1",
        "zoo publish with every request failed in every way, in four flows: mixed states, lost or moved "
        "tags, untrue words about the state, reruns that do not complete it with one commit",
        value=value,
        bar=">= 300 runs, 0 problems",
        met=len(runs) >= 300 and not problems,
        ratio_of="the same commands without a fault",
        command="python -m tests.benchmarks.publish_faults",
        note=(f"{seconds:.0f} s; " if seconds else "")
        + "the adapter's checks are replaced by a made-up report, an answer is waited "
        f"for {PATIENCE_SECONDS} s instead of 300, pauses between attempts are shortened{note}",
    )


@contextmanager
def flow_targets(work: Path) -> Iterator[Callable[[str], HubTarget]]:
    """A Hub, and the targets of the flows on it; each is prepared when it is asked for."""
    with targets(work, checked=False) as (on_hub, _):
        store = on_hub.hub.store

        def prepared(name: str) -> HubTarget:
            if OLD not in [one.id for one in store.repositories()]:  # another flow's `reset` takes it away
                store.create(OLD)
                store.commit(OLD, {"README.md": b"---\nlicense: mit\n---\n# The one before\n"})
            target = replace(on_hub, **{"place": PLACE, **FLOWS[name]})
            if target.place != PLACE:
                target.prepare()
            return target

        yield prepared


def run_job(job: Job) -> None:
    """Fails the requests of one flow, or every `parts`-th of the failures, and notes what happened."""
    with tempfile.TemporaryDirectory(prefix="faults-") as name, flow_targets(Path(name)) as prepared:
        target = prepared(job.flow)
        target.reset()
        target.hub.requests.clear()
        assert target.spawner.run(*target.arguments(target.releases.new)) == 0, said(target, 0)
        requests = list(target.hub.requests)
        known = [json.loads(line) for line in job.journal.read_text().splitlines()]
        done = {(run["request"], run["fault"]) for run in known if run["flow"] == job.flow}
        planned = plan(requests, everything=job.everything, writes_only=job.flow in SHARED)
        failures = [(number, fault) for number, wanted in planned for fault in wanted if fault in job.faults]
        for number, fault in failures[job.part :: job.parts]:
            if (number, fault) in done:
                continue
            where = f"{job.flow}, {fault}, request {number + 1} of {len(requests)}: {requests[number]}"
            told = {"flow": job.flow, "fault": fault, "request": number, "requests": len(requests)}
            with job.journal.open("a") as journal:
                journal.write(json.dumps({**told, **run_with(target, where, number, fault)}) + "\n")


def plan(requests: list[Any], *, everything: bool, writes_only: bool) -> Iterator[tuple[int, Sequence[str]]]:
    """Which faults each request gets, by its number."""
    seen = set()
    for number, one in enumerate(requests):
        route = (one.method, re.sub(r"[0-9a-f]{40}|[^/]+$", "*", one.path))
        if everything or one.write:
            yield number, tuple(FAULTS)
        elif not writes_only and route not in seen:
            yield number, ON_READING
        seen.add(route)


def run_with(target: HubTarget, where: str, number: int, name: str) -> dict[str, Any]:
    """One run with one fault at one request, and everything that must hold afterwards; what happened."""
    from tests.hub.faults import Fault

    target.reset()
    target.hub.requests.clear()
    pid: list[int] = []
    known = threading.Event()

    def kill(_: object) -> None:
        known.wait()
        os.kill(pid[0], signal.SIGKILL)

    def started(process: int) -> None:
        pid.append(process)
        known.set()

    kills: dict[str, dict[str, Any]] = {
        "killed before": {"meanwhile": kill},
        "killed after": {"afterwards": kill},
    }
    hooks = kills.get(name, {})
    fault = target.hub.faults.add(Fault(skip=number, **FAULTS[name], **hooks))
    begin = (target.work / "log").stat().st_size
    code = target.spawner.run(*target.arguments(target.releases.new), started=started)
    if fault.fired:
        fault.ended.wait(10)
    tally = Tally()
    check_words(target, tally, where, code, said(target, begin))
    target.check(tally, where, code)
    check_beside(target, tally, where)
    proposed = target.hub.store.repository(target.place.repo).discussions if target.exists() else []
    return {
        "code": code,
        "left": "before" if tally.left_old else "new" if tally.left_new else "mixture",
        "open": sum(one.status == "open" for one in proposed),
        "problems": tally.problems,
    }


def check_words(target: HubTarget, tally: Tally, where: str, code: int, words: str) -> None:
    """What a run said of the state must be true of it, and its exit code be one that says no or not now."""
    if code < 0:
        return
    tally.require(where, code in (0, 1, 3), f"exit code {code}: {words[-300:]}")
    tally.require(where, "Traceback" not in words, f"a traceback: {words[-300:]}")
    tally.require(where, not re.search(r"hf_(?!hub)\w{4,}", words), "a token was printed")
    whole, tagged = target.state("main")[0] == "new", target.place.tag("0.2.0") in target.tags()
    if code == 0:
        tally.require(where, whole and tagged, "it said that all is well")
        return
    claims = [claim for claim in CLAIMS if claim in words]
    tally.require(where, len(claims) == 1, f"the state is not said: {words[-300:]}")
    match claims:
        case ["nothing was written"]:
            wrote = [one for one in target.hub.requests.writes() if one.handled and "commit" in one.path]
            tally.require(where, not whole and not tagged and not wrote, f"untrue: {claims}, {wrote}")
        case ["holds nothing of the release" | "nothing of this release" | "main is as it was"]:
            tally.require(where, not whole and not tagged, f"untrue: {claims}")
        case ["no tag may name it yet"]:
            tally.require(where, whole, f"untrue: {claims}")
        case ["not compared to the end" | "is published and verified"]:
            tally.require(where, whole and tagged, f"untrue: {claims}")
        case _:
            pass  # nothing was said for certain


def check_beside(target: HubTarget, tally: Tally, where: str) -> None:
    """Access, collection and successor as the command asked for, once each, after it was run again."""
    store = target.hub.store
    if "--gated" in target.options:
        made = store.repository(target.place.repo)
        tally.require(where, made.gated == "manual" and made.private, "it is not private and gated")
    if "--collection" in target.options:
        items = [[item["id"] for item in one["items"]] for one in store.collections.values()]
        tally.require(where, items == [[target.place.repo]], f"the collections hold {items}")
    if "--supersedes" in target.options:
        card = store.contents(OLD)["README.md"].decode()
        tally.require(where, card.count(f"new_version: {target.place.repo}") == 1, "no successor is named")


def said(target: HubTarget, begin: int) -> str:
    """What the commands have printed since."""
    return (target.work / "log").read_bytes()[begin:].decode(errors="replace")


if __name__ == "__main__":
    main()
