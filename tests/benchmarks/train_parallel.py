"""train-8: samples a second on several GPUs against one, everything from the first prefix on included.

The 8B Llama with random weights of `gpu_bench`, ten epochs over prefixes of 1-2k tokens: each process runs
the prefixes of its own samples and keeps them, and its rows of every step; gradients are added up once a
step. Both arms are started the same way, take the same steps over the same samples, and their losses are
compared. Steps of 64 rows: 64 tokens of a row are too few to keep a GPU busy, and half of too few more so.

    python -m tests.benchmarks.train_parallel --processes 2 --device cuda
    python -m tests.benchmarks.train_parallel --dry     # tiny, on the CPU: does it run? Records nothing
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch

from tests.benchmarks.gpu_bench import GPU, TINY, build, samples
from zoo.errors import ZooError
from zoo.progress import Progress
from zoo.training.deal import Deal
from zoo.training.launch import launch
from zoo.training.optimise import Recipe, Task, optimise
from zoo.training.peers import Peers, check_count, peers_here
from zoo.training.prefix import answer_loss
from zoo.training.share import dealt_stores

EPOCHS = 10
BAR = 0.9  # of what so many processes could reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One training, by however many processes run it."""

    device: str
    tiny: bool
    count: int
    batch: int

    def __call__(self, progress: Progress) -> dict[str, Any]:
        peers = peers_here(self.device)
        size = replace(TINY if self.tiny else GPU, device=peers.device(self.device))
        model = build(size)
        source = random.Random(1)
        lengths = [source.randint(*size.spread) for _ in range(self.count)]
        given = samples(lengths, size.model["vocab_size"])
        deal = Deal.of([one.prefix for one in given])
        store = dealt_stores(model, {"": (given, deal.held(peers.index, peers.count))}, peers)[""]
        steps = EPOCHS * self.count // self.batch
        recipe = Recipe(
            steps=steps, batch=self.batch, micro_batch=self.batch, learning_rate=1e-5, check_every=steps
        )
        task = Task(
            parameters={name: p for name, p in model.named_parameters() if ".lora_" in name},
            samples=self.count,
            tokens=[len(one.answer) for one in given],
            loss=lambda rows: answer_loss(store, rows),
            score=lambda: 0.0,
            identity={},
            prefetch=store.prefetch,
            deal=deal,
            peers=peers,
        )
        marks: list[float] = []

        def marked(stage: str, *, done: int, total: int, note: str = "") -> None:
            marks.append(now_here(size.device))
            progress(stage, done=done, total=total, note=note)

        begin = now(peers, size.device)
        store.fill(progress)
        filled = now(peers, size.device)
        done = optimise(task, recipe, progress=marked)
        end = now(peers, size.device)
        return {
            "samples_per_second": EPOCHS * self.count / (end - begin),
            "prefixes_s": filled - begin,
            "first_step_s": marks[0] - filled,  # it records the step
            "later_step_s": statistics.median(b - a for a, b in pairwise(marks)),
            "kept": peers.gather(store.note()),
            "peak_gib": peers.gather(peak(size.device)),
            "losses": list(done.losses),
        }


def now_here(device: str) -> float:
    """The time when this process's device has done what it was told."""
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def now(peers: Peers, device: str) -> float:
    """The time when all have come here."""
    now_here(device)
    peers.gather(None)
    return time.perf_counter()


def peak(device: str) -> float:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device != "cpu" else 0.0


def compared(one: Mapping[str, Any], several: Mapping[str, Any], processes: int) -> dict[str, Any]:
    """The figure's value, of two arms."""
    pairs = list(zip(one["losses"], several["losses"], strict=True))
    shown = ("samples_per_second", "prefixes_s", "first_step_s", "later_step_s", "kept", "peak_gib")
    return {
        "ratio": several["samples_per_second"] / one["samples_per_second"],
        "ratio_of_later_steps": one["later_step_s"] / several["later_step_s"],
        "ratio_of_prefixes": one["prefixes_s"] / several["prefixes_s"],
        "largest_loss_difference": max(abs(a - b) / a for a, b in pairs),
        "largest_step_of_loss": max(abs(a - b) / a for (a, _), (b, _) in pairwise(pairs)),
        "one": {name: one[name] for name in shown},
        str(processes): {name: several[name] for name in shown},
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--samples", type=int, default=384)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    arm = Arm(device=options.device, tiny=False, count=options.samples, batch=options.batch)
    if options.dry:
        arm = Arm(device="cpu", tiny=True, count=48, batch=16)
    try:
        check_count(options.processes, arm.device, here=options.processes)
    except ZooError as error:
        raise SystemExit(str(error)) from None
    found = [launch(arm, count, device=arm.device) for count in (1, options.processes)]
    value = compared(found[0], found[1], options.processes)
    print(json.dumps(value, indent=1), flush=True)
    # the arms differ by rounding, which is far less than what one step changes
    if not value["largest_loss_difference"] < max(1e-5, value["largest_step_of_loss"]):
        raise SystemExit("the two arms do not train the same")
    if options.dry:
        return
    from tests.benchmarks.evidence import record

    record(
        "train",
        "train-8",
        f"Samples a second of {options.processes} GPUs against one: {EPOCHS} epochs over {arm.count} samples "
        f"of 1-2k tokens, 8B, bfloat16, {arm.batch} rows a step, prefixes included",
        value,
        f"ratio >= {BAR * options.processes:g}",
        value["ratio"] >= BAR * options.processes,
        "one process on one of the GPUs, same steps over the same samples, same command",
        f"python -m tests.benchmarks.train_parallel --processes {options.processes} --device cuda",
    )


if __name__ == "__main__":
    main()
