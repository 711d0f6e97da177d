"""io-1: agreement with granite-common 0.4.1 and mellea 0.8.0 on generated and on their own canned cases."""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.evidence import record
from tests.benchmarks.io_canned import canned_cases
from tests.benchmarks.io_cases import Case
from tests.benchmarks.io_kinds import plain_cases
from tests.benchmarks.io_same import same
from tests.benchmarks.io_trap_classes import GAPS, TRAPS, trap_cases
from zoo.errors import ZooError
from zoo.io import process, rewrite
from zoo.specs.io_file import parse_io

VERSIONS = {"granite-common": "0.4.1", "mellea": "0.8.0"}
WORKER = Path(__file__).with_name("io_upstream.py")
SEED = 20261123
EACH = 600


def upstream_python(folder: Path) -> Path:
    """The Python of a fresh environment with both published executors."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    wanted = [f"{name}=={version}" for name, version in VERSIONS.items()]
    subprocess.run([python, "-m", "pip", "install", "-q", *wanted, "nltk"], check=True)
    return python


def theirs(python: Path, cases: Sequence[Case]) -> list[dict[str, Any]]:
    lines = "".join(json.dumps({**case, "yaml": yaml_of(case)}) + "\n" for case in cases)
    done = subprocess.run([python, str(WORKER)], input=lines, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return [json.loads(line) for line in done.stdout.splitlines()]


def yaml_of(case: Case) -> str:
    return yaml.safe_dump(case["spec"], sort_keys=False, allow_unicode=True)


def ours(case: Case) -> dict[str, Any]:
    said: dict[str, Any] = {}
    try:
        spec = parse_io(yaml_of(case).encode(), name="io.yaml").spec
        said["rewritten"] = rewrite(spec, case["request"], **case["arguments"])
        if "reply" in case:
            said["result"] = process(spec, case["reply"], case["request"])
    except ZooError as error:
        said["error"] = error.code
    return said


def gap(case: Case, package: str, said: dict[str, Any]) -> str:
    """What the package does not know of a plain case; empty when it must agree."""
    return next(
        (gap.name for gap in GAPS if gap.package in (package, "both") and gap.applies(case, said)), ""
    )


def compare(cases: Sequence[Case], answers: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Per package and kind: cases and agreements; every deviation by class; what nobody has explained."""
    table: dict[str, Any] = {name: {} for name in VERSIONS}
    classes: Counter[str] = Counter()
    unexplained = []
    for case, answer in zip(cases, answers, strict=True):
        mine = ours(case)
        for package in VERSIONS:
            their = answer[package]
            agrees = same(mine, their) or ("error" in mine and "error" in their)
            why = case["trap"] or gap(case, package, their)
            if why:
                verdict = their.get("error", "the same value" if agrees else "another value")
                mine_said = mine.get("error", "a value")
                classes[f"{why} | {package}: {verdict} | ours: {mine_said}"] += 1
                continue
            row = table[package].setdefault(case["kind"], [0, 0])
            row[0] += 1
            row[1] += agrees and "error" not in mine
            if not agrees or "error" in mine:
                unexplained.append(f"{package} {case['kind']}: {json.dumps(case)[:1500]}\n{mine}\n{their}")
    return {"agreement": table, "deviations": dict(sorted(classes.items()))}, unexplained


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream-python", type=Path, help="of an environment that has both packages")
    parser.add_argument("--sdist", type=Path, help="granite-common's source release, for its canned cases")
    parser.add_argument("--each", type=int, default=EACH)
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        python = options.upstream_python or upstream_python(Path(folder) / "upstream")
        sdist = options.sdist or download(python, Path(folder))
        cases = plain_cases(SEED, options.each) + trap_cases(SEED)
        found, unexplained = compare(cases, theirs(python, cases))
        canned, wrong = canned_cases(sdist, Path(folder))
        found["canned"] = canned
    for line in (unexplained + wrong)[:5]:
        print(line, file=sys.stderr)
    reasons = {name: f"{trap.right} right: {trap.reason}" for name, trap in TRAPS.items()}
    reasons |= {gap.name: f"ours right: {gap.reason}" for gap in GAPS}
    met = not unexplained and not wrong
    if options.no_record:
        print(
            json.dumps(found, indent=1, ensure_ascii=False),
            f"\nunexplained {len(unexplained)}, canned wrong {len(wrong)}",
        )
        return
    record(
        "io",
        "io-1",
        "generated cases on which rewriting and result are equal, [cases, equal] by package and kind; "
        "classes of deviation with their counts; granite-common's own canned cases",
        found | {"reasons": reasons, "unexplained": len(unexplained), "canned_wrong": len(wrong)},
        "100 % where they are right; each deviation listed with the reason",
        met,
        "granite-common 0.4.1 and mellea 0.8.0, on the same cases in the same run",
        "python -m tests.benchmarks.io_agreement",
    )


def download(python: Path, folder: Path) -> Path:
    """granite-common's source release, by pip."""
    name = f"granite-common=={VERSIONS['granite-common']}"
    how = ["--no-deps", "--no-binary", ":all:", "-d", str(folder)]
    subprocess.run([str(python), "-m", "pip", "download", "-q", *how, name], check=True)
    return next(folder.glob("granite_common-*.tar.gz"))


if __name__ == "__main__":
    main()
