"""Conversions that also compose, project, truncate or grow: what is in the folder and what the lock says."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import build_tiny_base
from tests.converters import oracle
from tests.converters.test_concat import random_adapter
from zoo.conversion import convert
from zoo.converters.changes import Changes
from zoo.converters.safe_lora import Projection
from zoo.errors import UsageError
from zoo.models import BaseModel
from zoo.specs.lock import Lock

Make = Callable[..., Path]
TEXT = "<|im_start|>check\n"


def lock(folder: Path) -> Lock:
    return Lock.model_validate(json.loads((folder / "zoo.lock.json").read_text()))


def config(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "adapter_config.json").read_text())
    return content


@pytest.fixture
def source(make_adapter: Make) -> Path:
    return random_adapter(make_adapter, "a", 1, r=6)


@pytest.fixture
def plain(source: Path, tiny_base: BaseModel, tmp_path: Path) -> Path:
    """The conversion with nothing changed."""
    return convert(source, tmp_path / "plain", base=tiny_base, invocation_text=TEXT).folder


def test_a_sum_of_two_adapters_is_one_release(
    source: Path, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    other = random_adapter(make_adapter, "b", 2, r=3, target_modules=["q_proj"])
    out = tmp_path / "out"
    convert(source, out, base=tiny_base, invocation_text=TEXT, also=[other], weights="1,-0.5")
    assert config(out)["r"] == 9
    wanted = oracle.deltas(tiny_base, source)
    for path, delta in oracle.deltas(tiny_base, other).items():
        wanted[path] = wanted[path] - 0.5 * delta
    assert oracle.worst(oracle.converted_deltas(out), wanted) < 1e-6
    record = lock(out).conversion
    assert record is not None
    assert set(record.source_files) == {
        f"{number}/adapter_{file}" for number in (1, 2) for file in ("config.json", "model.safetensors")
    }


def test_a_truncation_states_the_error_it_has(
    source: Path, plain: Path, tiny_base: BaseModel, tmp_path: Path
) -> None:
    changes = Changes.parse(truncate="2")
    done = convert(source, tmp_path / "out", base=tiny_base, invocation_text=TEXT, changes=changes)
    assert config(done.folder)["r"] == config(done.folder)["lora_alpha"] == 2
    found, wanted = (oracle.converted_deltas(folder) for folder in (done.folder, plain))
    off = sum(float((found[path] - wanted[path]).square().sum()) for path in wanted)
    whole = sum(float(delta.square().sum()) for delta in wanted.values())
    (record,) = done.changes
    assert record.measured["error"] == pytest.approx((off / whole) ** 0.5, rel=1e-6)
    assert max(record.measured["errors"].values()) == pytest.approx(oracle.worst(found, wanted), rel=1e-6)
    assert any("relative error" in line for line in done.lines())
    made = lock(done.folder).conversion
    assert made is not None
    assert made.changes == [record]
    assert made.fold_error < 1e-6  # the fold itself stayed exact


def test_growing_changes_no_update(source: Path, plain: Path, tiny_base: BaseModel, tmp_path: Path) -> None:
    done = convert(
        source, tmp_path / "out", base=tiny_base, invocation_text=TEXT, changes=Changes.parse(grow=16)
    )
    assert config(done.folder)["r"] == 16
    assert oracle.worst(oracle.converted_deltas(done.folder), oracle.converted_deltas(plain)) < 1e-14
    assert [record.kind for record in done.changes] == ["grow"]


def test_truncating_what_was_added_twice_gives_it_back(
    source: Path, plain: Path, tiny_base: BaseModel, tmp_path: Path
) -> None:
    done = convert(
        source,
        tmp_path / "out",
        base=tiny_base,
        invocation_text=TEXT,
        also=[source],
        weights="0.25,0.75",
        changes=Changes.parse(truncate="1.0"),
    )
    assert config(done.folder)["r"] == 6
    assert oracle.worst(oracle.converted_deltas(done.folder), oracle.converted_deltas(plain)) < 1e-6


@pytest.mark.parametrize("mode", ["paper", "5"])
def test_safe_lora_changes_b_of_the_chosen_modules_only(
    mode: str, source: Path, plain: Path, tiny_base: BaseModel, tmp_path: Path
) -> None:
    unaligned = build_tiny_base(tmp_path / "unaligned", seed=5)
    changes = Changes.parse(safe=mode, aligned=str(tiny_base.folder), unaligned=str(unaligned), select="2")
    done = convert(source, tmp_path / "out", base=tiny_base, invocation_text=TEXT, changes=changes)
    (record,) = done.changes
    below = [path for path, one in record.measured["modules"].items() if one["below"]]
    assert len(below) == 2
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (plain, done.folder))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"base_model.model.{path}.lora_B.weight" for path in below}
    new, old = (load_file(folder / "model.safetensors") for folder in (tiny_base.folder, unaligned))
    for path in below:
        v = new[f"{path}.weight"].double() - old[f"{path}.weight"].double()
        b = before[f"base_model.model.{path}.lora_B.weight"].double()
        u = torch.linalg.svd(v).U[:, :5]
        wanted = v @ v.T @ b / v.norm() if mode == "paper" else u @ u.T @ b
        found = after[f"base_model.model.{path}.lora_B.weight"].double()
        assert float((found - wanted).norm() / wanted.norm()) < (1e-5 if mode == "paper" else 0.02)
    assert record.measured["aligned"]["id"] != record.measured["unaligned"]["id"]
    said = "\n".join(done.lines())
    assert "measure refusals" in said
    assert ("C is no projector" in said) is (mode == "paper")


@pytest.mark.parametrize(
    "asked",
    [
        {"safe": "paper"},
        {"safe": "paper", "aligned": "a", "unaligned": "a"},
        {"safe": "none", "aligned": "a", "unaligned": "b"},
        {"aligned": "a"},
        {"truncate": "much"},
    ],
    ids=str,
)
def test_what_is_not_said_whole_is_refused(asked: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Changes.parse(**asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("select", "wanted"),
    [("", Projection()), ("0.3", Projection(threshold=0.3)), ("10", Projection(number=10))],
)
def test_what_selects_modules(select: str, wanted: Projection) -> None:
    assert Projection.parse("paper", select=select) == wanted


@pytest.mark.parametrize("select", ["0", "2.5", "few", "nan"])
def test_what_selects_none(select: str) -> None:
    with pytest.raises(UsageError):
        Projection.parse("paper", select=select)
