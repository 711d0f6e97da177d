"""Runs a command and measures its CPU time, its wall time and its largest memory, with all it started."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Linux counts what a process had in memory between fork and exec as its own, so a large process that starts a
# small one measures itself. This small one stands between them.
LAUNCHER = """
import json, os, subprocess, sys, time
begin = time.perf_counter()
process = subprocess.Popen(sys.argv[2:])
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
wall = time.perf_counter() - begin
with open(sys.argv[1], "w") as report:
    json.dump([process.returncode, usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss], report)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One finished command.

    Attributes:
        status: its exit code.
        stdout: what it printed.
        cpu_seconds: user and system time of the process and of the children it waited for.
        wall_seconds: from start to end.
        peak_mib: largest resident memory of the process itself.
    """

    status: int
    stdout: str
    cpu_seconds: float
    wall_seconds: float
    peak_mib: float


def run(command: Sequence[str]) -> Run:
    """Runs a command to its end; its stderr goes to ours."""
    # bytecode is compiled once, at the first run: an environment that forbids keeping it is not a user's
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        report = Path(folder) / "report.json"
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(report)]
        done = subprocess.run(
            [*launcher, *command], env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        status, cpu, wall, peak_kib = json.loads(report.read_text())
    return Run(
        status=status, stdout=done.stdout, cpu_seconds=cpu, wall_seconds=wall, peak_mib=peak_kib / 1024
    )


def arms_parser(arms: Sequence[str]) -> argparse.ArgumentParser:
    """The options of every comparison whose arms are processes of their own; see `run_arms`.

    Args:
        arms: their names.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--arm", choices=arms)
    parser.add_argument("--dry", action="store_true", help="record nothing")
    return parser


def run_arms(
    command: Sequence[str], arms: Sequence[str], *, rounds: int
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, float]]:
    """Runs the arms of a comparison in processes of their own, in turn, so that all meet the same load.

    Args:
        command: ends with the option that an arm's name follows. Its last line of stdout is JSON with
            `seconds` and, of processor time, `cpu`.
        arms: their names.
        rounds: how often all of them are run.

    Returns:
        What each run of each arm said, and each arm's largest resident memory in MiB.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in arms}
    peaks: dict[str, float] = dict.fromkeys(arms, 0.0)
    for _ in range(rounds):
        for name in arms:
            done = run([*command, name])
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
            peaks[name] = max(peaks[name], done.peak_mib)
            seconds, cpu = (found[name][-1][what] for what in ("seconds", "cpu"))
            print(f"{name}: {seconds:.1f} s, processor {cpu:.1f} s, {done.peak_mib:,.0f} MiB", flush=True)
    return found, peaks
