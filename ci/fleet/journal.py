"""What a run over a library has finished, kept until all of it is, so that a killed run goes on."""

import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from zoo.cache import cache_root
from zoo.ci.fleet.lost import is_lost
from zoo.ci.fleet.task import Finished, Order, Task
from zoo.errors import UsageError
from zoo.provenance import package_versions, sha256_bytes, sha256_file
from zoo.specs.document import read_bounded
from zoo.staging import write_file
from zoo.validators.validate import PACKAGES

KEPT_SECONDS = 7 * 24 * 3600


class Journal:
    """Finished adapters of one order, a file each, in the cache folder.

    A file is found again only by the same order, frozen samples, versions of what computes and working
    folder, the same day, and while every file of the adapter, and of a base that is a folder, is the same.
    What is published is taken to be what it was: `--fresh` asks the Hub again.
    """

    def __init__(self, order: Order, *, where: str = "") -> None:
        """Opens it; nothing is written yet.

        Args:
            order: the run's.
            where: it runs, such as `ray` or `jobs:l4x1`: another machine's numbers are other ones.
        """
        versions = sorted(package_versions(PACKAGES).items())
        asked = repr((order.dump(), versions, str(Path.cwd()), where, _samples(order)))
        self.folder = cache_root() / "fleets" / sha256_bytes(asked.encode())[:32]
        self._before: dict[Path, object] = {}

    def read(self, tasks: Iterable[Task]) -> dict[int, Finished]:
        """What was finished before, by index; what cannot be read is done again."""
        found = {}
        for task in tasks:
            with suppress(UsageError, OSError):
                self._before[task.folder] = _state(task)
                if self.folder.is_dir():
                    kept = Finished.load(read_bounded(self._path(task)))
                    found[task.index] = Finished(
                        index=task.index, report=kept.report, asked=kept.asked, shown=kept.shown
                    )
        return found

    def put(self, task: Task, result: Finished) -> None:
        """Keeps a result; a disk that is full only costs the resuming.

        One that was lost is not kept, nor one of files that changed since `read`: which state it is about
        nobody knows.
        """
        if is_lost(result):
            return
        with suppress(OSError):
            now = _state(task)
            if self._before.get(task.folder, now) != now:
                return
            if not self.folder.is_dir():
                _forget_old(self.folder.parent)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_file(self._path(task), result.dump().encode())

    def clear(self) -> None:
        """Forgets everything: the run is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, task: Task) -> Path:
        about = (str(task.folder), _files(task.folder), _base_files(task))
        return self.folder / f"{sha256_bytes(repr(about).encode())}.json"


def _forget_old(root: Path) -> None:
    """Removes journals of runs that were broken off long ago: nobody will go on with them."""
    for folder in root.glob("*") if root.is_dir() else ():
        if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def _files(folder: Path) -> list[tuple[str, str]]:
    """Every file of an adapter with its digest, lock and card included: checks read those too."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder).as_posix(), sha256_file(path)) for path in files]


def _samples(order: Order) -> list[str]:
    """The digest of each suite's file as it is, which may be another than the policy binds."""
    files = [Path(suite.data) for suite in order.policy.suites]
    return [sha256_file(path) if path.is_file() else "" for path in files]


def _base_files(task: Task) -> list[tuple[str, int, int]]:
    """The files of a base that is a folder: it has no commit that would name its weights."""
    return _stamps(Path(task.base)) if task.base and Path(task.base).is_dir() else []


def _state(task: Task) -> list[tuple[str, int, int]]:
    """What tells that files changed while the run goes on, without reading them."""
    return [*_stamps(task.folder), *_base_files(task)]


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    return [(name, status.st_size, status.st_mtime_ns) for name, status in entries]
