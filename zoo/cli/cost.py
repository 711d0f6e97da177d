"""`zoo cost`: what a switch to an adapter takes, by the length of the context."""

from typing import Annotated

import typer

from zoo.cli.options import Adapter, AsJson, Base, Device, Dtype, Quiet

Tokens = Annotated[str, typer.Option("--tokens", metavar="N,N,…", help="Lengths of the context, in tokens.")]
Runs = Annotated[int, typer.Option(min=1, max=1000, help="Runs of each figure, which is their median.")]
Keep = Annotated[bool, typer.Option("--record", help="Put it into zoo.lock.json, and a picture beside it.")]


def cost(
    path: Adapter,
    tokens: Tokens = "256,512,1024,2048",
    runs: Runs = 5,
    base: Base = "",
    device: Device = "cpu",
    dtype: Dtype = "float32",
    record: Keep = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Time the first token after a switch to an adapter: the base's cache reused, or the context read again.

    Through PEFT, one request at a time, on this machine. With --record the card shows it, as table and
    picture; the release is then to be validated again.

    Example: zoo cost ./relevance --tokens 512,2048,8192 --device cuda --dtype bfloat16 --record
    """
    from zoo.adapter import AdapterRepo
    from zoo.bench.cost import measure_cost, record_cost
    from zoo.cli.progress import shown
    from zoo.errors import UsageError
    from zoo.intrinsic.intrinsic import find_base

    try:
        lengths = [int(one) for one in tokens.split(",")]
    except ValueError:
        lengths = []
    if not lengths or min(lengths) < 1 or len(lengths) > 64:
        raise UsageError(f"--tokens {tokens}: no lengths", hint="--tokens 256,1024,4096")
    repo = AdapterRepo.open(path)
    with shown(quiet=quiet) as progress:
        model = find_base(repo, base)
        found = measure_cost(
            repo, model, lengths=lengths, runs=runs, device=device, dtype=dtype, progress=progress
        )
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
    else:
        typer.echo(f"{'tokens':>8}  {'reused':>10}  {'read again':>10}  times")
        for one in found.points:
            times = f"{1000 * one.reused:>7.1f} ms  {1000 * one.recomputed:>7.1f} ms"
            typer.echo(f"{one.tokens:>8,}  {times}  {one.recomputed / one.reused:.1f}")
    if record:
        typer.echo(f"recorded; {record_cost(repo, found)}\n  → zoo validate {path} --record", err=True)
