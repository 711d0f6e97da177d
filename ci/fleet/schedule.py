"""Which adapter a worker takes next."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from zoo.ci.fleet.task import Finished, Task

TRIES = 3  # of an adapter whose worker dies
LEADERS = 3  # adapters of a group that are tried one after another, until something is shown on one


@dataclass(kw_only=True)
class _Group:
    """Adapters that an engine treats alike: what is shown on the first holds for the others."""

    waiting: deque[Task] = field(default_factory=deque)
    shown: dict[str, str] = field(default_factory=dict)
    leading: bool = False
    led: int = 0
    open: bool = False


class Schedule:
    """Hands out adapters, each to one worker at a time.

    The first of each group goes alone, since what is shown of the engine on it holds for the others: they are
    handed out once that is known. A worker stays with its base where it can.
    """

    def __init__(self, tasks: Iterable[Task], *, done: Iterable[Finished] = ()) -> None:
        """Plans.

        Args:
            tasks: what is to be done, and what is done.
            done: results of an earlier run, whose tasks are not handed out.
        """
        by_index = {task.index: task for task in tasks}
        self._groups: dict[str, _Group] = {}
        self._died: dict[int, int] = {}
        found = {one.index: one for one in done}
        for index, task in sorted(by_index.items()):
            group = self._group(task)
            if index in found:
                self._learn(group, found[index])
            else:
                group.waiting.append(task)

    @property
    def waiting(self) -> int:
        """How many adapters are not handed out."""
        return sum(len(group.waiting) for group in self._groups.values())

    def take(self, base: str = "") -> tuple[Task, Mapping[str, str]] | None:
        """The next adapter and what was shown before it; None while all that wait need another's result.

        Args:
            base: the one that the worker holds.
        """
        free = [
            group for group in self._groups.values() if group.waiting and (group.open or not group.leading)
        ]
        if not free:
            return None
        chosen = min(free, key=lambda group: (group.waiting[0].base != base, group.waiting[0].index))
        chosen.leading = chosen.leading or not chosen.open
        return chosen.waiting.popleft(), dict(chosen.shown)

    def finished(self, task: Task, result: Finished) -> None:
        """An adapter is done."""
        group = self._group(task)
        group.leading = False
        self._learn(group, result)

    def died(self, task: Task) -> bool:
        """Its worker died: it is handed out again; False after the third time."""
        group = self._group(task)
        group.leading = False
        self._died[task.index] = self._died.get(task.index, 0) + 1
        if self._died[task.index] >= TRIES:
            return False
        group.waiting.appendleft(task)
        return True

    def _group(self, task: Task) -> _Group:
        name = task.group or f"adapter {task.index}"  # one whose files cannot be read is alone
        return self._groups.setdefault(name, _Group())

    def _learn(self, group: _Group, result: Finished) -> None:
        for key, name in result.shown.items():
            group.shown.setdefault(key, name)
        group.led += 1
        everything = bool(result.asked) and all(key in group.shown for key in result.asked)
        group.open = group.open or everything or group.led >= LEADERS
