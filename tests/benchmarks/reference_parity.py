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
from zoo.validators.conformance.control import Control
from zoo.validators.conformance.difference import worst
from zoo.validators.conformance.evidence import PromptEvidence
from zoo.validators.conformance.tolerance import PARITY_FLOAT32, chunking_noise

STRENGTH = 0.05  # of the random factors: it moves log-probabilities after the invocation by about a nat


def measure(folder: Path, base: BaseModel) -> tuple[list[PromptEvidence], float, Control]:
    """Every prompt's evidence on one adapter, the base's own chunking noise in nats, and the control."""
    session = Context(repo=AdapterRepo.open(folder), base=base).session
    noise = chunking_noise(session.evidence, session.model.dtype).measured
    return session.evidence, noise, session.control


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
    for name, (evidence, noise, _) in found.items():
        parity = worst(one.parity for one in evidence).max_abs
        effect = worst(one.effect for one in evidence).max_abs
        tokens = sum(len(one.prompt.ids) for one in evidence)
        notes.append(
            f"{name}: {parity:.2e} over {len(evidence)} prompts of {tokens} tokens, "
            f"effect {effect:.3g}, base's own chunking noise {noise:.2e}"
        )
    everything = [one for evidence, _, _ in found.values() for one in evidence]
    controls = [control for _, _, control in found.values()]
    value = worst(one.parity for one in everything).max_abs
    runs = [one.whole for one in everything if one.whole]
    exact = bool(runs) and all(run.drift is None and run.kv is None for run in runs)
    powerful = all(control.plain_drift is not None and control.plain_kv is not None for control in controls)
    effective = min(one.effect.max_abs for one in everything) > PARITY_FLOAT32
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
