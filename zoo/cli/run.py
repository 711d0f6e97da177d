"""`zoo run`: an intrinsic on a real base model."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from zoo.cli.options import AsJson, Base, Device, Quiet

FILE = "FILE"


def run(
    adapters: Annotated[
        list[str],
        typer.Argument(metavar="ADAPTER...", help="Folder, or ORG/NAME[/FOLDER][@REVISION]; --chat: many."),
    ],
    request: Annotated[
        str, typer.Option("--request", metavar=FILE, help="Request as JSON; - is stdin, as when left out.")
    ] = "-",
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="NAME=VALUE", help="For the intrinsic's instruction; repeatable."),
    ] = None,
    input_: Annotated[
        Path | None, typer.Option("--input", metavar=FILE, help="Many requests: JSON lines; with --output.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar=FILE, help="Their results; a killed run is resumed.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="A conversation that all adapters answer on.")] = False,
    base: Base = "",
    device: Device = "cpu",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Dtype of the base weights; on a CPU float32, else bfloat16."),
    ] = None,
    as_json: AsJson = False,
    raw: Annotated[bool, typer.Option("--raw", help="The reply's text, not the result.")] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="The reply as it is decoded: on stdout with --raw, else stderr.")
    ] = False,
    free_blanks: Annotated[
        bool, typer.Option("--free-blanks", help="The adapter chooses the blanks in its JSON; slower.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tokens and times on stderr.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run an intrinsic: rewrite the request, answer it on the base's cache, process the reply.

    Exit code 1: the request or the reply breaks the contract; of --input: a line failed. In a chat, /help.
    """
    from zoo.cli import conversing, running
    from zoo.errors import UsageError
    from zoo.intrinsic.chat import parse_arguments

    if (input_ is None) != (output is None):
        raise UsageError("--input and --output go together", hint="results are written as they come")
    if not chat and len(adapters) > 1:
        raise UsageError("several adapters are for --chat", hint="zoo run ONE_ADAPTER, or zoo flow")
    if chat and (input_ or request != "-" or as_json or raw):
        raise UsageError("--chat reads lines from stdin", hint="leave --request, --input, --json, --raw out")
    if as_json and (raw or input_):
        raise UsageError("--json is of one result", hint="leave --raw or --input out")
    arguments = parse_arguments(arg or [])
    asked = running.read(request) if input_ is None and not chat else {}
    loaded = running.load(
        adapters, base=base, device=device, dtype=dtype, free_blanks=free_blanks, quiet=quiet
    )
    if chat:
        conversing.converse(loaded, quiet=quiet)
    elif input_ and output:
        conversing.answer_file(loaded[0], input_, output, arguments, quiet=quiet)
    else:
        running.answer(loaded[0], asked, arguments, as_json=as_json, raw=raw, stream=stream, verbose=verbose)
