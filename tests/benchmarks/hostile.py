"""release-3: hostile folders, each in a process of its own: stopped by the right code, fast and small.

    python -m tests.benchmarks.hostile [--only WORD] [--jobs N]

Every folder is a copy of a release in order (of a tiny base), changed; `tests/security/corpus` says how. The
command that it comes to runs in a child process whose wall time and largest memory, its own children's
included, are measured; hard limits contain what gets past zoo's own. Controls: the untouched release goes
through each of the commands.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.evidence import record
from tests.conftest import build_tiny_base
from tests.security.corpus import CORPUS
from tests.security.hostile import CANARY, Answer, Door, Hostile
from tests.validators.changes import relock
from tests.validators.releases import build_release
from zoo.models import BaseModel, resolve

MAX_SECONDS = 10.0
MAX_MIB = 1024.0
HARD_SECONDS = 60  # of CPU; four times as much by the clock
# As in tests.benchmarks.child: a small process stands between, since Linux counts what a process had in
# memory before its exec. This one also sets limits, and kills what does not end.
LAUNCHER = """
import json, os, resource, signal, subprocess, sys, time
report, seconds = sys.argv[1], int(sys.argv[2])
limits = {"CPU": seconds, "FSIZE": 1 << 30, "CORE": 0, "DATA": 3 << 30}
for kind, most in ((getattr(resource, f"RLIMIT_{name}"), most) for name, most in limits.items()):
    resource.setrlimit(kind, (most, most))
begin = time.perf_counter()
process = subprocess.Popen(sys.argv[3:], start_new_session=True)
signal.signal(signal.SIGALRM, lambda *_: os.killpg(process.pid, signal.SIGKILL))
signal.alarm(4 * seconds)
_, status, usage = os.wait4(process.pid, 0)
wall = time.perf_counter() - begin
with open(report, "w") as out:
    cpu = usage.ru_utime + usage.ru_stime
    json.dump([os.waitstatus_to_exitcode(status), wall, cpu, usage.ru_maxrss], out)
"""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What became of one folder.

    Attributes:
        answer: what the command said.
        seconds: wall time.
        cpu_seconds: of the process and its children.
        mib: the largest of its processes.
    """

    answer: Answer
    seconds: float
    cpu_seconds: float
    mib: float


def attempt(arguments: Sequence[str], scratch: Path, out: Path | None = None) -> Trial:
    """Runs a command of zoo in a child process, in an empty folder below `scratch`; it may not make `out`."""
    cwd, report = scratch / "cwd", scratch / "report.json"
    cwd.mkdir(parents=True)
    command = [sys.executable, "-c", "from zoo.cli import main; main()", *arguments]
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(report), str(HARD_SECONDS)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "ZOO_CACHE": str(scratch / "cache"),
    }
    done = subprocess.run([*launcher, *command], cwd=cwd, env=environment, capture_output=True, check=True)
    status, wall, cpu, peak_kib = json.loads(report.read_text())
    answer = Answer(
        status=status,
        stdout=done.stdout.decode(errors="surrogateescape"),
        stderr=done.stderr.decode(errors="surrogateescape"),
        left=[path.name for path in (out, cwd / CANARY) if path is not None and path.exists()],
    )
    return Trial(answer=answer, seconds=wall, cpu_seconds=cpu, mib=peak_kib / 1024)


def challenge(case: Hostile, release: Path, base: BaseModel) -> Trial:
    """Makes a hostile folder and gives it to its command."""
    with tempfile.TemporaryDirectory(prefix="hostile-", ignore_cleanup_errors=True) as name:
        scratch = Path(name)
        folder = Path(shutil.copytree(release, scratch / "check"))
        changed = case.change(folder, base) or base
        if case.relock:
            relock(folder, changed)
        out = scratch / "out"
        trial = attempt(case.door.arguments(folder, changed, out), scratch, out)
        subprocess.run(["rm", "-rf", str(scratch / "check")], check=False)  # deeper than Python removes
        return trial


