"""A fine-tuned model against its base: the difference at a rank, and the errors that are said of it."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import INVOCATION_TEXT
from tests.converters import oracle
from zoo.conversion import convert
from zoo.converters.fold import fold
from zoo.converters.readers.extract import extract
from zoo.errors import NotFoundError, RefusedError, UsageError
from zoo.models import BaseModel

NAMES = ("self_attn.q_proj", "mlp.down_proj")


def tune(base: BaseModel, folder: Path, rank: int, *, norms: bool = False) -> dict[str, torch.Tensor]:
    """Saves the base with random updates of a rank, and returns them as they are in the saved weights."""
    shutil.copytree(base.folder, folder)
    path = folder / "model.safetensors"
    weights, updates = load_file(path), {}
    generator = torch.Generator().manual_seed(6)
    for layer in (0, 1):
        for name in NAMES:
            key = f"model.layers.{layer}.{name}.weight"
            before = weights[key].clone()
            b = torch.randn(before.shape[0], rank, generator=generator)
            weights[key] = before + 0.1 * b @ torch.randn(rank, before.shape[1], generator=generator)
            updates[key.removesuffix(".weight")] = weights[key].double() - before.double()
    if norms:
        weights["model.norm.weight"] = weights["model.norm.weight"] * 1.5
    save_file(weights, path, metadata={"format": "pt"})
    return updates


def test_a_change_of_low_rank_comes_out_whole(tiny_base: BaseModel, tmp_path: Path) -> None:
    wanted = tune(tiny_base, tmp_path / "tuned", 3)
    done = convert(
        tmp_path / "tuned", tmp_path / "out", base=tiny_base, invocation_text=INVOCATION_TEXT, extract=3
    )
    assert oracle.worst(oracle.converted_deltas(done.folder), wanted) < 1e-5
    assert done.fold_error < 1e-5


def test_the_error_of_a_lower_rank_is_the_one_that_is_said(tiny_base: BaseModel, tmp_path: Path) -> None:
    wanted = tune(tiny_base, tmp_path / "tuned", 5, norms=True)
    checkpoint = extract(tmp_path / "tuned", tiny_base, rank=2)
    result = fold(checkpoint, tiny_base.linears)
    best = {path: torch.linalg.svdvals(update) for path, update in wanted.items()}
    worst = max(float(s[2:].norm() / s.norm()) for s in best.values())
    total = sum(float(s[2:].norm()) ** 2 for s in best.values()) / sum(
        float(s.norm()) ** 2 for s in best.values()
    )
    assert result.fold_error == pytest.approx(worst, rel=1e-6)
    said = re.search(r"relative error ([\d.]+) of all together, ([\d.]+) of the worst", checkpoint.notes[0])
    assert said is not None
    assert float(said[1]) == pytest.approx(total**0.5, abs=6e-4)
    assert float(said[2]) == pytest.approx(worst, abs=6e-4)
    assert "1 changed tensors" in checkpoint.lost[0]
    assert "5.00e-01 of its norm" in checkpoint.lost[0]


def test_what_is_no_fine_tune_is_refused(tiny_base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as same:
        extract(tiny_base.folder, tiny_base, rank=2)
    assert same.value.code == "ZV016"
    with pytest.raises(NotFoundError, match=r"config\.json"):
        extract(tmp_path, tiny_base, rank=2)
    tune(tiny_base, tmp_path / "tuned", 2)
    path = tmp_path / "tuned" / "model.safetensors"
    weights = load_file(path)
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file({**weights, name: weights[name][:16].clone()}, path)
    with pytest.raises(RefusedError) as other:
        extract(tmp_path / "tuned", tiny_base, rank=2)
    assert other.value.code == "ZV017"
    save_file({**weights, name: weights[name] * torch.nan}, path)
    with pytest.raises(RefusedError) as broken:
        extract(tmp_path / "tuned", tiny_base, rank=2)
    assert broken.value.code == "ZV016"
    with pytest.raises(UsageError, match="tuned from"):
        convert(tmp_path / "tuned", tmp_path / "out", invocation_text="x", extract=2)
