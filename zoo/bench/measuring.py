"""All arms' adapters measured by one evaluator on the same held-out samples, in a process of its own."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.bench.job import Job
from zoo.bench.outcome import WEIGHTS_NAME

if TYPE_CHECKING:
    from peft import PeftModel

MEASURED_NAME = "measured.json"


def measure(job: Job, folders: Sequence[Path]) -> dict[str, list[float]]:
    """Which held-out samples each adapter answers as expected.

    Args:
        job: what was trained.
        folders: of arms, by whose names the results go.

    Returns:
        By folder name, 1.0 or 0.0 a sample; `base` is the model without an adapter.
    """
    from zoo.evaluation.answers import answer_all, choices
    from zoo.training.prefix import PrefixStore
    from zoo.training.train import new_adapter

    plan = job.plan()
    model = new_adapter(plan, device=job.device, dtype=job.dtype)
    held_out = PrefixStore(model, plan.parts.held_out)  # base's own prefixes: the same for all adapters
    expected = [sample.answer for sample in plan.parts.held_out]
    options = choices([*expected, *(sample.answer for sample in plan.parts.train)])

    def right(*, adapted: bool) -> list[float]:
        given = answer_all(held_out, options, adapted=adapted)
        return [float(one == wanted) for one, wanted in zip(given, expected, strict=True)]

    found = {"base": right(adapted=False)}
    for folder in folders:
        _load(model, folder)
        found[folder.name] = right(adapted=True)
    return found


def _load(model: "PeftModel", folder: Path) -> None:
    from peft.utils import set_peft_model_state_dict
    from safetensors.torch import load_file

    set_peft_model_state_dict(model, load_file(folder / WEIGHTS_NAME))


def main(arguments: Sequence[str]) -> None:
    """Measures the adapters in the folders that the arguments name, job and target first."""
    found = measure(Job.read(Path(arguments[0])), [Path(one) for one in arguments[2:]])
    Path(arguments[1]).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
