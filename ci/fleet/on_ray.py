"""Workers as Ray actors: on this machine, or on a cluster by its address."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoo.ci.fleet.lost import lost
from zoo.ci.fleet.schedule import TRIES, Schedule
from zoo.ci.fleet.task import Finished, Order, Task
from zoo.ci.fleet.worker import Worker
from zoo.errors import DefectError, MissingExtraError, UndecidedError, UsageError, ZooError
from zoo.progress import Progress, silent
from zoo.provenance import package_versions

START_SECONDS = 300.0  # until the first worker answers
OBJECT_STORE = 100 << 20  # bytes; only reports pass through it
SAME = ("alora-zoo", "torch", "transformers", "peft")  # versions on which numbers depend


class RayCrew:
    """Actors that each hold a base and take adapters one by one."""

    one_run = True

    def __init__(self, ray: Any, order: Order, *, workers: int, threads: int, gpus: int) -> None:
        """Takes a connected Ray.

        Args:
            ray: the module.
            order: what is done with each adapter.
            workers: how many actors at most.
            threads: of torch in each.
            gpus: that each has.
        """
        self._ray = ray
        self._workers = workers
        environment = {"env_vars": {"OMP_NUM_THREADS": str(threads)}}
        self._actor = ray.remote(Worker).options(num_cpus=1, num_gpus=gpus, runtime_env=environment)
        self._arguments = (order.dump(), str(Path.cwd()))
        self._bases: dict[Any, str] = {}  # what each idle worker holds
        self._running: dict[Any, tuple[Any, Task | None]] = {}
        self._failed_starts = 0
        self.processes: list[int] = []  # of every worker that ever answered

    def run(self, tasks: Sequence[Task], done: Sequence[Finished]) -> Iterator[Finished]:
        """See `zoo.ci.fleet.crew.Crew`."""
        schedule = Schedule(tasks, done=done)
        for _ in range(min(self._workers, schedule.waiting)):
            self._start(tasks[0].folder)
        while schedule.waiting or any(task for _, task in self._running.values()):
            for actor, base in list(self._bases.items()):
                if chosen := schedule.take(base):
                    self._give(actor, *chosen)
            yield from self._next(schedule, tasks[0].folder)

    def again(self, task: Task, known: Mapping[str, str]) -> Finished:
        """See `zoo.ci.fleet.crew.Crew`."""
        schedule = Schedule([task])
        if not self._bases and not self._running:
            self._start(task.folder)
        while True:
            if schedule.waiting and self._bases and schedule.take():
                self._give(next(iter(self._bases)), task, known)
            for result in self._next(schedule, task.folder):
                return result

    def close(self) -> None:
        """Ends the workers: a cluster goes on without them."""
        for actor in [*self._bases, *(actor for actor, _ in self._running.values())]:
            with suppress(self._ray.exceptions.RayError):  # it or all of Ray may be gone by now
                self._ray.kill(actor)
        self._bases.clear()
        self._running.clear()

    def _start(self, folder: Path) -> None:
        actor = self._actor.remote(*self._arguments)
        self._running[actor.hello.remote(str(folder))] = (actor, None)

    def _give(self, actor: Any, task: Task, known: Mapping[str, str]) -> None:
        del self._bases[actor]
        self._running[actor.check.remote(task.index, str(task.folder), dict(known))] = (actor, task)

    def _next(self, schedule: Schedule, folder: Path) -> Iterator[Finished]:
        """Waits for one answer and deals with it."""
        errors, started = self._ray.exceptions, bool(self._bases) or any(t for _, t in self._running.values())
        ready, _ = self._ray.wait(list(self._running), timeout=None if started else START_SECONDS)
        if not ready:
            raise UndecidedError(
                f"no worker of the Ray cluster answered in {START_SECONDS:.0f} s", hint="ray status"
            )
        actor, task = self._running.pop(ready[0])
        try:
            answer = self._ray.get(ready[0])
        except errors.RayTaskError as error:
            if not isinstance(error.cause, MemoryError):
                self._refuse(error, task)
            yield from self._died(schedule, task, folder, "out of memory")
        except errors.RayError as error:
            yield from self._died(schedule, task, folder, type(error).__name__)
        else:
            self._bases[actor] = task.base if task else ""
            if task is None:
                _same_everywhere(answer, folder)
                self.processes.append(int(answer["process"]))
                return
            schedule.finished(task, answer)
            yield answer

    def _died(self, schedule: Schedule, task: Task | None, folder: Path, how: str) -> Iterator[Finished]:
        if task is None:
            self._failed_starts += 1
            if self._failed_starts >= TRIES:
                raise UndecidedError(f"workers do not start on Ray: {how}", hint="see the logs in /tmp/ray")
        elif not schedule.died(task):
            yield lost(task, f"{TRIES} workers died one after another while they checked it ({how})")
        self._start(folder)

    def _refuse(self, error: Any, task: Task | None) -> None:
        if isinstance(error.cause, ZooError):
            raise error.cause from None
        what = f"on {task.folder}" if task else "as it started"
        raise DefectError(f"a worker broke {what}: {error.cause!r}") from error


@contextmanager
def ray_crew(
    order: Order, *, address: str = "", workers: int = 0, progress: Progress = silent
) -> Iterator[RayCrew]:
    """A crew on Ray, which is started here, or connected to, and left again at the end.

    Args:
        order: what is done with each adapter.
        address: of a cluster, as `ray.init` takes it; empty starts Ray on this machine, closed to others.
        workers: how many; 0 is one for each core or, on GPUs, for each of those.
        progress: told that Ray starts.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: the device names one GPU, and each worker is given its own.
        UndecidedError: Ray does not start, or no cluster answers.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("several workers need Ray", hint="pip install 'alora-zoo[ray]'")
    gpus = 1 if order.settings.device.startswith("cuda") else 0
    if gpus and order.settings.device != "cuda":
        raise UsageError(
            f"--device {order.settings.device}: Ray gives each worker a GPU", hint="--device cuda"
        )
    import ray

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    progress("Ray", done=0, total=1, note=f"connecting to {address}" if address else "starting")
    mine = not ray.is_initialized()
    if mine:
        _connect(ray, address, workers or cores)
    progress("Ray", done=1, total=1)
    try:
        there = ray.cluster_resources()
        count = workers or max(1, int(there.get("GPU" if gpus else "CPU", 1)))
        threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or (1 if address else max(1, cores // count))
        crew = RayCrew(ray, order, workers=count, threads=threads, gpus=gpus)
        try:
            yield crew
        finally:
            crew.close()
    finally:
        if mine:
            ray.shutdown()


def _connect(ray: Any, address: str, cores: int) -> None:
    """Connects to a cluster, or starts Ray here; on a busy machine its parts can be late for one another."""
    import logging

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
    os.environ.setdefault("RAY_worker_niceness", "0")  # else workers wait for whatever else runs here
    local = {
        "num_cpus": cores,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE,
        "_node_ip_address": "127.0.0.1",  # nobody else is to reach it
    }
    settings = {"address": address} if address else local
    for attempt in range(TRIES):
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **settings)
            return
        except Exception as error:
            ray.shutdown()
            if address or attempt == TRIES - 1:
                reason = " ".join(str(error).split())[:200]
                where = f"no Ray cluster answers at {address}" if address else "Ray does not start here"
                raise UndecidedError(f"{where}: {reason}", hint="see the logs in /tmp/ray") from error


def _same_everywhere(there: Mapping[str, str], folder: Path) -> None:
    """Refuses a worker that has other code, or does not see the library.

    Raises:
        UndecidedError: it is so.
    """
    here = package_versions(SAME)
    other = [f"{name} {there.get(name)}" for name in SAME if there.get(name) != here.get(name)]
    if other:
        raise UndecidedError(
            f"the worker on {there['node']} has {', '.join(other)}, and here it is another version",
            hint="install the same versions on every node",
        )
    if not there["sees"]:
        raise UndecidedError(
            f"the worker on {there['node']} does not see {folder} from {Path.cwd()}",
            hint="put the library where every node sees it under one path, and name that",
        )
