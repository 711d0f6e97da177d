"""What one look at a checkpoint decides: which numbers stay, which dtype holds them, what is read again."""

import hashlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import INVOCATION_TEXT
from zoo.conversion import apply, convert, plan_conversion
from zoo.converters import file_copy
from zoo.converters.digests import Digests
from zoo.converters.file_copy import copy_file
from zoo.converters.fold import fold
from zoo.converters.tensors import finite, largest, same_bits
from zoo.errors import RefusedError, UsageError
from zoo.models import BaseModel

Make = Callable[..., Path]
NAME = "adapter_model.safetensors"
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_largest_magnitude_is_read_off_the_bits(dtype: torch.dtype) -> None:
    top = torch.finfo(dtype).max
    subnormal = torch.finfo(dtype).smallest_normal / 2
    for values, expected in (
        ([1.0, -2.0, 0.5], 2.0),
        ([-1.0, -0.25], 1.0),
        ([0.0, -0.0], 0.0),
        ([subnormal, -top], top),
        ([], 0.0),
    ):
        tensor = torch.tensor(values, dtype=dtype)
        assert largest(tensor) == expected
        assert finite(tensor)
    for bad in (math.inf, -math.inf, math.nan, math.copysign(math.nan, -1)):
        tensor = torch.tensor([[1.0, bad], [-3.0, 2.0]], dtype=dtype)
        assert not finite(tensor)
        assert not finite(tensor.T)
    ones = torch.ones(2, 3, dtype=dtype)
    assert same_bits(ones.T, ones.T.clone())
    assert not same_bits(torch.zeros(2, dtype=dtype), -torch.zeros(2, dtype=dtype))


def normal_source(make_adapter: Make, dtype: torch.dtype, alpha: int) -> Path:
    """An adapter whose file has the writer's own order, in one dtype."""
    folder = make_adapter("source", r=4, lora_alpha=alpha)
    weights = {name: tensor.to(dtype) for name, tensor in load_file(folder / NAME).items()}
    save_file(weights, folder / NAME, metadata={"format": "pt"})
    return folder


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("alpha", [4, 8, 1, 3])
def test_what_is_copied_or_scaled_in_place_is_what_the_long_way_makes(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path, dtype: torch.dtype, alpha: int
) -> None:
    source = normal_source(make_adapter, dtype, alpha)
    plan = plan_conversion(source, base=tiny_base, invocation_text=INVOCATION_TEXT)
    apply(plan, tmp_path / "out")
    made, wanted = load_file(tmp_path / "out" / NAME), fold(plan.checkpoint, tiny_base.linears).weights
    assert made.keys() == wanted.keys()
    assert all(same_bits(made[name], wanted[name]) for name in wanted)
    identical = (tmp_path / "out" / NAME).read_bytes() == (source / NAME).read_bytes()
    assert identical == (alpha == 4)  # a scale of 1
    lock = json.loads((tmp_path / "out" / "zoo.lock.json").read_text())
    assert lock["files"][NAME] == sha256(tmp_path / "out" / NAME)
    assert lock["conversion"]["source_files"][NAME] == sha256(source / NAME)
    before = load_file(source / NAME)
    name = next(name for name in before if "lora_B" in name)
    error = (made[name].double() - before[name].double() * alpha / 4).abs().max()
    assert float(error) <= 1e-7 * float(before[name].abs().max())


def test_a_file_that_changes_while_it_is_converted_ends_the_conversion(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    for alpha in (4, 8, 3):  # copied whole, scaled in place, and computed
        source = normal_source(make_adapter, torch.float32, alpha)
        plan = plan_conversion(source, base=tiny_base, invocation_text=INVOCATION_TEXT)
        assert plan.checkpoint.digests[NAME] == sha256(source / NAME)
        weights = load_file(source / NAME)
        save_file(
            {name: tensor + 1 for name, tensor in weights.items()}, source / NAME, metadata={"format": "pt"}
        )
        with pytest.raises(UsageError, match="changed while it was read"):
            apply(plan, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_values_that_are_not_finite_are_found_before_anything_is_written(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    source = normal_source(make_adapter, torch.bfloat16, 4)
    weights = load_file(source / NAME)
    next(tensor for name, tensor in weights.items() if "lora_B" in name)[1, 2] = -math.nan
    save_file(weights, source / NAME, metadata={"format": "pt"})
    with pytest.raises(RefusedError, match="not finite") as refused:
        convert(source, tmp_path / "out", base=tiny_base, invocation_text=INVOCATION_TEXT)
    assert refused.value.code == "ZV016"
    assert not (tmp_path / "out").exists()


def test_digests_are_awaited_and_fail_where_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1" * (3 << 20))
    found = Digests([tmp_path / "one", tmp_path / "gone"])
    assert list(found) == ["one", "gone"]
    assert found["one"] == sha256(tmp_path / "one")
    with pytest.raises(FileNotFoundError):
        found["gone"]
    whole = Digests([tmp_path / "one"])
    whole.check()
    (tmp_path / "one").write_bytes(b"2")
    with pytest.raises(UsageError, match="one changed"):
        whole.check()


@pytest.mark.parametrize("kernel", ["copies", "refuses", "refuses after a piece"])
def test_a_copy_is_whole_whether_the_kernel_makes_it_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    monkeypatch.setattr(file_copy, "PIECE_BYTES", 1000)
    calls = []

    def copy_file_range(source: int, target: int, count: int) -> int:
        calls.append(count)
        if kernel == "refuses" or (kernel != "copies" and len(calls) > 1):
            raise OSError(18, "cross-device link")
        return os.write(target, os.read(source, count))

    monkeypatch.setattr(os, "copy_file_range", copy_file_range, raising=False)
    (tmp_path / "source").write_bytes(os.urandom(12_345))
    copy_file(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == (tmp_path / "source").read_bytes()
    assert len(calls) == 14
