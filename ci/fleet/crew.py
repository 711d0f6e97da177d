"""Whoever does the work of a fleet."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from zoo.ci.fleet.task import Finished, Task


class Crew(Protocol):
    """Workers somewhere.

    Attributes:
        one_run: whether what is shown on an adapter in one worker is handed to all: results are then what
            one process would have said. Otherwise each shard is a run of its own.
    """

    one_run: bool

    def run(self, tasks: Sequence[Task], done: Sequence[Finished]) -> Iterator[Finished]:
        """Results as they come, one for each task that is not done; a worker that dies is replaced.

        Args:
            tasks: all of the run.
            done: results of an earlier run.

        Raises:
            UndecidedError: there are no workers.
            ZooError: what a worker raised because the run as a whole cannot go on.
        """

    def again(self, task: Task, known: Mapping[str, str]) -> Finished:
        """One adapter once more, with what was shown before it."""
