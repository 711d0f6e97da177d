"""Runs a command and measures its CPU time, its wall time and its largest memory, with all it started."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
