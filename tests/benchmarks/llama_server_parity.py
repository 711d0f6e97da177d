"""conformance-5: the real llama-server against zoo's reference on SmolLM2, under its known activation.

python -m tests.benchmarks.llama_server_parity [--adapter FOLDER ...]
"""

import argparse
import tempfile
from pathlib import Path

from tests.benchmarks.evidence import record
from tests.conftest import INVOCATION_TEXT, build_adapter
from zoo.adapter import AdapterRepo
from zoo.models import DEFAULT, BaseModel, resolve
from zoo.prompts import Prompter
from zoo.validators.check import Context
from zoo.validators.conformance.engines import judging
from zoo.validators.conformance.engines.expectation import RULE
from zoo.validators.conformance.engines.kinds import Setting, kind_of
from zoo.validators.conformance.engines.measuring import EngineEvidence, measure_engine

STRENGTH = 0.05  # of the random factors: it moves log-probabilities after the invocation by about a nat
BAR = 1e-3
WEIGHTS = ("f32", "f16", "shipped")


def measure(folder: Path, base: BaseModel) -> dict[str, EngineEvidence]:
    """One adapter in llama-server, by the kind of the base's weights; KV is float32 in all."""
    context = Context(repo=AdapterRepo.open(folder), base=base)
    found = {}
    for weights in WEIGHTS:
        setting = Setting(base=base, repo=context.repo, options={"gguf-type": weights})
        engine = kind_of("llama-server").open(setting)
        try:
            found[weights] = measure_engine(engine, context.session, exact=weights == "f32")
        finally:
            engine.close()
    return found


def parity(evidence: EngineEvidence) -> float:
    """Largest difference to the reference under the server's known activation, in nats."""
    return max(probe.known for probe in evidence.probes)


def unshifted(evidence: EngineEvidence) -> float:
    """Smallest difference to the reference under the rule itself, in nats."""
    return min(probe.distances[RULE] for probe in evidence.probes)


def described(name: str, weights: str, evidence: EngineEvidence) -> str:
    """What else was measured in one run, in nats."""
    probes, handed = evidence.probes, evidence.handed
    after = "; ".join(f"{history.value} {apart:.2g}" for history, apart in evidence.histories.items())
    return (
        f"{name}, {weights}: with the shift {parity(evidence):.2g}, the base alone "
        f"{judging.base_noise(evidence):.2g}, without the shift {unshifted(evidence):.2g} to "
        f"{max(probe.distances[RULE] for probe in probes):.2g}, effect up to "
        f"{max(probe.effect for probe in probes):.2g}, over {len(probes)} questions; after the base's prefix "
        f"{max(one.apart for one in handed):.2g} from cold, {sum(one.reused or 0 for one in handed)} of "
        f"{sum(one.prefix for one in handed)} tokens reused; warm against cold: {after}"
    )


def main() -> None:
    """Measures and records."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--adapter", action="append", type=Path, default=[], help="also this aLoRA on SmolLM2"
    )
    wanted: list[Path] = parser.parse_args().adapter
    base = resolve(DEFAULT)
    with tempfile.TemporaryDirectory() as scratch:
        strong = build_adapter(
            base,
            Path(scratch) / "random-r32",
            strength=STRENGTH,
            r=32,
            lora_alpha=32,
            alora_invocation_tokens=list(Prompter(base).encode(INVOCATION_TEXT)),
        )
        found = {"random-r32": measure(strong, base)}
    found.update({folder.name: measure(folder, base) for folder in wanted})
    runs = {weights: [kinds[weights] for kinds in found.values()] for weights in WEIGHTS}
    value = {weights: max(map(parity, several)) for weights, several in runs.items()}
    without = min(map(unshifted, runs["f32"]))
    notes = [
        described(name, weights, evidence)
        for name, kinds in found.items()
        for weights, evidence in kinds.items()
    ]
    installed = kind_of("llama-server").find()
    server = f"llama-server from {installed.place} {installed.version}" if installed else ""
    record(
        "conformance",
        "conformance-5",
        "Largest log-probability difference, in nats, between the real llama-server and zoo's reference "
        "under the server's one-token-early start; SmolLM2-135M-Instruct, float32 weights and KV, at the end "
        "of prompts and after one to three tokens more. f16 and the shipped Q4_1 weights are reported.",
        {**value, "f32_without_the_shift": without},
        f"<= {BAR:g} in f32 with the shift; without it, above {BAR:g} on every question",
        value["f32"] <= BAR < without,
        "zoo's reference over the pristine base, the same questions",
        "python -m tests.benchmarks.llama_server_parity"
        + "".join(f" --adapter {folder}" for folder in wanted if not folder.is_absolute()),
        note="; ".join([server, *notes]),
    )


if __name__ == "__main__":
    main()
