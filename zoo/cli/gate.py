"""`zoo gate`: the verdict over one adapter or a whole library, for CI."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import AsJson, Base, Device, Dtype, Output, Quiet

PolicyFile = Annotated[
    Path | None, typer.Option("--policy", metavar="FILE", help="What is demanded; else ./zoo-gate.yaml.")
]
Since = Annotated[
    str, typer.Option("--since", metavar="COMMIT", help="Only adapters that changed since then, as git says.")
]


def gate(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Adapter or library folders.")],
    policy: PolicyFile = None,
    since: Since = "",
    base: Base = "",
    output: Output = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Validate every adapter under PATH..., apply the policy, and end with one verdict.

    On GitHub Actions findings become annotations and the job summary gets the reports. A check that could
    not run makes the gate undecided (exit 3), never green, unless policy or zoo.yaml allow that skip with a
    reason. For a first job without torch: zoo validate --static.

    Example: zoo gate adapters --policy zoo-gate.yaml --since origin/main -o report.html
    """
    import json

    from zoo.ci.gate import Gate, chosen, read_policy
    from zoo.ci.gate import gate as run_gate
    from zoo.cli.announcing import announce
    from zoo.cli.progress import shown
    from zoo.cli.reporting import output_paths
    from zoo.render.json import to_document
    from zoo.render.suffix import check_outputs, write_outputs
    from zoo.specs.policy import POLICY_NAME
    from zoo.validators.validate import Settings

    outputs, demanded = output or [], read_policy(policy)
    check_outputs(outputs)
    if policy is None and not Path(POLICY_NAME).is_file() and not quiet:
        typer.echo(f"zoo: no {POLICY_NAME} here: nothing is demanded beyond the checks", err=True)
    folders, reports = chosen(paths, since=since, policy=policy), []
    settings = Settings(base=base, device=device, dtype=dtype)
    with shown(quiet=quiet) as progress:
        for report in run_gate(folders, policy=demanded, settings=settings, progress=progress):
            reports.append(report)
            announce(report, as_json=as_json)
            write_outputs(report, output_paths(outputs, Path(report.subject), several=len(folders) > 1))
    if not folders and not as_json:
        typer.echo(f"no adapter changed since {since}")
    if as_json:
        typer.echo(json.dumps([to_document(report) for report in reports], indent=2, ensure_ascii=False))
    raise typer.Exit(Gate(reports=reports, unchanged=not folders).exit_code)
