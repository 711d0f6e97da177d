"""`zoo flow`: several adapters on one base answer one request; checked, run, and scored against controls."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from zoo.cli import options as o

Action = Annotated[
    Literal["check", "run", "score"],
    typer.Argument(help="check: the contracts between steps; run: one request; score: a data set."),
]
File = Annotated[Path, typer.Argument(metavar="FLOW", help="A flow.yaml, or its folder.")]
Request = Annotated[str, typer.Option(metavar="FILE", help="run: a request as JSON; - reads stdin.")]
Data = Annotated[
    Path | None, typer.Option(metavar="FILE", help="score: JSONL of messages, documents, answerable.")
]
RecordsFile = Annotated[
    Path | None, typer.Option("--records", metavar="FILE", help="score: keep what is found; go on from it.")
]


def flow(
    action: Action,
    path: File,
    request: Request = "-",
    data: Data = None,
    records: RecordsFile = None,
    base: o.Base = "",
    device: o.Device = "cpu",
    dtype: o.Dtype = "float32",
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Check, run or score a flow.yaml: adapters and the base model, step by step, on one cache.

    `zoo explain ZO300` shows a whole flow.yaml. `score` runs the flow and each control (a step left out) over
    --data, and prints JAFS, the joint score of answerability and faithfulness.

    Exit codes: 0 fine, 1 something is wrong, 2 usage, 3 a faithfulness is not known, 4 a defect in zoo.
    """
    from zoo.flows.checks import check_flow
    from zoo.flows.flow import Flow

    opened = Flow.open(path)
    if action == "check":
        from zoo.render.json import render_json
        from zoo.render.terminal import render_terminal

        report = check_flow(opened)
        typer.echo(render_json(report) if as_json else render_terminal(report), nl=False)
        raise typer.Exit(report.exit_code)
    from zoo.cli.progress import shown
    from zoo.flows.session import Settings, run_request, score_data

    settings = Settings(base=base, device=device, dtype=dtype)
    with shown(quiet=quiet) as progress:
        if action == "run":
            text, code = run_request(opened, request, settings, as_json=as_json)
        else:
            text, code = score_data(opened, data, records, settings, as_json=as_json, progress=progress)
    typer.echo(text, nl=False)
    raise typer.Exit(code)
