"""The sum of several adapters against the sum of PEFT's own updates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.converters import foreign, oracle
from zoo.converters.checkpoint import ReadOptions
from zoo.converters.concat import concat, parse_weights
from zoo.converters.fold import fold
from zoo.converters.readers import read_checkpoint
from zoo.converters.source import Source
from zoo.converters.survey import survey
from zoo.errors import UsageError
from zoo.models import BaseModel, load_model

Make = Callable[..., Path]
IDS = [1, 300, 2]


def random_adapter(make: Make, name: str, seed: int, **settings: object) -> Path:
    def fresh(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return {key: torch.randn(tensor.shape, generator=generator) for key, tensor in weights.items()}

    return oracle.edit_weights(make(name, **settings), fresh)


@pytest.fixture
def folders(make_adapter: Make) -> list[Path]:
    return [
        random_adapter(make_adapter, "a", 1, r=4),
        random_adapter(make_adapter, "b", 2, r=3, use_rslora=True, target_modules=["q_proj", "up_proj"]),
    ]


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.5, -2.0), (1.0, 0.3)])
def test_the_sum_is_exact(weights: tuple[float, float], folders: list[Path], tiny_base: BaseModel) -> None:
    checkpoints = [read_checkpoint(Source.open(folder), tiny_base) for folder in folders]
    folded = fold(concat(checkpoints, weights), tiny_base.linears)
    assert folded.rank == 7
    assert folded.fold_error < 1e-6
    parts = [oracle.deltas(tiny_base, folder) for folder in folders]
    prefix = "base_model.model."
    found = {
        name.removeprefix(prefix).removesuffix(".lora_A.weight"): folded.weights[
            name.replace("lora_A", "lora_B")
        ].double()
        @ tensor.double()
        for name, tensor in folded.weights.items()
        if "lora_A" in name
    }
    wanted = {}
    for path in set(parts[0]) | set(parts[1]):
        there = [(w, part[path]) for w, part in zip(weights, parts, strict=True) if path in part]
        wanted[path] = torch.stack([w * delta for w, delta in there]).sum(0)
    assert oracle.worst(found, wanted) < 1e-6
    # the control: with the weights exchanged it is another sum
    if weights[0] != weights[1]:
        swapped = fold(concat(checkpoints, weights[::-1]), tiny_base.linears)
        name = f"{prefix}model.layers.0.self_attn.q_proj.lora_B.weight"
        assert not torch.allclose(swapped.weights[name], folded.weights[name], rtol=0.1)


def test_a_sum_of_half_precision_stays_half_precision_where_that_is_exact(
    make_adapter: Make, tiny_base: BaseModel
) -> None:
    folders = [random_adapter(make_adapter, name, seed) for name, seed in (("a", 1), ("b", 2))]
    for folder in folders:
        oracle.edit_weights(folder, lambda weights: {n: t.bfloat16() for n, t in weights.items()})
    checkpoints = [read_checkpoint(Source.open(folder), tiny_base) for folder in folders]
    assert fold(concat(checkpoints, (1.0, 0.5)), tiny_base.linears).dtype == "bfloat16"
    assert fold(concat(checkpoints, (1.0, 0.3)), tiny_base.linears).dtype == "float32"


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter:UserWarning")
def test_a_chain_of_loras_is_the_sum_of_its_links(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    """Chain of LoRA: each link is trained over the base into which the ones before it were merged."""
    from peft import PeftModel

    links = [
        random_adapter(make_adapter, name, seed, r=seed) for name, seed in (("a", 2), ("b", 3), ("c", 4))
    ]
    model: Any = load_model(tiny_base)
    for link in links:
        model = PeftModel.from_pretrained(model, link).merge_and_unload()
    original: Any = load_model(tiny_base)
    checkpoints = [read_checkpoint(Source.open(link), tiny_base) for link in links]
    found = fold(concat(checkpoints, (1.0, 1.0, 1.0)), tiny_base.linears)
    assert found.rank == 9
    names = [name for name in found.weights if "lora_A" in name]
    assert names
    for name in names:
        path = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        before, after = (m.get_submodule(path).weight.detach().double() for m in (original, model))
        update = found.weights[name.replace("lora_A", "lora_B")].double() @ found.weights[name].double()
        assert float((update - (after - before)).norm()) < 1e-6 * float(update.norm() + before.norm())
        assert float((update - (after - before) / 2).norm()) > 0.1 * float(update.norm())


def test_what_the_plan_says(folders: list[Path], tiny_base: BaseModel) -> None:
    joined = concat([read_checkpoint(Source.open(folder), tiny_base) for folder in folders], (1.0, 0.5))
    assert joined.format == "peft + peft"
    assert {name.partition("/")[0] for name in joined.digests} == {"1", "2"}
    assert any("weights 1, 0.5" in note for note in joined.notes)
    assert any("measure it" in warning for warning in joined.warnings)


def test_aloras_with_two_invocations_are_no_alora(make_adapter: Make, tiny_base: BaseModel) -> None:
    one = make_adapter("a", alora_invocation_tokens=IDS)
    other = make_adapter("b", alora_invocation_tokens=[1, 301, 2])
    plain = make_adapter("c")
    read = {folder: read_checkpoint(Source.open(folder), tiny_base) for folder in (one, other, plain)}
    with pytest.raises(UsageError, match="invocations"):
        concat([read[one], read[other]], (1.0, 1.0))
    joined = concat([read[plain], read[one]], (1.0, 1.0))
    assert joined.invocation == read[one].invocation
    assert any("plain LoRAs" in warning for warning in joined.warnings)


def test_one_adapter_is_no_sum(folders: list[Path], tiny_base: BaseModel) -> None:
    with pytest.raises(UsageError, match="two"):
        concat([read_checkpoint(Source.open(folders[0]), tiny_base)], (1.0,))


@pytest.mark.parametrize("text", ["1", "1,2,3", "1,x", "1,nan", ","])
def test_weights_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_weights(text, 2)
    assert parse_weights("", 2) == (1.0, 1.0)
    assert parse_weights("0.5,-1e-3", 2) == (0.5, -0.001)


def test_a_sum_with_a_part_that_is_only_approximated_says_so(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    dora = foreign.mlx_dora(tiny_base, tmp_path / "dora")
    parts = [
        read_checkpoint(Source.open(dora.path), tiny_base, ReadOptions(max_error=0.2)),
        read_checkpoint(Source.open(random_adapter(make_adapter, "a", 1)), tiny_base),
    ]
    assert max(survey(concat(parts, (1.0, 1.0))).errors) > 0.01
    assert not survey(concat([parts[1], parts[1]], (1.0, 1.0))).errors
