"""The numbers' bits, against torch's own opinion of them."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from zoo.safetensors_header import read_header
from zoo.validators.payload import FLOATS, PIECE_BYTES, count_not_finite, inspect_file

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E5M2": torch.float8_e5m2, "F8_E4M3": torch.float8_e4m3fn,
}  # fmt: skip


def torch_counts(raw: bytes, dtype: torch.dtype) -> int:
    values = torch.frombuffer(bytearray(raw), dtype=dtype)
    return int((~torch.isfinite(values.to(torch.float64))).sum())


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_every_pattern_of_sixteen_bits(name: str) -> None:
    raw = b"".join(pattern.to_bytes(2, "little") for pattern in range(1 << 16))
    expected = {"F16": 2048, "BF16": 256}[name]  # two signs times the mantissas
    assert count_not_finite(raw, FLOATS[name]) == torch_counts(raw, DTYPES[name]) == expected


@pytest.mark.parametrize("name", ["F8_E5M2", "F8_E4M3"])
def test_every_pattern_of_eight_bits(name: str) -> None:
    raw = bytes(range(256))
    assert count_not_finite(raw, FLOATS[name]) == torch_counts(raw, DTYPES[name]) > 0


@given(raw=st.binary(min_size=8, max_size=512), name=st.sampled_from(["F64", "F32"]))
@settings(max_examples=200, deadline=None)
def test_random_bits_of_wide_floats(raw: bytes, name: str) -> None:
    width = FLOATS[name].width_bytes
    whole = raw[: len(raw) // width * width]
    assert count_not_finite(whole, FLOATS[name]) == torch_counts(whole, DTYPES[name])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_number_among_many_is_found_in_any_piece(
    value: float, dtype: torch.dtype, tmp_path: Path
) -> None:
    elements = 3 * PIECE_BYTES // dtype.itemsize + 5
    for place in (0, elements // 2, elements - 1):
        values = torch.full((elements,), torch.finfo(dtype).max, dtype=dtype)
        values[place] = value
        path = tmp_path / "x.safetensors"
        save_file({"bad": values, "good": torch.ones(3, dtype=dtype)}, path)
        found = inspect_file(path, read_header(path))
        assert found["bad"].not_finite == 1
        assert found["good"].not_finite == 0


def test_zero_is_told_from_almost_zero_and_minus_zero_is_zero(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    late = torch.zeros(PIECE_BYTES, dtype=torch.bfloat16)
    late[-1] = 1e-30
    tensors = {
        "zero": torch.zeros(7),
        "minus": -torch.zeros(7),
        "smallest": torch.tensor([0.0, 5e-324], dtype=torch.float64),
        "late": late,
        "none": torch.zeros(0),
        "integers": torch.tensor([0, 128]),
    }
    save_file(tensors, path)
    found = inspect_file(path, read_header(path))
    assert {name for name, payload in found.items() if payload.zero} == {"zero", "minus", "none"}
    assert found["integers"].not_finite is None


def test_a_file_that_shrinks_meanwhile_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"x": torch.ones(100)}, path)
    header = read_header(path)
    os.truncate(path, path.stat().st_size - 8)
    with pytest.raises(OSError, match="ends before"):
        inspect_file(path, header)
