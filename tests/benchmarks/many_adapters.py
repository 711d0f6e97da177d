"""conformance-2: many adapters in one `zoo validate`, against single runs, and against one by one.

    python -m tests.benchmarks.many_adapters [--adapters 32] [--singles 32] [--one-by-one 32] [--device cuda]

Every adapter is a release of its own (rank 16 on q, k, v) whose samples are the same long prompts. Whole
processes are measured, imports and loading included. `--singles` and `--one-by-one` say how many adapters
the slow sides really run; the rest is counted at their mean, and the record says so.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.child import Run, run
from tests.benchmarks.evidence import record
from tests.validators.releases import GOOD
from zoo.converters.release_folder import write_release
from zoo.models import DEFAULT, BaseModel, resolve
from zoo.prompts import Prompter
from zoo.specs.release import InvocationSpec, Message, ReleaseSpec
from zoo.validators.bases import Bases
from zoo.validators.validate import Settings, Validation

INVOCATION = "<|im_start|>check\n"
RANK = 16
PROMPTS = 8  # long ones; a short one comes with them
MIN_RATIO_SINGLE, MIN_RATIO_PEFT, MAX_MEMORY = 15.0, 3.0, 1.1
# the command's own main, and at its end what the GPU held at most
COMMAND = """
import os, sys
from zoo.cli import main
try:
    main()
finally:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        print("peak", torch.cuda.max_memory_allocated(), file=open(os.environ["PEAK_FILE"], "w"))
"""


def long_samples(prompter: Prompter, tokens: int, count: int = PROMPTS) -> list[list[Message]]:
    """Conversations of about so many tokens, each with its own text."""
    samples = []
    for number in range(count):
        lines = (f"Entry {number}.{line}: the keeper rowed over in fair weather." for line in range(tokens))
        ids = prompter.encode(" ".join(lines))[: tokens - 40]
        samples.append([Message(role="user", content=prompter.decode(ids))])
    return samples


def make_adapter(folder: Path, base: BaseModel, samples: list[list[Message]], seed: int) -> Path:
    """A release with random, clearly effective factors."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    weights, targets = {}, ("q_proj", "k_proj", "v_proj")
    for path, (out, into) in base.linears.items():
        if path.endswith(targets):
            scale = into**-0.5
            weights[f"base_model.model.{path}.lora_A.weight"] = (
                torch.randn(RANK, into, generator=generator) * scale
            )
            weights[f"base_model.model.{path}.lora_B.weight"] = (
                torch.randn(out, RANK, generator=generator) * 0.3
            )
    folder.mkdir(parents=True)
    spec = ReleaseSpec(
        name=f"adapter-{seed:02d}",
        base=base.reference(),
        invocation=InvocationSpec(text=INVOCATION),
        samples=samples,
    )
    write_release(
        folder,
        weights=weights,
        rank=RANK,
        targets=targets,
        spec=spec,
        base=base,
        invocation_ids=Prompter(base).encode(INVOCATION),
        behaviour=GOOD,
    )
    return folder


def validate(folders: list[Path], options: argparse.Namespace) -> tuple[Run, int]:
    """One `zoo validate`, and the GPU's peak in bytes; every adapter must be judged, none may be skipped."""
    arguments = [
        "--prompts",
        str(options.long_prompts + 1),
        "--device",
        options.device,
        "--dtype",
        options.dtype,
    ]
    if options.base:
        arguments += ["--base", options.base]
    with tempfile.NamedTemporaryFile("r", suffix=".peak") as peak:
        os.environ["PEAK_FILE"] = peak.name
        done = run(
            [sys.executable, "-c", COMMAND, "validate", *map(str, folders), *arguments, "--json", "-q"]
        )
        words = peak.read().split()
    reports = json.loads(done.stdout)
    reports = reports if isinstance(reports, list) else [reports]
    assert len(reports) == len(folders)
    for report in reports:
        bad = {r["code"]: r["outcome"] for r in report["results"]
               if r["outcome"]["kind"] in ("skipped", "crashed")}  # fmt: skip
        # in half precision the next tokens of a random model can all be ties, which decides nothing
        ties = {"ZP002"} if options.dtype != "float32" else set()
        assert report["status"] == "passed" or set(bad) <= ties, (report["status"], bad)
    return done, int(words[1]) if words else 0


