"""`zoo run` on a file of requests, and in a conversation."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from zoo.cli.running import writer

if TYPE_CHECKING:
    from zoo.intrinsic import Intrinsic


def answer_file(
    intrinsic: "Intrinsic", source: Path, target: Path, arguments: Mapping[str, Any], *, quiet: bool
) -> None:
    """Answers a file of requests; exits with 1 when a line failed."""
    from zoo.cli.progress import shown
    from zoo.intrinsic.batch import run_batch

    with shown(quiet=quiet) as progress:
        done = run_batch(intrinsic, source, target, arguments=arguments, progress=progress)
    typer.echo(f"zoo: {done.line()}", err=True)
    raise typer.Exit(1 if done.failed else 0)


def converse(intrinsics: "Sequence[Intrinsic]", *, quiet: bool) -> None:
    """A conversation on stdin and stdout; remarks go to stderr."""
    from zoo.intrinsic.chat import Chat

    def note(text: str) -> None:
        if not quiet:
            typer.echo(text, err=True)

    chat = Chat(intrinsics, intrinsics[0].speaker, say=writer(sys.stdout), note=note)
    note("/help says what can be written here")
    while True:
        if sys.stdin.isatty():
            typer.echo("> ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line or not chat.take(line):
            break
