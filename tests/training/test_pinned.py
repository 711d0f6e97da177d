import gc
from collections.abc import Iterator

import pytest
import torch

from zoo.errors import UndecidedError
from zoo.training import pinned
from zoo.training.pinned import Pinned


class Runtime:
    """CUDA's part in it: which memory is registered."""

    def __init__(self) -> None:
        self.held: dict[int, int] = {}
        self.status = 0

    def cudaHostRegister(self, pointer: int, size: int, flags: int) -> int:  # noqa: N802  # CUDA's name
        self.held[pointer] = size
        return self.status

    def cudaHostUnregister(self, pointer: int) -> int:  # noqa: N802
        del self.held[pointer]
        return 0


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    fake = Runtime()
    monkeypatch.setattr(pinned, "_runtime", lambda: fake)
    monkeypatch.setattr(pinned, "SLAB", 4096)
    yield fake
    gc.collect()


def test_copies_lie_apart_in_registered_memory(runtime: Runtime) -> None:
    memory = Pinned(1 << 16)
    sources = [torch.randn(300) for _ in range(10)] + [torch.randn(100).bfloat16()]
    taken = [memory.take(source) for source in sources]
    for copy, source in zip(taken, sources, strict=True):
        assert torch.equal(copy, source)
        assert any(0 <= copy.data_ptr() - at < size for at, size in runtime.held.items())
    assert sum(runtime.held.values()) <= 1 << 16


def test_what_is_larger_than_a_slab_gets_one_of_its_own(runtime: Runtime) -> None:
    memory = Pinned(1 << 20)
    small = memory.take(torch.ones(10))
    large = memory.take(torch.arange(5000.0))
    assert torch.equal(large, torch.arange(5000.0))
    assert torch.equal(small, torch.ones(10))
    assert max(runtime.held.values()) >= large.nbytes


def test_everything_is_unregistered_in_the_end(runtime: Runtime) -> None:
    memory = Pinned(1 << 14)
    for _ in range(5):
        memory.take(torch.ones(900))
    assert runtime.held
    del memory
    gc.collect()
    assert not runtime.held


def test_memory_that_cannot_be_pinned_is_said(runtime: Runtime) -> None:
    runtime.status = 2
    with pytest.raises(UndecidedError, match="cannot be pinned"):
        Pinned(1 << 14).take(torch.ones(10))
