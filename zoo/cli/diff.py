"""`zoo diff`: what changed between two contracts."""

from typing import Annotated

import typer

from zoo.cli.options import AsJson

PLACE = "a folder, or ORG/NAME[/FOLDER][@REVISION] on the Hub"


def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help=f"The one before: {PLACE}.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The one after: likewise.")],
    as_json: AsJson = False,
) -> None:
    """Compare what two releases promise: results, inputs, categories, invocation, base.

    A breaking change demands a higher major version in NEW's zoo.yaml (below 1.0.0 a higher minor one),
    any other change a higher version. Exit codes: 0 the version says what changed, 1 it does not.

    Example: zoo diff my-org/relevance@v1.0.0 ./relevance
    """
    import json

    from zoo.contracts.comparison import Comparison
    from zoo.contracts.source import open_contract

    comparison = Comparison.of(open_contract(old), open_contract(new))
    if as_json:
        typer.echo(json.dumps(comparison.document(), indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(comparison.lines()))
    comparison.check()
