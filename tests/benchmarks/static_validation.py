"""main-4: what `zoo --help` and the static part of `zoo validate` cost, in CPU time.

    python -m tests.benchmarks.static_validation [--runs 15]

CPU time, not wall time, and of the whole process tree: the interpreter's start, the process that renders the
chat template, everything. The adapter is a release of 10 MB on the embedded base (rank 32 on q, k, v). That
neither command imports torch is read off `sys.modules` at the end of the same command.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.child import run
from tests.benchmarks.evidence import record
from tests.validators.releases import build_release
from zoo.models import DEFAULT, resolve

HELP_BAR = 0.15
VALIDATE_BAR = 0.6
ZOO = [sys.executable, "-c", "from zoo.cli import main; main()"]
MODULES = """
import sys
from zoo.cli import run
sys.stdout, kept = open("/dev/null", "w"), sys.stdout
status = run(sys.argv[1:])
heavy = {"torch", "transformers", "peft", "numpy", "huggingface_hub"} & set(sys.modules)
print(status, *sorted(heavy), file=kept)
"""


def cpu_seconds(arguments: Sequence[str], runs: int) -> list[float]:
    """CPU time of each run, after one that fills the caches.

    Raises:
        RuntimeError: the command failed, and so measured something else.
    """
    found = []
    for _ in range(runs + 1):
        done = run([*ZOO, *arguments])
        if done.status != 0:
            raise RuntimeError(f"zoo {' '.join(arguments)} ended with {done.status}: {done.stdout[-400:]}")
        found.append(done.cpu_seconds)
    return found[1:]


def heavy_imports(arguments: Sequence[str]) -> list[str]:
    """Which heavy packages the command had imported when it ended.

    Raises:
        RuntimeError: the command failed.
    """
    status, *heavy = run([sys.executable, "-c", MODULES, *arguments]).stdout.split()
    if status != "0":
        raise RuntimeError(f"zoo {' '.join(arguments)} ended with {status}")
    return heavy


def main() -> None:
    """Measures both commands and records main-4."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="static-") as name:
        release = build_release(resolve(DEFAULT), Path(name) / "check", rank=32, strength=0.05)
        size = sum(path.stat().st_size for path in release.iterdir())
        validate = ["validate", str(release), "--static"]
        empty = statistics.median(run([sys.executable, "-c", ""]).cpu_seconds for _ in range(options.runs))
        helping = cpu_seconds(["--help"], options.runs)
        validating = cpu_seconds(validate, options.runs)
        heavy = sorted({*heavy_imports(["--help"]), *heavy_imports(validate)})
    help_median, validate_median = statistics.median(helping), statistics.median(validating)
    for what, found in (("help", helping), ("validate", validating)):
        print(f"{what}: {min(found):.3f} to {max(found):.3f} s")
    record(
        "main",
        "main-4",
        f"CPU seconds of zoo --help, and of zoo validate --static on a release of {size / 1e6:.1f} MB: "
        f"median of {options.runs} runs, whole process tree",
        {
            "help_seconds": round(help_median, 3),
            "validate_static_seconds": round(validate_median, 3),
            "help_fastest": round(min(helping), 3),
            "validate_static_fastest": round(min(validating), 3),
            "empty_interpreter_seconds": round(empty, 3),
            "heavy_imports": heavy,
        },
        bar=f"help < {HELP_BAR} s; static validation < {VALIDATE_BAR} s; torch not imported",
        met=help_median < HELP_BAR and validate_median < VALIDATE_BAR and not heavy,
        ratio_of="an empty interpreter of the same environment, same run",
        command="python -m tests.benchmarks.static_validation",
        note="CPU time grows with what else the machine does: compare with the empty interpreter's",
    )


if __name__ == "__main__":
    main()
