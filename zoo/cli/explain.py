"""`zoo explain`: what a code means and how to fix what it stands for."""

from typing import Annotated

import typer


def explain(
    code: Annotated[
        str, typer.Argument(metavar="[CODE]", help="A code such as ZC003; none lists them all.")
    ] = "",
) -> None:
    """Print the page of a CODE: what, why it matters, how to fix it, source."""
    from zoo.validators.explain import page, titles

    if code:
        typer.echo(page(code), nl=False)
    else:
        for known, title in titles().items():
            typer.echo(f"{known}  {title}")
