"""`zoo card`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.options import Adapter

ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="A report from zoo validate --output x.json; else the recorded one.",
    ),
]
Write = Annotated[bool, typer.Option("--write", help="Write README.md into the folder instead of stdout.")]
Repo = Annotated[str, typer.Option("--repo", metavar="ORG/NAME", help="Where the card's snippet loads from.")]


def card(path: Adapter, report: ReportFile = None, write: Write = False, repo: Repo = "") -> None:
    """Generate a release's model card from its evidence.

    Example: zoo card ./relevance > README.md
    """
    from zoo.adapter import CARD_NAME, AdapterRepo
    from zoo.cards.card import read_report, recorded_report, render_card
    from zoo.staging import write_file

    adapter = AdapterRepo.open(path)
    evidence = read_report(report) if report else recorded_report(adapter)
    text = render_card(adapter, evidence, hub_id=repo)
    if evidence is None:
        typer.echo(f"no evidence is recorded: the card says so\n  → zoo validate {path} --record", err=True)
    if write:
        write_file(adapter.root / CARD_NAME, text.encode())
        typer.echo(f"wrote {adapter.root / CARD_NAME}", err=True)
    else:
        sys.stdout.write(text)
