"""Libraries of small adapters on one base, made by a seed."""

from pathlib import Path

from tests.conftest import INVOCATION_TEXT
from tests.validators.releases import GOOD
from zoo.converters.release_folder import write_release
from zoo.models import BaseModel
from zoo.prompts import Prompter
from zoo.specs.release import InvocationSpec, ReleaseSpec

TARGETS = ("q_proj", "k_proj", "v_proj")


def build_library(root: Path, base: BaseModel, count: int, *, kinds: int = 1) -> Path:
    """So many releases with random, clearly effective factors; of rank 2, 3, … for further kinds, in turn."""
    import torch

    ids = Prompter(base).encode(INVOCATION_TEXT)
    for number in range(count):
        generator, rank = torch.Generator().manual_seed(number), 2 + number % kinds
        weights = {}
        for path, (out, into) in base.linears.items():
            if path.endswith(TARGETS):
                for side, shape, scale in (("A", (rank, into), into**-0.5), ("B", (out, rank), 0.5)):
                    values = torch.randn(*shape, generator=generator) * scale
                    weights[f"base_model.model.{path}.lora_{side}.weight"] = values
        name = f"adapter-{number:03d}"
        (root / name).mkdir(parents=True)
        write_release(
            root / name,
            weights=weights,
            rank=rank,
            targets=TARGETS,
            spec=ReleaseSpec(
                name=name, base=base.reference(), invocation=InvocationSpec(text=INVOCATION_TEXT)
            ),
            base=base,
            invocation_ids=ids,
            behaviour=GOOD,
        )
    return root
