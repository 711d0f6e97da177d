"""main-2: our reference against PEFT on SmolLM2 in float32, with a strong random adapter and with real ones.

python -m tests.benchmarks.reference_parity [--adapter FOLDER ...]
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
from zoo.validators.conformance.difference import worst
from zoo.validators.conformance.evidence import PromptEvidence
from zoo.validators.conformance.tolerance import PARITY_FLOAT32, chunking_noise

STRENGTH = 0.05  # of the random factors: it moves log-probabilities after the invocation by about a nat


def measure(folder: Path, base: BaseModel) -> tuple[list[PromptEvidence], float]:
    """Every prompt's evidence on one adapter, and the base's own chunking noise in nats."""
    session = Context(repo=AdapterRepo.open(folder), base=base).session
    return session.evidence, chunking_noise(session.evidence, session.model.dtype).measured


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
    notes = []
    for name, (evidence, noise) in found.items():
        parity = worst(one.full.parity for one in evidence).max_abs
        effect = worst(one.full.effect for one in evidence).max_abs
        tokens = sum(len(one.prompt.ids) for one in evidence)
        notes.append(
            f"{name}: {parity:.2e} over {len(evidence)} prompts of {tokens} tokens, "
            f"effect {effect:.3g}, base's own chunking noise {noise:.2e}"
        )
    everything = [one for evidence, _ in found.values() for one in evidence]
    value = worst(one.full.parity for one in everything).max_abs
    exact = all(one.full.drift is None and one.full.kv is None for one in everything)
    powerful = all(one.full.plain_drift is not None and one.full.plain_kv is not None for one in everything)
    effective = min(one.full.effect.max_abs for one in everything) > PARITY_FLOAT32
    record(
        "main",
        "main-2",
        "Largest log-probability difference between zoo's reference and PEFT after the invocation, SmolLM2, "
        "float32; before it, logits and KV are the base's bit for bit.",
        value,
        f"<= {PARITY_FLOAT32:g} after the invocation; exactly the base before it",
        value <= PARITY_FLOAT32 and exact and powerful and effective,
        "PEFT under its own activation rule, and the pristine base, at identical shapes",
        "python -m tests.benchmarks.reference_parity"
        + "".join(f" --adapter {folder}" for folder in wanted if not folder.is_absolute()),
        note="; ".join(
            [*notes, f"bitwise before: {exact}; as a plain LoRA that comparison fails: {powerful}"]
        ),
    )


if __name__ == "__main__":
    main()
