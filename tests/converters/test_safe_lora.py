"""Safe LoRA against the paper's formulas written out densely."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from zoo.converters import alignment
from zoo.converters.alignment import AlignedPair
from zoo.converters.base_weights import open_base_weights
from zoo.converters.safe_lora import Projection, document, effects, measure, project
from zoo.errors import RefusedError, UsageError

PATHS = {"model.layers.0.self_attn.q_proj": (24, 40), "model.layers.1.mlp.down_proj": (40, 24)}
Make = Callable[..., AlignedPair]


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def factors(path: str) -> tuple[torch.Tensor, torch.Tensor]:
    out, wide = PATHS[path]
    return random(1, 4, wide), random(2, out, 4)


MODULES = {path: (lambda path=path: factors(path)) for path in PATHS}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Two checkpoints whose difference has standard deviation `size`, or the given matrices."""

    def pair(
        size: float = 0.1, *, transposed: bool = False, rank: int = 0, dtype: torch.dtype = torch.float32
    ) -> AlignedPair:
        base = {f"{path}.weight": random(9, *shape) for path, shape in PATHS.items()}
        changed = {}
        for name, weight in base.items():
            step = random(5, *weight.shape) * size
            if rank:
                step = random(5, weight.shape[0], rank) @ random(6, rank, weight.shape[1]) * size
            changed[name] = weight + step
        for folder, content in (("unaligned", base), ("aligned", changed)):
            (tmp_path / folder).mkdir(exist_ok=True)
            stored = {n: (t.T if transposed else t).contiguous().to(dtype) for n, t in content.items()}
            save_file(stored, tmp_path / folder / "model.safetensors")
        return AlignedPair(
            aligned=open_base_weights(str(tmp_path / "aligned")),
            unaligned=open_base_weights(str(tmp_path / "unaligned")),
            transposed=transposed,
        )

    return pair


def dense_difference(pair: AlignedPair, path: str) -> torch.Tensor:
    names = f"{path}.weight"
    step = pair.aligned.tensor(names).double() - pair.unaligned.tensor(names).double()
    return step.T if pair.transposed else step


def dense_map(pair: AlignedPair, path: str, rank: int | None) -> torch.Tensor:
    v = dense_difference(pair, path)
    if rank is None:
        return v @ v.T / v.norm()
    u = torch.linalg.svd(v).U[:, :rank]
    return u @ u.T


@pytest.mark.parametrize("held", [True, False], ids=["held", "read again"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("rank", [None, 3])
def test_cosine_ratio_and_projection_are_the_dense_ones(
    rank: int | None, transposed: bool, held: bool, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "BLOCK_BYTES", 700)  # several blocks, the last one shorter
    if not held:
        monkeypatch.setattr(alignment, "HELD_BYTES", 0)
    pair = make(transposed=transposed, rank=3 if rank else 0)
    projection = Projection(rank=rank, threshold=1.0)
    found = measure(MODULES, pair, projection)
    prefix = "base_model.model."
    weights: dict[str, torch.Tensor] = {}
    for path in PATHS:
        a, b = factors(path)
        weights |= {f"{prefix}{path}.lora_A.weight": a, f"{prefix}{path}.lora_B.weight": b}
    changed = project(weights, PATHS, pair, projection)
    for path in PATHS:
        a, b = (factor.double() for factor in factors(path))
        wanted = dense_map(pair, path, rank) @ b @ a
        update = b @ a
        cosine = float((wanted * update).sum() / (wanted.norm() * update.norm()))
        assert found[path].cosine == pytest.approx(cosine, abs=1e-5)
        assert found[path].ratio == pytest.approx(float(wanted.norm() / update.norm()), rel=1e-4)
        made = changed[f"{prefix}{path}.lora_B.weight"].double() @ a
        assert float((made - wanted).norm() / wanted.norm()) < 1e-5
        assert torch.equal(changed[f"{prefix}{path}.lora_A.weight"], weights[f"{prefix}{path}.lora_A.weight"])
        # the control: the other map is another
        other = dense_map(pair, path, 3 if rank is None else None) @ b @ a
        assert float((made - other).norm() / other.norm()) > 1e-2


def test_the_papers_map_scales_with_the_difference_and_a_projector_does_not(make: Make) -> None:
    path = next(iter(PATHS))
    ratios, cosines = [], []
    for size in (1e-3, 1e-1):
        one = measure(MODULES, make(size), Projection())[path]
        ratios.append(one.ratio)
        cosines.append(one.cosine)
    assert ratios[1] / ratios[0] == pytest.approx(100, rel=0.01)
    assert cosines[0] == pytest.approx(cosines[1], abs=1e-4)
    true = [measure(MODULES, make(size), Projection(rank=8))[path].ratio for size in (1e-3, 1e-1)]
    assert true[0] == pytest.approx(true[1], rel=1e-3)


def test_a_projector_onto_everything_changes_nothing(make: Make) -> None:
    found = measure(MODULES, make(), Projection(rank=64))
    wide, tall = found.values()
    assert [wide.energy, tall.energy, wide.cosine, wide.ratio] == pytest.approx([1, 1, 1, 1])
    assert tall.ratio < 0.9  # 24 directions are not all of 40
    found = {"wide": wide}
    assert any("hardly changes" in line for line in effects(found, found, Projection(rank=64)))


def test_where_alignment_changed_nothing_nothing_is_left(make: Make) -> None:
    for rank in (None, 4):
        found = measure(MODULES, make(0.0), Projection(rank=rank))
        assert all((one.cosine, one.ratio) == (0.0, 0.0) for one in found.values())


def test_which_modules_are_chosen() -> None:
    cosines = {"a": 0.7, "b": 0.500001, "c": 0.4, "d": 0.9}
    assert Projection(threshold=0.5).chosen(cosines) == ["c", "b"]  # the paper's code rounds to 5 digits
    assert Projection(threshold=0.49).chosen(cosines) == ["c"]
    assert Projection(number=3).chosen(cosines) == ["c", "b", "a"]


def test_models_that_do_not_fit_are_refused(make: Make, tmp_path: Path) -> None:
    pair = make()
    with pytest.raises(RefusedError) as caught:
        pair.difference("model.layers.0.self_attn.q_proj", (40, 24))
    assert caught.value.code == "ZV051"
    with pytest.raises(RefusedError) as caught:
        pair.difference("model.layers.7.self_attn.q_proj", (24, 40))
    assert caught.value.code == "ZV050"


def test_the_record_names_models_and_modules(make: Make) -> None:
    pair, projection = make(), Projection(number=1)
    found = measure(MODULES, pair, projection)
    chosen = projection.chosen({path: one.cosine for path, one in found.items()})
    said = document(pair, projection, found, chosen)
    assert (said["mode"], said["aligned"]["id"], said["unaligned"]["id"]) == ("paper", "aligned", "unaligned")
    assert [path for path, one in said["modules"].items() if one["below"]] == chosen
    assert len(effects(found, chosen, projection)) == 3


@pytest.mark.parametrize("mode", ["", "0", "-3", "half"])
def test_no_such_projection(mode: str) -> None:
    with pytest.raises(UsageError):
        Projection.parse(mode)
