"""release-5: a library of 200 adapters through Ray: two workers against one, and against separate runs.

    make .venv-ray && .venv/bin/python -m tests.benchmarks.fleet [--trial --adapters 12 …]

Whole processes are timed, with Ray's start, imports and loading. The base is a random model of two layers, so
that 200 adapters fit into minutes: the work on each is the same checks, and less arithmetic than on a large
base. Of the separate runs a sample is run and its mean counted 200 times, which the record says. The reports
are compared byte by byte but for times: two workers with one, both with a single process, and a run whose
workers are killed with all of them. Run it on two free cores; it takes about four minutes.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.child import Run, run
from tests.benchmarks.evidence import record
from tests.ci.fleet.library import build_library
from tests.conftest import build_tiny_base
from zoo.models import resolve

ROOT = Path(__file__).resolve().parents[2]
MIN_RATIO_ONE, MIN_RATIO_SEPARATE = 1.6, 8.0
KILLS = 3


def zoo(*arguments: str) -> Run:
    command = str(Path(sys.executable).with_name("zoo"))
    return run([command, "gate", *arguments, "--json", "--quiet"])


def documents(stdout: str) -> list[dict[str, Any]]:
    """Reports without times."""
    found: list[dict[str, Any]] = json.loads(stdout)
    for document in found:
        for one in document["results"]:
            one["seconds"] = 0.0
    return found


def kill_some(folders: list[Path], base: str) -> None:
    """Gates with two workers and kills one after another; prints the reports and how many were killed."""
    import datetime

    from zoo.ci.fleet.journal import Journal
    from zoo.ci.fleet.on_ray import ray_crew
    from zoo.ci.fleet.run import fleet
    from zoo.ci.fleet.task import Order
    from zoo.render.json import to_document
    from zoo.specs.policy import Policy
    from zoo.validators.validate import Settings

    today = datetime.datetime.now(datetime.UTC).date()
    order = Order(settings=Settings(base=base), policy=Policy(), today=today)
    reports: list[dict[str, Any]] = []
    killed: list[int] = []
    with ray_crew(order, workers=2) as crew:
        for report in fleet(folders, order=order, crew=crew, journal=Journal(order)):
            reports.append(to_document(report))
            alive = [process for process in crew.processes if process not in killed]
            due = len(reports) >= (len(killed) + 1) * len(folders) // (2 * KILLS)
            if alive and due and len(killed) < KILLS:
                killed.append(alive[-1])
                os.kill(killed[-1], signal.SIGKILL)
    print(json.dumps({"killed": len(killed), "reports": reports}))


def measure(options: argparse.Namespace, folder: Path) -> None:
    base = resolve(str(build_tiny_base(folder / "base", hidden=options.hidden)))
    library = build_library(folder / "library", base, options.adapters, kinds=2)
    folders = sorted(library.iterdir())
    settings = ["--base", str(base.folder)]
    some, seconds, reports = folders[: options.killed], {}, {}
    for name, workers in (("one worker", 1), ("two workers", 2)):
        done = zoo("--library", str(library), *settings, "--workers", str(workers))
        assert done.status == 0, (name, done.status)
        seconds[name], reports[name] = done.wall_seconds, documents(done.stdout)
        print(f"{name}: {done.wall_seconds:.1f} s", flush=True)
    step = max(1, len(folders) // options.separate)
    separate = [zoo(str(one), *settings).wall_seconds for one in folders[::step][: options.separate]]
    seconds["separate runs"] = sum(separate) / len(separate) * len(folders)
    print(f"separate: {separate}", flush=True)
    alone = documents(zoo(*map(str, some), *settings).stdout)
    with_kills = run(
        [sys.executable, "-m", "tests.benchmarks.fleet", "--kill", str(base.folder), *map(str, some)]
    )
    said = json.loads(with_kills.stdout.splitlines()[-1])
    survived = documents(json.dumps(said["reports"]))
    different = sum(one != other for one, other in zip(alone, survived, strict=True))
    same = reports["one worker"] == reports["two workers"] and reports["one worker"][: len(some)] == alone
    report(seconds, options, killed=said["killed"], different=different, same=same, adapters=len(folders))


def report(
    seconds: dict[str, float],
    options: argparse.Namespace,
    *,
    killed: int,
    different: int,
    same: bool,
    adapters: int,
) -> None:
    over_one = round(seconds["one worker"] / seconds["two workers"], 2)
    over_separate = round(seconds["separate runs"] / seconds["two workers"], 1)
    value = {
        "one_worker_over_two": over_one,
        "separate_runs_over_two_workers": over_separate,
        "adapters": adapters,
        "workers_killed": killed,
        "reports_lost_or_changed_by_kills": different,
        "same_reports_as_one_process": same,
        "seconds": {name: round(one, 1) for name, one in seconds.items()},
    }
    met = (
        over_one >= MIN_RATIO_ONE
        and over_separate >= MIN_RATIO_SEPARATE
        and killed == KILLS
        and not different
        and same
    )
    if options.trial:
        print(json.dumps(value))
        return
    record(
        "release", "release-5",
        "Wall time of `zoo gate` over a library of adapters on one base: one Ray worker over two (one thread "
        "each), and separate runs over two workers; adapters lost when workers are killed.",
        value,
        f">= {MIN_RATIO_ONE}, >= {MIN_RATIO_SEPARATE:g}; a killed worker loses nothing",
        bool(met),
        "the same library through one worker, and adapter by adapter in processes of their own",
        "python -m tests.benchmarks.fleet",
        note=(
            f"The base is a random model of two layers. Of the separate runs {options.separate} were run and "
            f"counted at their mean for all {adapters}. Workers were killed (SIGKILL) in a run over the "
            f"first {options.killed}, whose reports were compared with a single process's."
        ),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--adapters", type=int, default=200)
    parser.add_argument("--separate", type=int, default=6)
    parser.add_argument("--killed", type=int, default=40)
    parser.add_argument("--hidden", type=int, default=1536, help="width of the base")
    parser.add_argument("--trial", action="store_true", help="print the figures and record none")
    parser.add_argument("--kill", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kill:
        kill_some([Path(one) for one in options.kill[1:]], options.kill[0])
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    packages = os.environ.get("ZOO_RAY_PACKAGES", str(ROOT / ".venv-ray"))
    os.environ["PYTHONPATH"] = packages
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        os.environ["ZOO_CACHE"] = str(Path(folder) / "cache")
        measure(options, Path(folder))


if __name__ == "__main__":
    main()
