"""A run of a fleet: what is done is kept, what comes is put in order, and the reports are one run's."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from zoo.ci.fleet.crew import Crew
from zoo.ci.fleet.journal import Journal
from zoo.ci.fleet.merging import Merge
from zoo.ci.fleet.task import Finished, Order, Task, tasks
from zoo.progress import Progress, silent
from zoo.report import Report

STAGE = "adapters"


def fleet(
    folders: Sequence[Path],
    *,
    order: Order,
    crew: Crew,
    journal: Journal,
    progress: Progress = silent,
) -> Iterator[Report]:
    """Gates adapters in many processes and yields what `zoo.ci.gate.gate` yields, in its order.

    Args:
        folders: of `zoo.ci.gate.chosen`.
        order: what is done with each.
        crew: who does it.
        journal: keeps what is finished; emptied when everything is.
        progress: told about every finished adapter.

    Raises:
        UndecidedError: there are no workers.
        ZooError: see `Crew.run`.
    """
    todo = tasks(folders, order.settings)
    found = journal.read(todo)
    merge, at = Merge(), 0
    resumed = f", {len(found)} of them by a run that was broken off" if found else ""

    def fits(task: Task) -> bool:
        return task.index in found and (not crew.one_run or merge.take(found[task.index]))

    def keep(result: Finished) -> None:
        found[result.index] = result
        journal.put(todo[result.index], result)
        progress(STAGE, done=len(found), total=len(todo), note=f"{todo[result.index].folder.name}{resumed}")

    if todo:
        progress(STAGE, done=len(found), total=len(todo), note=resumed.removeprefix(", "))
    for result in crew.run(todo, list(found.values())):
        keep(result)
        while at < len(todo) and fits(todo[at]):
            yield found[at].read()
            at += 1
    for task in todo[at:]:
        if not fits(task):
            keep(crew.again(task, merge.shown))
            merge.take(found[task.index])
        yield found[task.index].read()
    journal.clear()
