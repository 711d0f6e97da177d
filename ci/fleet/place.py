"""Where a fleet works, as the command line says it."""

import datetime
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from zoo.ci.fleet.crew import Crew
from zoo.ci.fleet.journal import Journal
from zoo.ci.fleet.run import fleet
from zoo.ci.fleet.task import Order
from zoo.errors import UsageError
from zoo.progress import Progress, silent
from zoo.report import Report
from zoo.specs.policy import Policy
from zoo.validators.validate import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the workers are, and how many.

    Attributes:
        kind: `ray` or `jobs`.
        detail: a cluster's address, or a Job's flavour; empty for Ray on this machine.
        workers: how many; 0 leaves it to the kind.
        repo: `org/name[@revision]` of the library on the Hub, for Jobs.
        image: of a Job's container; empty for the default.
        root: the library here, for Jobs.
    """

    kind: str
    detail: str = ""
    workers: int = 0
    repo: str = ""
    image: str = ""
    root: Path = Path()

    @classmethod
    def parse(
        cls, text: str, *, workers: int = 0, repo: str = "", image: str = "", paths: Sequence[Path] = ()
    ) -> "Place":
        """A place from `ray`, `ray:ADDRESS` or `jobs:FLAVOUR`; empty is `ray`.

        Args:
            text: where.
            workers: see above.
            repo: see above.
            image: see above.
            paths: what is gated; Jobs take one library.

        Raises:
            UsageError: it is none of these, or lacks what it needs.
        """
        kind, _, detail = (text or "ray").partition(":")
        if kind not in ("ray", "jobs"):
            raise UsageError(
                f"--on {text}: there is no such place", hint="--on ray, ray:ADDRESS or jobs:FLAVOUR"
            )
        if kind == "jobs" and not (detail and repo):
            raise UsageError(
                "Jobs need a flavour, and the library on the Hub, which they mount",
                hint="--on jobs:l4x1 --repo ORG/NAME",
            )
        if kind == "ray" and (repo or image):
            raise UsageError(
                "--repo and --image are for Jobs: workers on Ray read the folder, and run what is here",
                hint="leave them out, or --on jobs:FLAVOUR",
            )
        if kind == "jobs" and len(paths) != 1:
            raise UsageError(
                "Jobs mount one library", hint="zoo gate --library DIR --on jobs:… --repo ORG/NAME"
            )
        root = paths[0] if paths else Path()
        return cls(kind=kind, detail=detail, workers=workers, repo=repo, image=image, root=root)

    def crew(
        self, order: Order, folders: Sequence[Path], journal: Journal, progress: Progress
    ) -> AbstractContextManager[Crew]:
        """The workers, for as long as the context lasts; each kind says what it raises."""
        if self.kind == "jobs":
            from zoo.ci.fleet.on_jobs import DEFAULT_JOBS, IMAGE, Target, jobs_crew

            workers = self.workers or DEFAULT_JOBS
            image = self.image or IMAGE
            target = Target(flavour=self.detail, repo=self.repo, root=self.root, workers=workers, image=image)
            return jobs_crew(order, at=target, folders=folders, journal=journal)
        from zoo.ci.fleet.on_ray import ray_crew

        return ray_crew(order, address=self.detail, workers=self.workers, progress=progress)


def gate_at(
    place: Place,
    folders: Sequence[Path],
    *,
    policy: Policy,
    settings: Settings,
    today: datetime.date | None = None,
    fresh: bool = False,
    progress: Progress = silent,
) -> Iterator[Report]:
    """As `zoo.ci.gate.gate`, with the same reports in the same order, by many workers.

    Args:
        place: where.
        folders: of `zoo.ci.gate.chosen`.
        policy: of `zoo.ci.gate.read_policy`.
        settings: of the checks.
        today: on which allowances may have run out; the day in UTC when None.
        fresh: forget what a run that was broken off has finished.
        progress: told about every finished adapter.

    Raises:
        UndecidedError: there are no workers.
        ZooError: what ends a run in one process too.
    """
    day = today or datetime.datetime.now(datetime.UTC).date()
    order = Order(settings=settings, policy=policy, today=day)
    where = (place.kind, place.detail, place.repo, place.image)
    journal = Journal(order, where=":".join(where))
    if fresh:
        journal.clear()
    if not folders:
        return
    with place.crew(order, folders, journal, progress) as crew:
        yield from fleet(folders, order=order, crew=crew, journal=journal, progress=progress)
