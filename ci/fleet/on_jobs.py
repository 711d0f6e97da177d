"""Workers as Jobs on the Hub: one Job a shard, with the library mounted, whose log holds the results.

Tested with the real client against the tests' Hub, which runs a Job's command here; never run on the real
service.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from zoo import __version__, hub
from zoo.ci.fleet.journal import Journal
from zoo.ci.fleet.lost import lost
from zoo.ci.fleet.schedule import TRIES
from zoo.ci.fleet.shard import LIBRARY, ORDER, Said, pack, read
from zoo.ci.fleet.task import Finished, Order, Task
from zoo.errors import NotFoundError, UndecidedError, UsageError, ZooError
from zoo.hub import jobs
from zoo.hub.address import Address, commit_of
from zoo.provenance import folder_digest, payload_digests
from zoo.staging import write_file

IMAGE = "ghcr.io/astral-sh/uv:python3.12-bookworm"  # huggingface_hub's own default; a tag, which may move
COMMAND = ("uv", "run", "--with", f"alora-zoo=={__version__}", "python", "-m", "zoo.ci.fleet.shard")
MOUNTED = "/library"
DEFAULT_JOBS = 4
SECONDS, SECONDS_EACH = 1800, 120  # a Job may take: to start and load a base, and for each adapter
POLL_SECONDS = 10.0
SILENT_POLLS = 30  # that fail one after another before the run gives up


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where Jobs run, and on what.

    Attributes:
        flavour: of the machines, such as `l4x1`.
        repo: `org/name[@revision]` of the library on the Hub.
        root: the folder here that the repository holds.
        workers: how many Jobs.
        image: of their container, which has uv. It is given the user's token.
    """

    flavour: str
    repo: str
    root: Path
    workers: int = DEFAULT_JOBS
    image: str = IMAGE


class JobsCrew:
    """Jobs, each with a part of the library."""

    one_run = False

    def __init__(self, order: Order, *, at: Target, mount: jobs.Mount, journal: Journal) -> None:
        """Takes what every Job shares.

        Args:
            order: what is done with each adapter.
            at: the machines and the library.
            mount: the library on the Hub, at a commit.
            journal: remembers Jobs that run, for a run that goes on after this one.
        """
        self._order, self._at, self._mount = order, at, mount
        self._notes = journal.folder / "jobs.txt"
        self._open: dict[str, list[Task]] = {}
        self._died: dict[int, int] = {}
        self._idle = 0  # Jobs that ended without having begun

    def run(self, tasks: Sequence[Task], done: Sequence[Finished]) -> Iterator[Finished]:
        """See `zoo.ci.fleet.crew.Crew`."""
        finished = {one.index for one in done}
        missing = {task.index: task for task in tasks if task.index not in finished}
        self._adopt(missing)
        taken = {task.index for shard in self._open.values() for task in shard}
        for shard in _shards(
            [task for index, task in missing.items() if index not in taken], self._at.workers
        ):
            self._start(shard)
        silent = 0
        while self._open:
            for job in list(self._open):
                try:
                    state = jobs.job_state(job)
                    if state.ended:
                        yield from self._ended(job, state)
                    silent = 0
                except hub.UnavailableError:
                    silent += 1
                    if silent > SILENT_POLLS:
                        raise
            if self._open:
                time.sleep(POLL_SECONDS)

    def again(self, task: Task, known: Mapping[str, str]) -> Finished:
        """See `zoo.ci.fleet.crew.Crew`; `known` is not needed, since every shard is a run of its own."""
        return next(iter(self.run([task], [])))

    def cancel(self) -> None:
        """Stops what still runs: it would be billed for nothing."""
        running = list(self._open)
        for job in running:
            with suppress(ZooError):
                jobs.cancel_job(job)
                del self._open[job]  # one that could not be reached stays noted
        if running:
            self._write()

    def _ended(self, job: str, state: jobs.JobState) -> Iterator[Finished]:
        """What an ended Job leaves: results, and adapters that another one has to take."""
        said = read(jobs.job_lines(job))
        left = []
        for task in self._open[job]:
            if (found := said.finished.get(task.index)) is not None:
                yield self._checked(task, found)
            else:
                left.append(task)
        del self._open[job]  # now: who breaks off above reads this log again
        if said.refused:
            raise UndecidedError(f"the Job {job} gave up: {said.refused}", hint=f"hf jobs logs {job}")
        if left:
            yield from self._retry(job, state, said, left)
        self._write()

    def _retry(self, job: str, state: jobs.JobState, said: Said, left: list[Task]) -> Iterator[Finished]:
        how = f"the Job {job} ended as {state.stage}{f': {state.message}' if state.message else ''}"
        if not said.begun:
            self._idle += 1
            if self._idle >= TRIES:
                raise UndecidedError(f"{how}, before it began, as {TRIES} did", hint=f"hf jobs logs {job}")
        dying = said.begun[-1] if said.begun else -1
        if any(task.index == dying for task in left):
            self._died[dying] = self._died.get(dying, 0) + 1
            if self._died[dying] >= TRIES:
                reason = f"{TRIES} Jobs ended while they checked it; the last: {how}"
                yield from (lost(task, reason) for task in left if task.index == dying)
                left = [task for task in left if task.index != dying]
        if left:
            self._start(left)

    def _checked(self, task: Task, found: Finished) -> Finished:
        """A result under the name that the adapter has here.

        Raises:
            UndecidedError: it is about other files than lie here.
        """
        if found.report["digest"] != folder_digest(payload_digests(task.folder)):
            raise UndecidedError(
                f"{self._mount.repo} at {self._mount.commit[:12]} holds other files of {task.folder.name} "
                f"than {self._at.root}",
                hint="push the library, or name the commit: --repo ORG/NAME@COMMIT",
            )
        return replace(found, report={**found.report, "subject": str(task.folder)})

    def _start(self, shard: list[Task]) -> None:
        places = [[task.index, _inside(task.folder, self._at.root)] for task in shard]
        content = json.dumps({"order": self._order.dump(), "adapters": places})
        job = jobs.start_job(
            COMMAND,
            image=self._at.image,
            flavour=self._at.flavour,
            mount=self._mount,
            environment={ORDER: pack(content), LIBRARY: self._mount.path},
            labels={
                "zoo-gate": self._notes.parent.name[:16],
                "adapters": f"{shard[0].index}-{shard[-1].index}",
            },
            seconds=SECONDS + SECONDS_EACH * len(shard),
        )
        self._open[job] = shard
        self._write()

    def _write(self) -> None:
        with suppress(OSError):
            self._notes.parent.mkdir(parents=True, exist_ok=True)
            lines = [
                f"{job} {','.join(str(task.index) for task in shard)}\n" for job, shard in self._open.items()
            ]
            write_file(self._notes, "".join(lines).encode())

    def _adopt(self, missing: Mapping[int, Task]) -> None:
        """Takes over the Jobs of a run that was killed: they went on, and are paid for."""
        with suppress(OSError, ValueError):
            for line in self._notes.read_text().splitlines():
                job, _, indices = line.partition(" ")
                with suppress(UsageError):  # the Hub has forgotten it
                    jobs.job_state(job)
                    shard = [missing[int(index)] for index in indices.split(",") if int(index) in missing]
                    self._open |= {job: shard} if shard else {}


