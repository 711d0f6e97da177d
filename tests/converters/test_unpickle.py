"""Pickles and archives: tensors come out, anything else is refused, and memory is bounded."""

from pathlib import Path

import numpy as np
import pytest
import torch

from zoo.converters import unpickle
from zoo.converters.tensors import open_file
from zoo.errors import RefusedError


@pytest.mark.parametrize("wrapper", ["", "model", "state_dict"])
def test_tensors_come_out(wrapper: str, tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6).view(2, 3).T, "b": torch.ones(2, dtype=torch.bfloat16)}
    torch.save({wrapper: tensors} if wrapper else tensors, tmp_path / "it.pt")
    found = unpickle.unpickle(tmp_path / "it.pt")
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_an_archive_of_arrays_is_read_and_one_of_objects_is_not(tmp_path: Path) -> None:
    np.savez(tmp_path / "good.npz", a=np.ones((2, 3), dtype=np.float32))
    assert open_file(tmp_path / "good.npz").shapes["a"].shape == (2, 3)
    np.savez(tmp_path / "bad.npz", a=np.array([{"x": 1}], dtype=object))
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 nothing")
    for name in ("bad.npz", "damaged.npz"):
        with pytest.raises(RefusedError) as refused:
            open_file(tmp_path / name).shapes  # noqa: B018
        assert refused.value.code == "ZV014"


def test_a_pickle_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(200_000_000_000)  # stored as one number, 800 GB once it is copied
    torch.save({"a": huge}, tmp_path / "it.pt")
    assert (tmp_path / "it.pt").stat().st_size < 10_000
    with pytest.raises(RefusedError) as refused:
        open_file(tmp_path / "it.pt").shapes  # noqa: B018
    assert refused.value.code == "ZV014"
