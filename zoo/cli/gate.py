"""`zoo gate`: the verdict over one adapter or a whole library, for CI."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from zoo.cli.gate_options import Fresh, Image, On, Paths, PolicyFile, Repo, Since, Workers
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
    image: Image = "",
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
    from functools import partial

    from zoo.ci.fleet.place import Place, gate_at
    from zoo.ci.gate import Gate, chosen, read_policy
    from zoo.ci.gate import gate as run_gate
    from zoo.cli.announcing import announce
    from zoo.cli.progress import shown
    from zoo.cli.reporting import render_all
    from zoo.render.suffix import check_outputs, own_paths, write_outputs, write_together
    from zoo.render.verdict import tally
    from zoo.specs.policy import POLICY_NAME
    from zoo.validators.validate import Settings

    outputs, demanded, reports = output or [], read_policy(policy), []
    check_outputs(outputs)
    if policy is None and not Path(POLICY_NAME).is_file():  # --quiet or not: it changes the verdict
        typer.echo(f"zoo: no {POLICY_NAME} here: nothing is demanded beyond the checks", err=True)
    roots = [*(paths or []), *(library or [])]
    folders = chosen(roots, since=since, policy=policy, suites=demanded.suites)
    settings, several = Settings(base=base, device=device, dtype=dtype), len(folders) > 1
    gates: Callable[..., Iterator[Report]] = run_gate
    if workers or on or repo or image:
        place = Place.parse(on, workers=workers, repo=repo, image=image, paths=roots)
        gates = partial(gate_at, place, fresh=fresh)
    with shown(quiet=quiet) as progress:
        for report in gates(folders, policy=demanded, settings=settings, progress=progress):
            reports.append(report)
            announce(report, as_json=as_json)
            write_outputs(report, own_paths(outputs, report) if several else outputs)
    if several:
        write_together(reports, outputs)
    if as_json:
        typer.echo(render_all(reports, several=True), nl=False)
    elif several or not folders:
        typer.echo(f"\n── {tally(reports)}" if folders else f"no adapter changed since {since}")
    raise typer.Exit(Gate(reports=reports, unchanged=not folders).exit_code)
