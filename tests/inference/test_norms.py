import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from zoo.inference.merged import shell
from zoo.inference.norms import fuse_norms
from zoo.models import BaseModel, Dtype, load_model

Family = Callable[[str], tuple[BaseModel, Path]]
IDS = torch.tensor([[5, 9, 300, 41, 77]])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "norms"), [("llama", 5), ("qwen3", 9), ("granite", 5), ("gpt2", 0)])
def test_norms_are_replaced_and_the_model_computes_the_same(
    family: Family, name: str, norms: int, dtype: Dtype
) -> None:
    torch.manual_seed(0)
    model = load_model(family(name)[0], dtype=dtype)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data.uniform_(0.5, 2.0)
    fused = shell(model)
    assert fuse_norms(fused) == norms
    exact = copy.deepcopy(model).double()
    with torch.no_grad():
        wanted, own, found = (one(IDS).logits.double() for one in (exact, model, fused))
    # as near to the truth as the model's own norms are
    assert float((found - wanted).abs().max()) <= 2 * float((own - wanted).abs().max())
    kept = {id(parameter) for parameter in model.parameters()}
    assert all(id(parameter) in kept for parameter in fused.parameters())
    assert not any(isinstance(module, torch.nn.RMSNorm) for module in model.modules())


def test_a_norm_with_another_formula_stays(family: Family) -> None:
    model = shell(load_model(family("gemma2")[0]))  # Gemma multiplies by one plus the weight
    assert fuse_norms(model) == 0
