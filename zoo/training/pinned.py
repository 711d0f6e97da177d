"""Host memory that a CUDA device copies from at full speed, taken in slabs.

torch's own pinned allocator rounds every request up to a power of two: a 2.1 GB prefix would take 4 GiB.
Source: torch 2.13, aten/src/ATen/core/CachingHostAllocator.h.
"""

import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from zoo.errors import UndecidedError

if TYPE_CHECKING:
    from torch import Tensor

SLAB = 1 << 30  # bytes; registering memory costs about as much as writing it once
ALIGNED = 512  # bytes


class Pinned:
    """Memory of the host, registered with the device slab by slab as it is needed."""

    def __init__(self, limit: int) -> None:
        """Nothing is taken yet.

        Args:
            limit: bytes that will be asked for at most.
        """
        self._left = limit
        self._slab: Tensor | None = None
        self._used = 0
        # registering takes as long as the device needs to fill the slab: the next one is made meanwhile
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="pinned-memory")
        self._next: Future[Tensor] | None = None
        # keeps the slabs until they are unregistered, whatever becomes of their views
        self._made: list[Tensor] = []
        weakref.finalize(self, _unregister, self._maker, self._made)

    def take(self, source: "Tensor") -> "Tensor":
        """A copy of a tensor `[numbers]` in registered host memory; it may still be under way."""
        size = -(-source.nbytes // ALIGNED) * ALIGNED
        if self._slab is None or self._used + size > self._slab.numel():
            self._slab, self._used = self._another(size), 0
        room = self._slab[self._used : self._used + source.nbytes]
        self._used += size
        # the source's memory is used again on the stream that copies it, so only after that
        taken: Tensor = room.view(source.dtype).copy_(source, non_blocking=True)
        return taken

    def _another(self, size: int) -> "Tensor":
        """A slab of at least a size."""
        ready = self._next.result() if self._next else None
        self._next = None
        if ready is None or ready.numel() < size:
            ready = _registered(max(size, min(SLAB, self._left)), self._made)
            self._left = max(0, self._left - ready.numel())
        if self._left:
            following = min(SLAB, self._left)
            self._left -= following
            self._next = self._maker.submit(_registered, following, self._made)
        return ready


def _registered(size: int, made: "list[Tensor]") -> "Tensor":
    """New host memory, uint8 `[size]`, that the device may copy from on its own; added to `made`."""
    import torch

    slab = torch.empty(size, dtype=torch.uint8)
    if int(_runtime().cudaHostRegister(slab.data_ptr(), size, 0)):
        raise UndecidedError(f"{size >> 20} MiB of host memory cannot be pinned", hint="lower the budget")
    made.append(slab)
    return slab


def _unregister(maker: ThreadPoolExecutor, made: "list[Tensor]") -> None:
    maker.shutdown()
    for slab in made:
        _runtime().cudaHostUnregister(slab.data_ptr())


def _runtime() -> Any:
    import torch

    untyped: Any = torch.cuda.cudart
    return untyped()
