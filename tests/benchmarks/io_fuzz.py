"""io-3: fuzzing of contract loading, rewriting and processing, with hypothesis and with atheris.

`--minutes` is atheris's time. Its wheel is put into a temporary folder, not into this environment.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = 2_000
SEEDS = 300
SECONDS = 5.0  # for one input; most take a few milliseconds
MEMORY = 1024  # MiB, of the whole process


def with_hypothesis(examples: int) -> dict[str, Any]:
    """Counts what became of generated inputs; an exception that is no ZooError ends it."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    from tests.io.exercise import exercise

    # Short inputs rarely get past loading; these are long from the start.
    deep = st.integers(0, 2**64 - 1).map(lambda number: Random(number).randbytes(400))
    said: Counter[str] = Counter()
    slowest = 0.0

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.one_of(st.binary(max_size=600), deep))
    def run(data: bytes) -> None:
        nonlocal slowest
        began = time.process_time()
        said[exercise(data)] += 1
        slowest = max(slowest, time.process_time() - began)

    warm_up()
    run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {
        "inputs": said.total(),
        "outcomes": dict(said.most_common()),
        "slowest_s": round(slowest, 2),
        "peak_MiB": peak,
    }


def with_atheris(minutes: float) -> dict[str, Any]:
    """libFuzzer's own summary of a run in a process of its own; it stops at the first finding."""
    with tempfile.TemporaryDirectory() as folder:
        wanted = [sys.executable, "-m", "pip", "install", "-q", "--target", f"{folder}/atheris", "atheris"]
        subprocess.run(wanted, check=True)
        path = os.pathsep.join((f"{folder}/atheris", str(ROOT)))
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number in range(SEEDS):
            (corpus / f"{number}").write_bytes(Random(number).randbytes(400))
        command = [
            sys.executable,
            __file__,
            "--target",
            str(corpus),
            f"-max_total_time={int(minutes * 60)}",
            f"-timeout={int(SECONDS * 6)}",  # of the clock: others may use this machine too
            f"-rss_limit_mb={MEMORY}",
            "-max_len=600",
            f"-artifact_prefix={folder}/",
        ]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=folder, env={**os.environ, "PYTHONPATH": path}
        )
        found = sorted(file.name for file in Path(folder).glob("*-*") if file.is_file())
    tail = done.stderr[-3000:]
    runs = re.search(r"Done (\d+) runs in (\d+) second", tail)
    last = re.findall(r"cov: (\d+) ft: \d+ corp: (\d+)/\S+ .*?rss: (\d+)Mb", done.stderr)
    if done.returncode or found:
        print(tail, file=sys.stderr)
    return {
        "runs": int(runs[1]) if runs else 0,
        "seconds": int(runs[2]) if runs else 0,
        "coverage_corpus_MiB": [int(part) for part in last[-1]] if last else [],
        "exit": done.returncode,
        "findings": found,
    }


def target(arguments: list[str]) -> None:
    """The process that libFuzzer runs in."""
    import atheris

    with atheris.instrument_imports(include=["zoo", "tests.io.exercise"]):
        from tests.io.exercise import exercise

    def one(data: bytes) -> None:
        began = time.process_time()
        exercise(data)
        if time.process_time() - began > SECONDS:
            raise AssertionError("an input took too long")

    warm_up()
    atheris.Setup([__file__, *arguments], one)
    atheris.Fuzz()


def warm_up() -> None:
    """Imports what the first input would import, nltk above all, so that no input is charged with it."""
    from zoo.io.schema import check_reply
    from zoo.io.sentences import split

    split("One. Two.")
    check_reply(1, {"type": "integer"})


def main() -> None:
    if "--target" in sys.argv:
        return target(sys.argv[2:])
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--examples", type=int, default=EXAMPLES)
    parser.add_argument("--no-record", action="store_true")
    options = parser.parse_args()
    value = {"atheris": with_atheris(options.minutes), "hypothesis": with_hypothesis(options.examples)}
    fuzzed, drawn = value["atheris"], value["hypothesis"]
    enough = fuzzed["seconds"] >= options.minutes * 60 and drawn["inputs"] >= options.examples * 0.9
    quick = drawn["slowest_s"] <= SECONDS
    bounded = max([*fuzzed["coverage_corpus_MiB"][2:], drawn["peak_MiB"]]) <= MEMORY
    met = not fuzzed["exit"] and not fuzzed["findings"] and enough and bounded and quick
    if options.no_record:
        print(value, met)
        return
    from tests.benchmarks.evidence import record

    record(
        "io",
        "io-3",
        "inputs through contract loading, rewriting and processing; hypothesis by outcome "
        "(`done` or the error's code); atheris by libFuzzer's count",
        value,
        f"no exception outside ZooError, no input over {SECONDS:g} s, "
        f"memory under {MEMORY} MiB, 10 minutes of atheris",
        met,
        "nothing: an absolute bar",
        "python -m tests.benchmarks.io_fuzz",
    )


if __name__ == "__main__":
    main()