def controls(release: Path, base: BaseModel) -> dict[str, Trial]:
    """Every command on a folder in order, which each has to let through; by what was done."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    with tempfile.TemporaryDirectory(prefix="hostile-control-") as name:
        place = Path(name)
        folder = Path(shutil.copytree(release, place / "check"))
        (place / "zoo-gate.yaml").write_text("format: 1\n")
        found = {
            door.name.lower(): attempt(
                door.arguments(folder, base, place / f"{door.name}-out"), place / door.name
            )
            for door in Door
            if door not in (Door.VERIFY, Door.SIGNED, Door.VALIDATE_ALONE)
        }
        signer = Ed25519PrivateKey.generate()
        (place / "private.pem").write_bytes(
            signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        public = signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (place / "publisher.pub").write_bytes(public)
        key = ("--sign-key", str(place / "private.pem"))
        publish = ["publish", str(folder), "--to", str(place / "published"), "--base", str(base.folder), *key]
        found["published"] = attempt(publish, place / "PUBLISHED")
        verify = ["verify", str(place / "published"), "--key", str(place / "publisher.pub")]
        found["verified"] = attempt(verify, place / "VERIFIED")
        return found


def line(name: str, trial: Trial, faults: Sequence[str]) -> str:
    """What became of one folder, in a line."""
    size = f"{trial.seconds:5.1f} s {trial.cpu_seconds:5.1f} cpu {trial.mib:5.0f} MiB"
    over = " SLOW" * (trial.cpu_seconds > MAX_SECONDS) + " LARGE" * (trial.mib > MAX_MIB)
    return f"{size}  {name}{over} {'; '.join(faults)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the corpus, prints a line a folder, and records release-3."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--only", default="", help="cases whose family, name or door holds this; not recorded"
    )
    parser.add_argument("--jobs", type=int, default=1, help="folders at a time")
    options = parser.parse_args(arguments)
    chosen = [c for c in CORPUS if options.only in f"{c.family}: {c.name} {c.door.name}"]
    trials: list[Trial] = []
    with (
        tempfile.TemporaryDirectory(prefix="hostile-base-") as name,
        ThreadPoolExecutor(options.jobs) as pool,
    ):
        base = resolve(str(build_tiny_base(Path(name) / "tiny")))
        release = build_release(base, Path(name) / "check")
        beside = None if options.only else pool.submit(controls, release, base)
        for case, trial in zip(
            chosen, pool.map(lambda one: challenge(one, release, base), chosen), strict=True
        ):
            trials.append(trial)
            faults = trial.answer.faults(case)
            print(line(f"{case.code}  {case.family}: {case.name}", trial, faults), flush=True)
            if faults and options.only:
                print(trial.answer.stdout[-1500:], trial.answer.stderr[:1500])
        passed = beside.result() if beside else {}
    for named, trial in passed.items():
        print(line(f"control: {named}", trial, [f"exit {trial.answer.status}"]), flush=True)
    if passed:
        summarise(chosen, trials, passed)


def summarise(cases: Sequence[Hostile], trials: Sequence[Trial], passed: dict[str, Trial]) -> None:
    """Records the figure."""
    stopped = [not trial.answer.faults(case) for case, trial in zip(cases, trials, strict=True)]
    through = sum(trial.answer.status == 0 for trial in passed.values())
    families = Counter(case.family for case in cases)
    value: dict[str, Any] = {
        "folders": len(cases),
        "stopped_by_the_right_code": sum(stopped),
        "slowest_cpu_seconds": round(max(trial.cpu_seconds for trial in trials), 1),
        "slowest_seconds": round(max(trial.seconds for trial in trials), 1),
        "largest_mib": round(max(trial.mib for trial in trials)),
        "controls_let_through": through,
        "controls": len(passed),
        "families": dict(families),
        "load_average": round(os.getloadavg()[2], 1),
    }
    met = all(stopped) and len(cases) >= 80 and through == len(passed)
    met = met and value["slowest_cpu_seconds"] < MAX_SECONDS and value["largest_mib"] < MAX_MIB
    record(
        "release",
        "release-3",
        "hostile folders, each given to its command in a process of its own: stopped by the right code, with "
        "no output, secret or control character left; CPU seconds of the slowest with its children, MiB of "
        "the largest process; every command lets the untouched folder through",
        value,
        bar=f">= 80 folders, all stopped by the right code; each < {MAX_SECONDS:.0f} s, < {MAX_MIB:.0f} MiB",
        met=met,
        ratio_of="the untouched folder, same commands",
        command="python -m tests.benchmarks.hostile",
        note="judged by CPU seconds, which depend less on what else runs here than wall time does",
    )


if __name__ == "__main__":
    main()
