"""`zoo engines`: which engines are here, and what each does with an activated LoRA."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import AsJson, Quiet

Asked = Annotated[
    Path | None, typer.Argument(metavar="[ADAPTER]", help="Also say what each would do with this adapter.")
]
Vectors = Annotated[
    str, typer.Option("--vectors", metavar="ENGINE", help="Run the conformance vectors on this engine.")
]
Strict = Annotated[bool, typer.Option("--strict", help="With --vectors: a known deviation fails too.")]


def engines(
    adapter: Asked = None,
    vectors: Vectors = "",
    strict: Strict = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """List the engines: installed or not, and what each does with an aLoRA.

    Nothing is run, unless with --vectors, on a tiny model that comes with zoo. To measure an adapter in an
    engine: zoo validate ADAPTER --engine NAME.
    """
    import json
    import shutil

    from zoo.adapter import AdapterRepo
    from zoo.validators.conformance.engines import outlook, table

    if vectors:
        _run(vectors, strict=strict, as_json=as_json, quiet=quiet)
    rows = outlook.rows(AdapterRepo.open(adapter) if adapter else None)
    if as_json:
        typer.echo(json.dumps(table.as_json(rows), indent=2, ensure_ascii=False))
    else:
        typer.echo(table.render_table(rows, width=shutil.get_terminal_size().columns), nl=False)


def _run(engine: str, *, strict: bool, as_json: bool, quiet: bool) -> None:
    from zoo.cli.progress import shown
    from zoo.validators.conformance.vectors.opening import run_on
    from zoo.validators.conformance.vectors.table import render_json, render_table

    with shown(quiet=quiet) as progress:
        report = run_on(engine, progress=progress)
    typer.echo(render_json(report) if as_json else render_table(report, everything=False), nl=False)
    raise typer.Exit(report.exit_code(strict=strict))
