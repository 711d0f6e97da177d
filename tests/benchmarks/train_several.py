"""train-6: three intrinsics on shared conversations, trained together against one after another.

Both are `zoo train` itself, from the data file to the written releases: planning, loading, prefixes, steps,
looks at validation data, measurements on held-out samples. Together is one `--adapters A,B,C`; one after
another is three trainings in one process, each of which loads the base and runs its own prefixes. What
modules are imported is not timed. The arms run in processes of their own, in turn, on the same data. Their
losses have to agree step by step, or it would be another training.

Run: python -m tests.benchmarks.train_several [--conversations 12] [--rounds 3] [--threads 1]
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.child import arms_parser, run_arms
from tests.demo.relevance_data import read_pairs
from zoo.models import DEFAULT, resolve
from zoo.prompts import Prompter
from zoo.training.parts import DataSettings
from zoo.training.plan import TrainSettings

NAMES = ("relevance", "certainty", "answerability")
INVOCATION = "<|im_start|>{adapter}\n"
TOKENS = 512  # of each conversation
EPOCHS = 3
BAR = 2.0
AGREE = 1e-3  # relative, of two losses of one step: what is packed together decides how sums are rounded
ARMS = ("together", "one_after_another")


def write_data(folder: Path, conversations: int) -> None:
    """One file of all adapters' samples, and one of each: every conversation has three answers."""
    prompter = Prompter(resolve(DEFAULT))
    ids: list[int] = []
    texts: list[str] = []
    for passage, question in read_pairs(10_000):
        ids += prompter.encode(f"{passage}\n\n{question}\n")
        if len(ids) >= TOKENS:
            texts.append(prompter.tokenizer.decode(ids[:TOKENS]))
            ids = []
        if len(texts) == conversations:
            break
    else:
        raise SystemExit(f"the passages make {len(texts)} conversations of {TOKENS} tokens")
    every = []
    for place, name in enumerate(NAMES):
        own = [
            {
                "messages": [{"role": "user", "content": text}],
                "answer": "yes" if (number >> place) & 1 else "no",
                "group": f"c{number}",
            }
            for number, text in enumerate(texts)
        ]
        every += [{**line, "adapter": name} for line in own]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in own))
    (folder / "all.jsonl").write_text("".join(json.dumps(line) + "\n" for line in every))


def arm(options: argparse.Namespace) -> None:
    """One arm in this process; its figures as JSON on the last line of stdout."""
    import peft  # noqa: F401  # imports are not timed
    import torch
    import transformers  # noqa: F401

    from zoo.training.several import train_several
    from zoo.training.train import train

    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)  # zoo's own choice of threads is not measured
    steps = max(1, EPOCHS * options.conversations // options.batch)
    settings = TrainSettings.of(
        steps=steps, batch=options.batch, rank=32, check_every=steps, data=DataSettings(held_out=0.2)
    )
    how: dict[str, Any] = {"settings": settings, "device": options.device, "dtype": options.dtype}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder, options.conversations)
        begin, cpu = time.perf_counter(), time.process_time()
        if options.arm == "together":
            about = {"version": "0.1.0", "license": "apache-2.0", "description": ""}
            several = train_several(
                folder / "all.jsonl", folder / "out", NAMES, about=about, invocation_text=INVOCATION, **how
            )
            losses = {one: list(done.losses) for one, done in several.adapters.items()}
        else:
            losses = {}
            for one in NAMES:
                text = INVOCATION.replace("{adapter}", one)
                done = train(folder / f"{one}.jsonl", folder / one, name=one, invocation_text=text, **how)
                losses[one] = list(done.losses)
        seconds, used = time.perf_counter() - begin, time.process_time() - cpu
    print("\n" + json.dumps({"seconds": seconds, "cpu": used, "losses": losses}))


def main() -> None:
    parser = arms_parser(ARMS)
    parser.add_argument("--conversations", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.arm:
        arm(options)
        return
    command = [sys.executable, "-m", "tests.benchmarks.train_several", *sys.argv[1:], "--arm"]
    found, peaks = run_arms(command, ARMS, rounds=options.rounds)
    report(found, peaks, options)


def report(found: dict[str, list[dict[str, Any]]], peaks: dict[str, float], options: Any) -> None:
    """Puts the figure into the evidence."""

    def ratio(what: str) -> float:
        apart, together = (statistics.median(one[what] for one in found[name]) for name in ARMS[::-1])
        return apart / together

    apart = largest_difference(*(found[name][0]["losses"] for name in ARMS))
    value = {
        "ratio": round(ratio("seconds"), 2),
        "ratio_of_processor_time": round(ratio("cpu"), 2),
        "seconds": {name: [round(one["seconds"], 1) for one in found[name]] for name in ARMS},
        "cpu_seconds": {name: [round(one["cpu"], 1) for one in found[name]] for name in ARMS},
        "peak_mib": {name: round(peak) for name, peak in peaks.items()},
        "largest_difference_of_a_loss": float(f"{apart:.2g}"),
        "load_average": round(os.getloadavg()[1], 1),
    }
    print(json.dumps(value, indent=2))
    if options.dry:
        return
    from tests.benchmarks.evidence import record

    record(
        "train",
        "train-6",
        f"Three intrinsics trained on the same {options.conversations} conversations of {TOKENS} tokens, "
        f"{EPOCHS} epochs, batch {options.batch}, SmolLM2-135M, {options.dtype}, on {options.device}: one "
        "zoo train of all three against three, from the data to the releases",
        value,
        f">= {BAR:g}x less time; losses of a step within {AGREE:g} of each other",
        ratio("seconds") >= BAR and apart <= AGREE,
        "zoo train of one adapter after another, in one process; same data, steps, dtype and threads",
        f"python -m tests.benchmarks.train_several --conversations {options.conversations} "
        f"--batch {options.batch} --threads {options.threads} --rounds {options.rounds} "
        f"--device {options.device} --dtype {options.dtype}",
        note=f"{options.threads} threads; medians of {options.rounds} runs of each arm in turn; imports are "
        "not timed; planning, looks, measurements and writing are",
    )


def largest_difference(one: dict[str, list[float]], other: dict[str, list[float]]) -> float:
    """The largest relative difference of two losses of one step."""
    if one.keys() != other.keys():
        return float("inf")
    pairs = [pair for name in one for pair in zip(one[name], other[name], strict=True)]
    return max(abs(a - b) / abs(b) for a, b in pairs)


if __name__ == "__main__":
    main()