def one_by_one(folders: list[Path], options: argparse.Namespace) -> tuple[float, float]:
    """The same comparisons adapter by adapter through PEFT: seconds of loading the base, and of an adapter.

    The base is loaded once; everything else that an adapter needs of it is computed for each adapter again,
    and what was shown on one does not hold for another. The very same checks run on the same prompts.
    """
    bases = Bases()
    settings = Settings(
        base=options.base, device=options.device, dtype=options.dtype, prompts=options.long_prompts + 1
    )
    begin = time.perf_counter()
    context = Validation.open(folders[0], settings, bases=bases).context
    context.known_base.weights_sha256  # noqa: B018 - read once, whatever the number of adapters
    rig = context.session.rig
    rig.copy_weights()
    rig.whole(range(3, 35))  # the first call also warms up kernels
    loading, seconds = time.perf_counter() - begin, []
    for folder in folders:
        rig.shown.on.clear()
        rig._held.clear()
        begin = time.perf_counter()
        validation = Validation.open(folder, settings, bases=bases)
        report = validation.report(list(validation))
        validation.close()
        seconds.append(time.perf_counter() - begin)
        assert report.status() != "failed"
    return loading, sum(seconds) / len(seconds)


def main() -> None:
    """Measures, prints each step, and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--adapters", type=int, default=32)
    parser.add_argument("--singles", type=int, default=32, help="how many single runs are really made")
    parser.add_argument("--one-by-one", type=int, default=32, help="how many go through PEFT one by one")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--long-prompts", type=int, default=PROMPTS)
    parser.add_argument("--base", default="", help="a model folder; the embedded base when left out")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    base = resolve(options.base or DEFAULT)
    with tempfile.TemporaryDirectory(prefix="adapters-") as name:
        samples = long_samples(Prompter(base), options.tokens, options.long_prompts)
        folders = [make_adapter(Path(name) / f"a{n:02d}", base, samples, n) for n in range(options.adapters)]
        validate(folders[:1], options)  # reads every file once, so that no side pays for cold storage
        together, gpu_all = validate(folders, options)
        print(f"together: {together.wall_seconds:.1f} s, {together.peak_mib:.0f} MiB", flush=True)
        singles = []
        for folder in folders[: options.singles]:
            singles.append(validate([folder], options))
            last = singles[-1][0]
            print(f"single: {last.wall_seconds:.1f} s, {last.peak_mib:.0f} MiB", flush=True)
        loading, alone = one_by_one(folders[: options.one_by_one], options)
        print(f"one by one: {loading:.1f} s, then {alone:.1f} s an adapter", flush=True)
    save(options, together, gpu_all, singles, (loading, alone))


def save(
    options: argparse.Namespace,
    together: Run,
    gpu_all: int,
    singles: list[tuple[Run, int]],
    one_by_one_seconds: tuple[float, float],
) -> None:
    """Puts the figure into the evidence."""
    loading, alone = one_by_one_seconds
    count, device = options.adapters, options.device.partition(":")[0]
    single = sum(one.wall_seconds for one, _ in singles) / len(singles)
    memory = (
        gpu_all / max(peak for _, peak in singles)
        if gpu_all
        else together.peak_mib / max(one.peak_mib for one, _ in singles)
    )
    value: dict[str, Any] = {
        "adapters": count,
        "together_seconds": round(together.wall_seconds, 1),
        "single_seconds": round(single, 1),
        "single_runs_made": len(singles),
        "times_less_than_single_runs": round(count * single / together.wall_seconds, 2),
        "one_by_one_seconds_an_adapter": round(alone, 1),
        "one_by_one_runs_made": options.one_by_one,
        "times_less_than_one_by_one": round((loading + count * alone) / together.wall_seconds, 2),
        "peak_memory_against_one_adapter": round(memory, 3),
    }
    met = (
        value["times_less_than_single_runs"] >= MIN_RATIO_SINGLE
        and value["times_less_than_one_by_one"] >= MIN_RATIO_PEFT
        and memory <= MAX_MEMORY
    )
    where = Path(options.base).name if options.base else DEFAULT
    record(
        "conformance",
        "conformance-2" + ("" if device == "cpu" else f"-{device}") + (f"-{where}" if options.base else ""),
        f"{count} adapters (r {RANK}, q/k/v) on {where} in {options.dtype}, {options.long_prompts} prompts "
        f"of {options.tokens} tokens and a short one, on {device}: one zoo validate of all against single "
        "runs, and against the same comparisons adapter by adapter through PEFT with the base loaded once",
        value,
        f">= {MIN_RATIO_SINGLE:g}x and >= {MIN_RATIO_PEFT:g}x less time; peak memory <= {MAX_MEMORY}x",
        met,
        "single zoo validate runs, and adapters one by one through PEFT on a loaded base, in the same run",
        f"python -m tests.benchmarks.many_adapters --adapters {count} --singles {len(singles)} "
        f"--one-by-one {options.one_by_one} --long-prompts {options.long_prompts} --device {device} "
        f"--dtype {options.dtype}" + (f" --base {where}" if options.base else ""),
        note="wall time of whole processes, imports and loading included; runs not made are counted at the "
        "mean of those made",
    )


if __name__ == "__main__":
    main()
