"""main-3: ten ways to break an adapter, each flagged by its code, fast and small.

    python -m tests.benchmarks.breakages [--adapter RELEASE_FOLDER]

Without --adapter a release of random strong weights is made on the embedded base (rank 16 on q, k, v). Every
breakage is applied to a copy of it, and `zoo validate --static` runs on the copy in a process of its own,
whose wall time and largest memory are measured. The untouched release is the control: it must end with 0.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.child import run
from tests.benchmarks.evidence import record
from tests.validators.breakages import BREAKAGES, TEN
from tests.validators.changes import break_release
from tests.validators.releases import build_release
from zoo.models import DEFAULT, BaseModel, resolve, resolve_reference

MAX_SECONDS = 10.0
MAX_MIB = 1024.0


def verdict(folder: Path, base: BaseModel) -> dict[str, Any]:
    """What the command says about a folder: exit code, flagged codes, wall seconds, peak MiB."""
    name = DEFAULT if base.embedded else str(base.folder)
    options = ["--base", name, "--static", "--json"]
    command = [sys.executable, "-c", "from zoo.cli import main; main()", "validate", str(folder), *options]
    done = run(command)
    errors = {
        result["code"]
        for result in json.loads(done.stdout)["results"]
        for finding in result["outcome"].get("findings", [])
        if finding["severity"] == "error"
    }
    return {
        "exit": done.status,
        "codes": sorted(errors),
        "seconds": round(done.wall_seconds, 2),
        "mib": round(done.peak_mib),
    }


def measure(release: Path, base: BaseModel, scratch: Path) -> dict[str, dict[str, Any]]:
    """The verdict on the untouched release, then on each broken copy."""
    found = {"untouched": verdict(release, base)}
    for name in TEN:
        copy = Path(shutil.copytree(release, scratch / name.replace(" ", "-")))
        changed = break_release(copy, base, BREAKAGES[name])
        found[name] = {"wanted": BREAKAGES[name].code, **verdict(copy, changed)}
        shutil.rmtree(copy)
    return found


def main() -> None:
    """Measures, prints a line a breakage, and records main-3."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--adapter", type=Path, help="a release folder in order; it is not changed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="breakages-") as name:
        scratch = Path(name)
        if options.adapter:
            from zoo.adapter import AdapterRepo

            repo = AdapterRepo.open(options.adapter)
            if repo.release is None:
                parser.error(f"{options.adapter} has no zoo.yaml")
            release, base = repo.root, resolve_reference(repo.release.base)
        else:
            base = resolve(DEFAULT)
            release = build_release(base, scratch / "check", rank=16, strength=0.05)
        found = measure(release, base, scratch)
    for name, one in found.items():
        print(f"{name:<28} {one}", flush=True)
    untouched = found["untouched"]
    right = [
        name for name in TEN if found[name]["wanted"] in found[name]["codes"] and found[name]["exit"] == 1
    ]
    slowest = max(one["seconds"] for one in found.values())
    largest = max(one["mib"] for one in found.values())
    in_order = untouched["exit"] == 0 and not untouched["codes"]
    record(
        "main",
        "main-3",
        "ten ways to break an adapter: flagged by the right code by zoo validate --static; the slowest run's "
        "wall seconds and the largest run's MiB; the untouched adapter passes",
        {
            "flagged_by_the_right_code": len(right),
            "of": len(TEN),
            "slowest_seconds": slowest,
            "largest_mib": largest,
            "untouched_passes": in_order,
            "codes": {name: found[name]["codes"] for name in TEN},
        },
        bar=f"10 of 10, none in more than {MAX_SECONDS:.0f} s or {MAX_MIB:.0f} MiB; the untouched passes",
        met=len(right) == len(TEN) and slowest <= MAX_SECONDS and largest <= MAX_MIB and in_order,
        ratio_of="the untouched adapter, same command",
        command="python -m tests.benchmarks.breakages",
    )


if __name__ == "__main__":
    main()
