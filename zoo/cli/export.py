"""`zoo export`: an adapter in the files of another engine."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from zoo.cli.options import AsJson, Base, Quiet
from zoo.cli.progress import shown

Formats = Literal["peft", "gguf", "mlx", "vllm", "sglang", "torchtune"]


def export(
    adapter: Annotated[Path, typer.Argument(metavar="PATH", help="Adapter folder, in any format zoo reads.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make; for GGUF a file.")],
    format_: Annotated[Formats, typer.Option("--format", help="Which engine's files.")],
    base: Base = "",
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Of the factors; the adapter's own when left out. Says the rounding."),
    ] = None,
    every_token: Annotated[
        bool, typer.Option("--every-token", help="Leave the invocation out: it acts on the whole prompt.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write an adapter for another engine: folded to one rank and scale 1, in that engine's names and layout.

    MLX-LM, SGLang and torchtune know no invocation; an aLoRA goes there only with --every-token.
    """
    import json

    from zoo.converters.exporters.export import check_out
    from zoo.converters.exporters.export import export as write
    from zoo.converters.exporters.normal_form import NormalForm
    from zoo.render.text import printable

    check_out(out, format_)
    with shown(quiet=quiet) as progress:
        form = NormalForm.open(adapter, base=base, progress=progress)
    done = write(form, out, format_, dtype=dtype or "", every_token=every_token)
    if as_json:
        typer.echo(json.dumps(done.to_document(), indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(map(printable, done.lines())))
