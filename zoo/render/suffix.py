"""Chooses a report's format by the name of the file it goes to."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from zoo.errors import UsageError
from zoo.report import Report

Renderer = Callable[[Report], str]


def renderers() -> Mapping[str, Renderer]:
    """Every format that goes to a file, by suffix."""
    from zoo.render.html import render_html
    from zoo.render.json import render_json
    from zoo.render.junit import render_junit
    from zoo.render.markdown import render_markdown
    from zoo.render.sarif import render_sarif

    return {
        ".json": render_json,
        ".xml": render_junit,
        ".sarif": render_sarif,
        ".md": render_markdown,
        ".html": render_html,
    }


def check_outputs(paths: Sequence[Path]) -> None:
    """Refuses output files that could not be written, before any work is done.

    Raises:
        UsageError: an unknown suffix, no such folder, or one file twice.
    """
    known = renderers()
    for path in paths:
        if path.suffix.lower() not in known:
            raise UsageError(
                f"--output {path}: no format for the suffix {path.suffix!r}",
                hint=f"name it {', '.join('*' + suffix for suffix in known)}",
            )
        if not path.absolute().parent.is_dir():
            raise UsageError(
                f"--output {path}: there is no folder {path.parent}", hint=f"mkdir -p {path.parent}"
            )
    if len({path.absolute() for path in paths}) < len(paths):
        raise UsageError("--output names one file twice")


def write_outputs(report: Report, paths: Sequence[Path]) -> None:
    """Writes the report to each file in the format of its suffix, whole or not at all.

    Raises:
        OSError: a file cannot be written.
    """
    from zoo.staging import write_file

    known = renderers()
    for path in paths:
        write_file(path, known[path.suffix.lower()](report).encode())


def own_paths(paths: Iterable[Path], report: Report) -> list[Path]:
    """Where one of several adapters' reports goes: `report.NAME.json` beside the `report.json` over all."""
    name = "-".join(part for part in Path(report.subject).parts[-3:] if part not in ("/", "..", "."))
    return [path.with_name(f"{path.stem}.{name}{path.suffix}") for path in paths]


def write_together(reports: Sequence[Report], paths: Sequence[Path]) -> None:
    """Writes one report over several adapters to each file, beside those of `own_paths`.

    Raises:
        OSError: a file cannot be written.
    """
    from zoo.render.together import render_together
    from zoo.staging import write_file

    for path in paths:
        own = [own_paths([path], report)[0].name for report in reports]
        write_file(path, render_together(reports, path.suffix.lower(), own).encode())
