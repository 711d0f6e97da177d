"""`zoo validate`: every check on one adapter folder, and the verdict."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import Adapter, AsJson, Base, Device, Dtype, Quiet

Static = Annotated[bool, typer.Option("--static", help="Only what needs no torch: seconds, not minutes.")]
Output = Annotated[
    list[Path] | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Also write the report: .json .xml .sarif .md; repeatable."
    ),
]
Record = Annotated[bool, typer.Option("--record", help="Store the report in zoo.lock.json, for the card.")]


def validate(
    path: Adapter,
    base: Base = "",
    static: Static = False,
    output: Output = None,
    as_json: AsJson = False,
    record: Record = False,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    quiet: Quiet = False,
) -> None:
    """Check an adapter folder; nothing in it is changed, unless --record says so.

    Exit codes: 0 fine, 1 something is wrong, 2 usage, 3 something was not checked, 4 a defect in zoo. With
    --static the checks that need torch are left out, which alone does not make the exit code 3.
    """
    import sys

    from zoo.cli.progress import shown
    from zoo.render.json import render_json
    from zoo.render.suffix import check_outputs, write_outputs
    from zoo.render.terminal import render_line, render_summary
    from zoo.validators.record import check_recordable
    from zoo.validators.record import record as record_evidence
    from zoo.validators.validate import Validation

    outputs, colour = output or [], sys.stdout.isatty()
    check_outputs(outputs)
    with shown(quiet=quiet or static) as progress:
        validation = Validation.open(
            path, base=base, static=static, device=device, dtype=dtype, progress=progress
        )
        if record:
            check_recordable(validation.context.repo, static=static)
        results = []
        for result in validation:
            results.append(result)
            if not as_json:
                typer.echo(render_line(result, colour=colour), nl=False)
    report = validation.report(results)
    typer.echo(render_json(report) if as_json else render_summary(report, colour=colour), nl=False)
    write_outputs(report, outputs)
    if record:
        record_evidence(validation.context.repo, report)
    raise typer.Exit(validation.exit_code(report))
