"""Spectra against the singular values of dense updates, and how they are gathered and drawn."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.converters import oracle
from zoo.inspection.factors import read_factors
from zoo.inspection.picture import draw
from zoo.inspection.spectrum import OUTSIDE, Spectrum, by_layer, sparkline, spectra
from zoo.models import BaseModel

Make = Callable[..., Path]


@pytest.mark.parametrize("with_base", [True, False])
def test_the_values_are_those_of_pefts_own_update(
    with_base: bool, make_adapter: Make, tiny_base: BaseModel
) -> None:
    folder = make_adapter(use_rslora=True, rank_pattern={"k_proj": 2}, alpha_pattern={"v_proj": 3})
    oracle.edit_weights(folder, oracle.randomise)
    found = spectra(read_factors(folder, base=str(tiny_base.folder) if with_base else "").modules)
    wanted = oracle.deltas(tiny_base, folder)
    assert set(found) == set(wanted)
    for path, delta in wanted.items():
        values = torch.linalg.svdvals(delta)[: found[path].rank]
        assert np.allclose(found[path].values, values, rtol=1e-5)
        assert found[path].norm == pytest.approx(float(delta.norm()), rel=1e-5)
        assert found[path].rank == (2 if path.endswith("k_proj") else 4)


def test_layers_are_told_by_their_path() -> None:
    one = Spectrum(rank=2, values=(4.0, 2.0), effective_rank=1.5)
    other = Spectrum(rank=1, values=(3.0,), effective_rank=1.0)
    silent = Spectrum(rank=1, values=(), effective_rank=0.0)
    layers = by_layer(
        {
            "lm_head": other,
            "model.layers.10.mlp.up_proj": one,
            "model.layers.2.mlp.up_proj": one,
            "model.layers.2.mlp.down_proj": other,
            "transformer.h.3.attn.c_attn": silent,
        }
    )
    assert [layer.number for layer in layers] == [2, 3, 10, OUTSIDE]
    second = layers[0]
    assert (second.modules, second.largest, second.effective_rank) == (2, 4.0, 1.25)
    assert second.norm == pytest.approx((16 + 4 + 9) ** 0.5)
    assert second.shape == (1.0, 0.25)  # mean of (1, 1/2) and (1, 0)
    assert layers[1].shape == (0.0,)


@pytest.mark.parametrize(
    ("values", "bars"),
    [([1.0, 0.5, 0.0], "█▅▁"), ([], ""), ([1.0] * 64, "█" * 16), ([0.0] * 31 + [1.0], "▁" * 15 + "█")],
)
def test_bars(values: list[float], bars: str) -> None:
    assert sparkline(values) == bars


def test_the_picture_is_a_small_png_and_always_the_same(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    layers = by_layer(
        {
            f"model.layers.{i}.q_proj": Spectrum(rank=2, values=(2.0, 1.0 / (i + 1)), effective_rank=1.2)
            for i in range(3)
        }
    )
    for name in ("a.png", "b.png"):
        draw(tmp_path / name, layers, title="check")
    content = (tmp_path / "a.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 100_000
    assert content == (tmp_path / "b.png").read_bytes()
