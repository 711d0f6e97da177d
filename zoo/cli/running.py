"""`zoo run` on one request."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

if TYPE_CHECKING:
    from zoo.intrinsic import Intrinsic
    from zoo.models import Dtype


def read(request: str) -> dict[str, Any]:
    """The request in a file, or on stdin for `-`."""
    from zoo.intrinsic.request import MAX_REQUEST_BYTES, parse_request, read_request
    from zoo.specs.document import read_bounded

    if request == "-":
        raw, name = sys.stdin.buffer.read(MAX_REQUEST_BYTES + 1), "the request on stdin"
    else:
        raw, name = read_bounded(Path(request), MAX_REQUEST_BYTES + 1), request
    parsed = parse_request(raw, name=name)
    read_request(parsed)  # what is wrong with it is said before a model is loaded
    return parsed


def load(
    adapters: Sequence[str], *, base: str, device: str, dtype: "Dtype | None", free_blanks: bool, quiet: bool
) -> "list[Intrinsic]":
    """The adapters, all on the base of the first."""
    from zoo.intrinsic import Intrinsic

    loaded: list[Intrinsic] = []
    for path in adapters:
        shared = loaded[0].shared if loaded else None
        how: dict[str, Any] = {"base": base, "device": device, "dtype": dtype, "free_blanks": free_blanks}
        loaded.append(Intrinsic.load(path, shared=shared, **how))
        for note in () if quiet else loaded[-1].notes:
            typer.echo(f"zoo: {loaded[-1].name}: {note}", err=True)
    return loaded


def answer(
    intrinsic: "Intrinsic",
    request: Mapping[str, Any],
    arguments: Mapping[str, Any],
    *,
    as_json: bool,
    raw: bool,
    stream: bool,
    verbose: bool,
) -> None:
    """Prints the answer to one request."""
    import json

    target = sys.stdout if raw else sys.stderr
    found = intrinsic.ask(request, arguments, on_text=writer(target) if stream else None)
    if stream:
        typer.echo("", file=target)
    if verbose:
        typer.echo(f"zoo: {found.line()}", err=True)
    if as_json:
        typer.echo(json.dumps(found.to_document(), indent=2, ensure_ascii=False))
    elif not raw:
        typer.echo(json.dumps(found.result, ensure_ascii=False))
    elif not stream:
        typer.echo(found.text)


def writer(target: TextIO) -> Callable[[str], None]:
    """Writes pieces to a stream as they come."""

    def write(piece: str) -> None:
        target.write(piece)
        target.flush()

    return write
