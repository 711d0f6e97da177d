"""`zoo sample`: the frozen sample of a gate's suite."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Argument(metavar="DATA", help="JSONL of requests and answers, not trained on.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The file to write; must not exist.")]
Samples = Annotated[int, typer.Option("--samples", "-n", min=1, max=1_000_000, help="How many.")]
Seed = Annotated[int, typer.Option(help="Of the draw.")]


def sample(data: Data, out: Out, samples: Samples = 200, seed: Seed = 0) -> None:
    """Draw a stratified sample that a gate asks every version of an adapter, and print its policy entry.

    Closed answers come equally often, as far as there are so many; open ones are spread over short and
    long requests. The entry goes under `suites` in zoo-gate.yaml, with the path as seen from there: it binds
    the file by its digest, so that it stays the yardstick it is.

    Example: zoo sample held-out.jsonl eval/relevance.jsonl -n 200
    """
    from zoo.errors import UsageError
    from zoo.evaluation.sample import draw
    from zoo.staging import write_file

    if out.exists():
        raise UsageError(
            f"{out} is there already: a frozen sample is not drawn again",
            hint="another yardstick gets another name, and its digest in the policy",
        )
    if not out.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {out.parent}", hint=f"mkdir -p {out.parent}")
    drawn = draw(data, samples=samples, seed=seed)
    write_file(out, drawn.content)
    for stratum, count in drawn.strata.items():
        typer.echo(f"{count:>6}  {stratum[:70]}", err=True)
    if sum(drawn.strata.values()) < samples:
        typer.echo(f"zoo: {data} holds no more than {sum(drawn.strata.values())}", err=True)
    typer.echo("suites:")
    typer.echo(f"- name: {out.stem}")
    typer.echo(f"  data: {out}")
    typer.echo(f"  sha256: {drawn.sha256}")
