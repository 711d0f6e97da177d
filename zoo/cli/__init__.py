"""The command line: one file a command, and the one place where exceptions become exit codes.

Exit codes: 0 fine, 1 the verdict is no, 2 usage or an unreadable file, 3 could not decide, 4 a defect in
zoo. stdout is the document, stderr everything else.
"""

import gc
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from zoo import __version__
from zoo.cli.bench import bench
from zoo.cli.card import card
from zoo.cli.ci import ci
from zoo.cli.convert import convert
from zoo.cli.cost import cost
from zoo.cli.diff import diff
from zoo.cli.engines import engines
from zoo.cli.explain import explain
from zoo.cli.export import export
from zoo.cli.flow import flow
from zoo.cli.gate import gate
from zoo.cli.init import init
from zoo.cli.inspect import inspect
from zoo.cli.publish import publish
from zoo.cli.run import run as run_intrinsic
from zoo.cli.sample import sample
from zoo.cli.schema import schema
from zoo.cli.train import train
from zoo.cli.validate import validate
from zoo.cli.verify import verify
from zoo.errors import ZooError

COMMANDS = (
    convert,
    export,
    inspect,
    train,
    validate,
    engines,
    explain,
    card,
    publish,
    verify,
    gate,
    sample,
    ci,
    diff,
    init,
    flow,
    schema,
    run_intrinsic,
    bench,
    cost,
)

app = typer.Typer(
    name="zoo",
    no_args_is_help=True,
    rich_markup_mode=None,  # rich costs a quarter of a second of CPU time on every --help
    pretty_exceptions_enable=False,  # tracebacks never reach a user; a token could stand in one
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zoo {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    r"""Activated LoRA adapters: convert, train, validate, publish.

    Start with: zoo convert LORA_FOLDER OUT --invocation "<|im_start|>check\n"
    """


for command in COMMANDS:
    app.command()(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and ends the process with its exit code."""
    # pydantic looks for plugins in the metadata of every installed package; no command of ours has any
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.set_threshold(50_000, 50, 50)  # what start-up makes lives on: looking through it often costs 30 ms
    status = run(arguments)
    gc.freeze()  # what is left dies with the process; collecting it first costs a tenth of a short command
    sys.exit(status)


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: without the program's name; `sys.argv` when None.

    Returns:
        The exit code.
    """
    _hush()
    try:
        app(args=list(arguments) if arguments is not None else None, standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 4
    except ZooError as error:
        _say(error.message, code=error.code, hint=error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted; nothing half-made was left behind")
        return 130
    except BrokenPipeError:
        return 0
    except MemoryError:
        _say("out of memory", hint="use a smaller base, --dtype bfloat16, or a machine with more memory")
        return 3
    except OSError as error:
        _say(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "))
        return 3
    except Exception as error:
        if _no_room(error):
            hint = "zoo train: a smaller --micro-batch; else --dtype bfloat16, a smaller base, or another GPU"
            _say("the memory of the GPU is full", hint=hint)
            return 3
        _defect(error)  # the last resort: a defect of ours, said in one sentence
        return 4
    return 0


def _hush() -> None:
    """Keeps the libraries' own bars and notices off stderr, where zoo's progress and errors stand."""
    import os
    import warnings

    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers' bars too
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers|peft")
    warnings.filterwarnings("ignore", category=UserWarning, module=r"transformers|peft|torch")


def _say(message: str, *, code: str = "", hint: str = "") -> None:
    """Says what happened; quoting a stranger's file, it lets nothing in it act on a terminal or a log."""
    from zoo.credentials import redacted
    from zoo.render.text import printable

    head = printable(redacted(f"{code}: {message}" if code else message))
    tail = f"  → {printable(redacted(hint))}\n" if hint else ""
    sys.stderr.write(f"zoo: {head}\n{tail}")


def _no_room(error: Exception) -> bool:
    """Whether it is torch's, which is here already if it raised it, that a GPU has no memory left."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.OutOfMemoryError)


def _defect(error: Exception) -> None:
    import traceback

    _say(f"a defect in zoo {__version__}: {type(error).__name__}: {str(error)[:300]}")
    if os.environ.get("ZOO_DEBUG"):
        traceback.print_exc()
    else:
        sys.stderr.write("  → run again with ZOO_DEBUG=1 and report the traceback\n")
