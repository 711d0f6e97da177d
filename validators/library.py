"""Validation of many adapters in one run: each base is loaded once, each prompt prefilled once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from zoo.adapter import AdapterRepo
from zoo.errors import NotFoundError, UsageError, ZooError
from zoo.layouts import placements
from zoo.progress import Progress, silent
from zoo.validators.bases import Bases
from zoo.validators.project import open_repo
from zoo.validators.validate import Settings, Validation


def adapter_folders(paths: Sequence[Path]) -> list[Path]:
    """The folder of every adapter at or below the given paths, each once, in order.

    Raises:
        NotFoundError: a path does not exist or holds no adapter; a run over nothing must not be green.
    """
    found: dict[Path, None] = {}
    for path in paths:
        below = placements(path)
        if not below:
            raise NotFoundError(f"{path} holds no adapter", hint="give folders that hold adapter_config.json")
        found.update((placement.folder, None) for placement in below)
    return list(found)


def chosen_folders(paths: Sequence[Path], libraries: Sequence[Path], *, static: bool = False) -> list[Path]:
    """The adapters of a command line: one at each path, and every one below each library.

    Args:
        paths: adapters; with `static` also projects that have none yet.
        libraries: folders.
        static: only the static checks are asked for.

    Raises:
        UsageError: nothing was named, or a path holds several adapters.
        NotFoundError: there is none at a path or below a library.
    """
    if not paths and not libraries:
        raise UsageError("no adapter was named", hint="zoo validate PATH..., or zoo validate --library DIR")
    single = [open_repo(path, static=static).root for path in paths]
    return list(dict.fromkeys([*single, *adapter_folders(libraries)]))


def in_order(folders: Sequence[Path], settings: Settings) -> list[Path]:
    """The folders in the order in which a run takes them: adapters of one base together, else as given."""
    return list(folders) if settings.base else sorted(folders, key=base_name)


def validations(
    folders: Sequence[Path],
    settings: Settings,
    *,
    bases: Bases | None = None,
    progress: Progress = silent,
) -> Iterator[Validation]:
    """Opens one validation after another, to be iterated before the next is asked for.

    Adapters of one base come together, else in the given order. What an adapter holds in memory is dropped
    when the next one is opened; what the base computed for them stays.

    Args:
        folders: adapter folders.
        settings: for all of them.
        bases: what earlier runs loaded; nothing when None.
        progress: told about long work.

    Raises:
        NotFoundError: a folder holds no adapter.
        UsageError: only the static part of a replay was asked for, or an unknown engine.
    """
    if settings.replay and settings.static:
        raise UsageError("--replay runs the base, and --static leaves that out", hint="drop --static")
    shared, ordered = bases or Bases(), in_order(folders, settings)
    for done, folder in enumerate(ordered):
        if len(ordered) > 1:
            progress("adapters", done=done, total=len(ordered), note=folder.name)
        validation = Validation.open(folder, settings, bases=shared, progress=progress)
        try:
            yield validation
        finally:
            validation.close()
    if len(ordered) > 1:
        progress("adapters", done=len(ordered), total=len(ordered))


def base_name(folder: Path) -> str:
    """What an adapter calls its base; empty when its files cannot be read, which its checks will say."""
    try:
        repo = AdapterRepo.open(folder)
        return repo.release.base.id if repo.release else (repo.config.base_model_name_or_path or "")
    except ZooError:
        return ""
