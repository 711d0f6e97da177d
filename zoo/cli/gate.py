"""`zoo gate`: the verdict over one adapter or a whole library, for CI."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from zoo.cli.gate_options import Fresh, On, Paths, PolicyFile, Repo, Since, Workers
from zoo.cli.options import AsJson, Base, Device, Dtype, Library, Output, Quiet

if TYPE_CHECKING:
    from zoo.report import Report


def gate(
    paths: Paths = None,
    library: Library = None,
    policy: PolicyFile = None,
    since: Since = "",
    base: Base = "",
    output: Output = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
    workers: Workers = 0,
    on: On = "",
    repo: Repo = "",
    fresh: Fresh = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Validate every adapter under PATH..., apply the policy, and end with one verdict.

    On GitHub Actions findings become annotations and the job summary gets the reports. A check that could
    not run makes the gate undecided (exit 3), never green, unless policy or zoo.yaml allow that skip with a
    reason. For a first job without torch: zoo validate --static.

    A large library: --workers 4, or --on a Ray cluster or Jobs. The reports are those of one process, and
    the same command goes on where a killed one stopped.

    Example: zoo gate adapters --policy zoo-gate.yaml --since origin/main -o report.html
    """
    import json
    from functools import partial

    from zoo.ci.fleet.place import Place, gate_at
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
    roots = [*(paths or []), *(library or [])]
    folders, reports = chosen(roots, since=since, policy=policy), []
    settings = Settings(base=base, device=device, dtype=dtype)
    gates: Callable[..., Iterator[Report]] = run_gate
    if workers or on or repo:
        gates = partial(gate_at, Place.parse(on, workers=workers, repo=repo, paths=roots), fresh=fresh)
    with shown(quiet=quiet) as progress:
        for report in gates(folders, policy=demanded, settings=settings, progress=progress):
            reports.append(report)
            announce(report, as_json=as_json)
            write_outputs(report, output_paths(outputs, Path(report.subject), several=len(folders) > 1))
    if not folders and not as_json:
        typer.echo(f"no adapter changed since {since}")
    if as_json:
        typer.echo(json.dumps([to_document(report) for report in reports], indent=2, ensure_ascii=False))
    raise typer.Exit(Gate(reports=reports, unchanged=not folders).exit_code)
