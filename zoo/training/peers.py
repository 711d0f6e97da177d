"""The processes that train one adapter together, each on a part of every step.

They are started by `--processes`, `accelerate launch` or `torchrun`, which tell each its number through the
environment. All hold the whole model and the same weights; what they exchange is a step's gradients, in one
sum, and what they saw when they looked at validation data. The first alone writes.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.errors import UndecidedError, UsageError, VerdictError, ZooError
from zoo.training.deal import LANES
from zoo.training.work import claimed_work, work_of

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

COUNTS = tuple(1 << power for power in range(LANES.bit_length()))
_PATIENCE = timedelta(hours=2)  # one may wait for the others' prefixes that long
_TOLD = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """This process among those that train together.

    Attributes:
        index: its number, counted from 0.
        count: how many there are.
    """

    index: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes, locks and speaks."""
        return self.index == 0

    def device(self, asked: str) -> str:
        """The device of this process: each has a GPU of its own."""
        return f"cuda:{os.environ['LOCAL_RANK']}" if self.count > 1 and asked == "cuda" else asked

    def add(self, tensors: "Sequence[Tensor]") -> None:
        """Replaces float32 tensors by their sums over all processes, in one exchange."""
        if self.count == 1:
            return
        import torch
        from torch.distributed import all_reduce

        bucket = torch.cat([tensor.flatten() for tensor in tensors])
        with _company():
            all_reduce(bucket)
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, total in zip(tensors, torch.split(bucket, sizes), strict=True):
            tensor.copy_(total.view(tensor.shape))

    def gather(self, value: T) -> list[T]:
        """What every process says, in their order; all have to ask."""
        if self.count == 1:
            return [value]
        from torch.distributed import all_gather_object

        found: list[Any] = [None] * self.count
        with _company():
            all_gather_object(found, value)
        return found

    def agree(self, value: str, what: str) -> None:
        """Makes sure that all processes have the same.

        Raises:
            VerdictError: ZD009, one has something else.
        """
        said = self.gather(value)
        other = [str(index) for index, one in enumerate(said) if one != said[0]]
        if other:
            raise VerdictError(
                f"process {', '.join(other)} of {self.count} and process 0 differ in their {what}",
                hint="start all with the same command, data and versions, on GPUs of one kind",
                code="ZD009",
            )


ALONE = Peers()


def launched() -> bool:
    """Whether a launcher says that this process is one of several."""
    return all(name in os.environ for name in _TOLD) and os.environ["WORLD_SIZE"] != "1"


def process_count() -> int:
    """How many processes this one trains together with, itself included."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


def silent_process() -> bool:
    """Whether another process of the run speaks for this one."""
    return launched() and os.environ["RANK"] != "0"


def check_count(count: int, device: str, *, here: int) -> None:
    """Looks whether so many processes can share a step and have a device each.

    Args:
        count: of all processes.
        device: what was asked for.
        here: how many of them run on this machine.

    Raises:
        UsageError: ZD006, they cannot.
        UndecidedError: there are too few GPUs.
    """
    if count not in COUNTS:
        raise UsageError(
            f"{count} processes cannot share steps evenly",
            hint=f"use {', '.join(map(str, COUNTS[:-1]))} or {COUNTS[-1]}",
            code="ZD006",
        )
    if count == 1 or device == "cpu":
        return
    import torch

    if device != "cuda":
        raise UsageError(
            f"several processes cannot share {device}", hint="--device cuda: each takes one", code="ZD006"
        )
    if torch.cuda.device_count() < here:
        raise UndecidedError(
            f"{here} processes want a GPU each, and there are {torch.cuda.device_count()} here",
            hint=f"--processes {max(1, torch.cuda.device_count())}",
        )


def peers_here(device: str) -> Peers:
    """The processes that a launcher started with this one, once they have found each other.

    Args:
        device: torch device, `cuda` for a GPU each.

    Raises:
        UsageError: see `check_count`.
        UndecidedError: ZD010, the others did not come.
    """
    if not launched():
        return ALONE
    count = process_count()
    check_count(count, device, here=int(os.environ.get("LOCAL_WORLD_SIZE", count)))
    return _join(device)


@cache
def _join(device: str) -> Peers:
    import atexit

    import torch
    from accelerate import PartialState  # type: ignore[import-untyped]

    # else accelerate asks for the number of cores, which not every container tells
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    with _company():
        state = PartialState(cpu=device == "cpu", timeout=_PATIENCE)
    atexit.register(state.destroy_process_group)
    return Peers(index=state.process_index, count=state.num_processes)


@contextmanager
def claimed_together(target: Path, peers: Peers) -> Iterator[Path]:
    """`claimed_work` by the first process for all: none begins before it has the folder.

    Raises:
        UsageError: ZD007, another run has it; in every process.
        OSError: as there.
    """
    with ExitStack() as held:
        failed: ZooError | OSError | None = None
        if peers.first:
            try:
                held.enter_context(claimed_work(target))
            except (ZooError, OSError) as error:
                failed = error
        if refused := peers.gather(failed)[0]:
            raise refused
        yield work_of(target)
        peers.gather(None)  # what the first has written is there for all


def digest(tensors: "Mapping[str, Tensor]") -> str:
    """A digest of tensors by name, of every bit of them."""
    import torch

    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()


@contextmanager
def _company() -> Iterator[None]:
    """What an exchange fails with when a process has ended, in our words."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ConnectionError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UndecidedError(
            f"a process of this run does not answer any more: {reason}",
            hint="run the same command again: it goes on from the last checkpoint",
            code="ZD010",
        ) from error
