"""Starting several processes of this machine that do the same work together, and ending them together."""

import logging
import os
import pickle
import signal
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.errors import DefectError, UndecidedError, UsageError
from zoo.progress import Progress, silent
from zoo.training.peers import check_count, launched

if TYPE_CHECKING:
    from torch.multiprocessing.spawn import ProcessContext

T = TypeVar("T")

GRACE_SECONDS = 3.0  # for processes to end by themselves once one of them has failed
POLL_SECONDS = 0.1


def launch(work: Callable[[Progress], T], processes: int, *, device: str, progress: Progress = silent) -> T:
    """Does a piece of work in several processes at once; when one fails, all end.

    The work has to end with an exchange, so that none returns before all have come to the end.

    Args:
        work: what each process does, with a progress of its own; pickled, as is what it returns. It finds the
            others by `zoo.training.peers.peers_here`.
        processes: how many.
        device: on which the work computes, `cuda` for a GPU each.
        progress: told what the first process is told.

    Returns:
        What the first process returns.

    Raises:
        UsageError: see `check_count`; or this process is itself one of several already.
        UndecidedError: ZD010, a process was killed.
        Exception: what a process raised, the first one's if it did.
    """
    if launched():
        raise UsageError(
            "this process was started by a launcher already, as one of several",
            hint="leave --processes out, and tell the launcher how many",
            code="ZD006",
        )
    check_count(processes, device, here=processes)
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # that it ends them, we say
    with _pipes(processes) as (ends, others):
        start: Any = start_processes
        context = start(
            _run,
            (work, processes, _free_port(), device, others, [*warnings.filters]),
            processes,
            join=False,
            daemon=True,
        )
        for other in others:  # so that reading ends where the processes have ended
            other.close()
        said = _Said(ends, progress)
        try:
            while not context.join(POLL_SECONDS, GRACE_SECONDS):
                said.listen()
        except (ProcessExitedException, ProcessRaisedException) as error:
            said.listen()
            # the first returns when all have come to the end: who is lost while they part has done its work
            if said.error or not said.finished:
                raise said.error or _ended(context, error) from error
        finally:
            for process in context.processes:
                process.kill()  # none is left but when we are interrupted
        said.listen()
    return said.result  # type: ignore[no-any-return]


class _Said:
    """What the processes have said so far."""

    def __init__(self, ends: "Sequence[Connection]", progress: Progress) -> None:
        self._open = dict(enumerate(ends))
        self._progress = progress
        self._errors: dict[int, Exception] = {}
        self.result: Any = None
        self.finished = False  # whether the first process has returned

    @property
    def error(self) -> Exception | None:
        """The first process's error, or the next one's that is not just about another's end."""
        own = {i: one for i, one in self._errors.items() if getattr(one, "code", "") != "ZD010"}
        return own[min(own)] if own else None

    def listen(self) -> None:
        """Takes all that has been said."""
        for index, end in [*self._open.items()]:
            try:
                while end.poll():
                    self._take(index, *end.recv())
            except (EOFError, OSError):
                del self._open[index]

    def _take(self, index: int, kind: str, what: Any) -> None:
        if kind == "progress":
            stage, done, total, note = what
            self._progress(stage, done=done, total=total, note=note)
        elif kind == "error":
            self._errors[index] = what
        elif index == 0:
            self.result, self.finished = what, True


def _run(
    index: int,
    work: Callable[[Progress], object],
    processes: int,
    port: int,
    device: str,
    ends: "Sequence[Connection]",
    filters: Sequence[Any],
) -> None:
    """What a process does; an exception ends it with status 1 after its error was told."""
    # torch has the system send this when our parent dies: it must end an exchange that waits for another, too
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    warnings.filters[:] = filters  # type: ignore[index]  # typeshed has it immutable
    end = ends[index]
    os.environ.update(
        RANK=str(index),
        LOCAL_RANK=str(index),
        WORLD_SIZE=str(processes),
        LOCAL_WORLD_SIZE=str(processes),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )
    if device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        import torch

        threads = max(1, torch.get_num_threads() // processes)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)

    def told(stage: str, *, done: int, total: int, note: str = "") -> None:
        end.send(("progress", (stage, done, total, note)))

    try:
        result = work(told if index == 0 else silent)
    except Exception as error:
        end.send(("error", _portable(error)))
        raise
    end.send(("result", result if index == 0 else None))


def _portable(error: Exception) -> Exception:
    """An exception that can be sent, which not every one can."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return DefectError(f"{type(error).__name__}: {error}")
    return error


def _ended(context: "ProcessContext", error: Exception) -> Exception:
    """Why the processes ended, when none could say it."""
    for index, process in enumerate(context.processes):
        # 15 is what we ended the others with, when one had failed
        if (code := process.exitcode or 0) < 0 and code != -15:
            return UndecidedError(
                f"process {index} of {len(context.processes)} was killed by signal {-code}; "
                "the others were stopped",
                hint="run the same command again: it goes on from the last checkpoint",
                code="ZD010",
            )
    return DefectError(f"a process of this run ended without a word: {error}")


@contextmanager
def _pipes(count: int) -> "Iterator[tuple[list[Connection], list[Connection]]]":
    """Where we read and where each process writes."""
    from multiprocessing import Pipe

    pairs = [Pipe(duplex=False) for _ in range(count)]
    try:
        yield [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    finally:
        for pair in pairs:
            for end in pair:
                end.close()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
