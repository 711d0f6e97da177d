"""A project before training: its contract and its invocation can be checked, and there are no weights yet."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from zoo.adapter import IO_NAME, RELEASE_NAME, AdapterRepo
from zoo.layouts import CONFIG_NAME
from zoo.validators.check import Check

# What zoo.yaml, io.yaml and the base decide; all else is about a config or weights.
PROJECT_CODES = frozenset({
    "ZM001", "ZT001", "ZI004", "ZI005", "ZI008", "ZI009", "ZI010",
    *(f"ZO0{number}" for number in range(20, 31)),
})  # fmt: skip
UNTRAINED = "a project that is not trained yet: zoo train makes the adapter"


def is_project(folder: Path) -> bool:
    """Whether a folder states a contract and a base, and holds no adapter itself; one may lie below it."""
    stated = all((folder / name).is_file() for name in (IO_NAME, RELEASE_NAME))
    return stated and not (folder / CONFIG_NAME).is_file()


def open_repo(path: Path, *, static: bool) -> AdapterRepo:
    """Opens an adapter, or, for the static checks, a project.

    Raises:
        NotFoundError: there is neither.
        UsageError: several adapters are there.
    """
    if static and is_project(path):
        return AdapterRepo(root=path, name=path.resolve().name)
    return AdapterRepo.open(path)


def project_checks(checks: Iterable[Check]) -> tuple[Check, ...]:
    """The same checks; those of an adapter say that there is none, and the others do not wait for them."""
    return tuple(
        replace(check, requires=tuple(code for code in check.requires if code in PROJECT_CODES))
        if check.code in PROJECT_CODES
        else replace(check, requires=(), needs=frozenset(), unless=lambda _: UNTRAINED)
        for check in checks
    )