@contextmanager
def jobs_crew(order: Order, *, at: Target, folders: Sequence[Path], journal: Journal) -> Iterator[JobsCrew]:
    """A crew of Jobs; those that still run when the context ends are stopped.

    Args:
        order: what is done with each adapter.
        at: the machines and the library.
        folders: of the adapters.
        journal: of the run.

    Raises:
        UsageError: an adapter or a suite's data lies outside of the library, or the base is a folder.
        NotFoundError: there is no such repository or revision.
        HubError: ZH007 no access, ZH008 no answer.
    """
    address = Address.parse(at.repo)
    if address is None or address.folder:
        raise UsageError(f"--repo {at.repo} is no repository", hint="--repo ORG/NAME or ORG/NAME@REVISION")
    if order.settings.base and Path(order.settings.base).is_dir():
        raise UsageError("--base is a folder here, which no Job sees", hint="name it as ORG/NAME, on the Hub")
    for folder in folders:
        _inside(folder, at.root)
    suites = [
        one.model_copy(update={"data": _inside(Path(one.data), at.root)}) for one in order.policy.suites
    ]
    sent = replace(order, policy=order.policy.model_copy(update={"suites": suites}))
    remote = hub.read_remote(address.repo)
    if not remote.exists:
        raise NotFoundError(f"{address.repo} is not on the Hub", hint="push it to a model repository")
    commit = commit_of(remote, address.repo, address.revision)
    mount = jobs.Mount(repo=address.repo, commit=commit, path=MOUNTED)
    crew = JobsCrew(sent, at=at, mount=mount, journal=journal)
    try:
        yield crew
    finally:
        crew.cancel()


def _inside(path: Path, root: Path) -> str:
    """A path's place in the library."""
    if not path.absolute().is_relative_to(root.absolute()):
        raise UsageError(f"{path} lies outside of {root}, which is all that a Job sees")
    return path.absolute().relative_to(root.absolute()).as_posix()


def _shards(tasks: Sequence[Task], count: int) -> list[list[Task]]:
    """So many parts of about equal size, neighbours together: they share a base."""
    number = min(count, len(tasks))
    cuts = [len(tasks) * part // number for part in range(number + 1)] if number else [0]
    return [list(tasks[low:high]) for low, high in pairwise(cuts)]
