"""A library with re-uploads, scaled copies and relatives of one adapter: which is found as what."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.converters import oracle
from zoo.inspection.factors import read_factors
from zoo.inspection.likeness import Likeness, compare
from zoo.models import BaseModel

Make = Callable[..., Path]
Weights = dict[str, torch.Tensor]


def random(weights: Weights, seed: int) -> Weights:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in weights.items()}


def turned(weights: Weights) -> Weights:
    """The same update under other factors."""
    made = dict(weights)
    for name in (name for name in weights if "lora_A" in name):
        turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3))).Q * 2
        made[name] = turn @ weights[name]
        b = name.replace("lora_A", "lora_B")
        made[b] = weights[b] @ torch.linalg.inv(turn)
    return made


def nudged(weights: Weights) -> Weights:
    """Trained on a little from the same start."""
    return {n: t + 0.15 * random({n: t}, 9)[n] for n, t in weights.items()}


def b_mixed(weights: Weights) -> Weights:
    """The same directions in other proportions."""
    mix = torch.randn(4, 4, generator=torch.Generator().manual_seed(5)) + torch.diag(
        torch.tensor([4.0, -4, 4, -4])
    )
    return {n: t @ mix if "lora_B" in n else t for n, t in weights.items()}


@pytest.fixture
def library(make_adapter: Make, tmp_path: Path) -> Path:
    def make(name: str, **settings: object) -> Path:
        return make_adapter(f"library/{name}", **settings)

    subject = oracle.edit_weights(make("subject"), lambda weights: random(weights, 1))
    weights = load_file(subject / "adapter_model.safetensors")
    changes: dict[str, Callable[[Weights], Weights]] = {
        "turned": turned,
        "half": lambda w: {n: t.bfloat16() for n, t in w.items()},
        "scaled": lambda w: {n: t * 0.5 if "lora_B" in n else t for n, t in w.items()},
        "nudged": nudged,
        "mixed": b_mixed,
        "other": lambda w: random(w, 2),
        "negative": lambda w: {n: -t if "lora_B" in n else t for n, t in w.items()},
    }
    for name, change in changes.items():
        made = change(weights)
        oracle.edit_weights(make(name), lambda _, made=made: made)  # type: ignore[misc]
    oracle.edit_config(make("rescaled"), lora_alpha=16)
    oracle.edit_weights(
        tmp_path / "library" / "rescaled",
        lambda _: {n: t / 2 if "lora_A" in n else t for n, t in weights.items()},
    )
    narrow = make("fewer", target_modules=["q_proj"])
    oracle.edit_weights(narrow, lambda own: {name: weights[name] for name in own})
    oracle.edit_weights(make("silent"), lambda _: {n: t * 0 for n, t in weights.items()})
    (make("broken") / "adapter_model.safetensors").write_bytes(b"no")
    return tmp_path / "library"


def test_what_is_found(library: Path) -> None:
    found = {one.folder.name: one for one in compare(read_factors(library / "subject"), library)}
    assert {name: one.verdict for name, one in found.items()} == {
        "turned": "same update",
        "half": "same update",
        "rescaled": "same update",
        "scaled": "scaled copy",
        "negative": "scaled copy",
        "nudged": "near-duplicate",
        "mixed": "same directions",
        "other": "unrelated",
        "fewer": "unrelated",
        "silent": "unrelated",
        "broken": "not compared",
    }
    assert found["scaled"].cosine == pytest.approx(1)
    assert found["scaled"].distance == pytest.approx(0.5)
    assert found["negative"].cosine == pytest.approx(-1)
    assert found["turned"].distance < 1e-5
    assert 1e-4 < found["half"].distance < 5e-3
    assert found["mixed"].directions == pytest.approx(1)
    assert found["fewer"].shared == 2
    assert "different modules" in found["fewer"].reason
    assert "too short" in found["broken"].reason


def test_numbers_are_those_of_the_dense_updates(library: Path, tiny_base: BaseModel) -> None:
    mine, other = (oracle.deltas(tiny_base, library / name) for name in ("subject", "nudged"))
    product = sum(float((mine[path] * other[path]).sum()) for path in mine)
    sizes = [sum(float(delta.square().sum()) for delta in deltas.values()) for deltas in (mine, other)]
    off = sum(float((mine[path] - other[path]).square().sum()) for path in mine)
    found = next(
        one for one in compare(read_factors(library / "subject"), library) if one.folder.name == "nudged"
    )
    assert found.cosine == pytest.approx(product / (sizes[0] * sizes[1]) ** 0.5, rel=1e-5)
    assert found.distance == pytest.approx((off / sizes[0]) ** 0.5, rel=1e-5)


def test_the_most_alike_come_first_and_what_failed_last(library: Path) -> None:
    order = [one.verdict for one in compare(read_factors(library / "subject"), library)]
    assert order[:3] == ["same update"] * 3
    assert order[-1] == "not compared"


def test_a_base_of_another_size_is_another_base(library: Path, tmp_path: Path) -> None:
    from tests.conftest import build_adapter, build_tiny_base
    from zoo.models import resolve

    wide = resolve(str(build_tiny_base(tmp_path / "wide", hidden=64)))
    build_adapter(wide, tmp_path / "elsewhere" / "wide")
    (found,) = compare(read_factors(library / "subject"), tmp_path / "elsewhere")
    assert (found.verdict, "another base" in found.reason) == ("unrelated", True)
    assert found.to_document()["distance"] is None
    assert isinstance(found, Likeness)
