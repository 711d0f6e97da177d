"""Progress of long work, on stderr: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from zoo.progress import Progress, silent

LINE_EVERY_SECONDS = 15.0


@contextmanager
def shown(*, quiet: bool = False) -> Iterator[Progress]:
    """Yields a `Progress` that is shown on stderr while the block runs.

    Args:
        quiet: show nothing.
    """
    if quiet:
        yield silent
    elif sys.stderr.isatty():
        with _bars() as progress:
            yield progress
    else:
        yield _lines()


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    # rich would send what is printed on stdout to its own console, which is stderr: right only if both are
    # the same terminal
    console, shared = Console(stderr=True), sys.stdout.isatty()
    with RichProgress(*columns, console=console, transient=True, redirect_stdout=shared) as rich:
        tasks: dict[str, object] = {}

        def update(stage: str, *, done: int, total: int, note: str = "") -> None:
            task = tasks.get(stage)
            if task is None:
                task = tasks[stage] = rich.add_task(stage, total=total, note=note)
            rich.update(task, completed=done, total=total, note=note)  # type: ignore[arg-type]

        yield update


def _lines() -> Progress:
    last: dict[str, float] = {}

    def update(stage: str, *, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if done < total and now - last.get(stage, 0.0) < LINE_EVERY_SECONDS:
            return
        last[stage] = now
        remark = f"  {note}" if note else ""
        sys.stderr.write(f"{stage}: {done}/{total}{remark}\n")
        sys.stderr.flush()

    return update
