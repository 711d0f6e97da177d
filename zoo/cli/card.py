"""`zoo card`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="A report from zoo validate --output x.json; else the recorded one.",
    ),
]
Write = Annotated[bool, typer.Option("--write", help="Write README.md into the folder instead of stdout.")]
Check = Annotated[bool, typer.Option("--check", help="Only say whether README.md is what follows; exit 1.")]
Library = Annotated[bool, typer.Option("--library", help="PATH is a library: a page with all its adapters.")]
Repo = Annotated[
    str, typer.Option("--repo", metavar="ORG/NAME[/FOLDER]", help="Where the card's snippet loads from.")
]
Folder = Annotated[
    Path, typer.Argument(metavar="PATH", help="A release, or with --library a folder of some.")
]


def card(
    path: Folder,
    report: ReportFile = None,
    write: Write = False,
    check: Check = False,
    library: Library = False,
    repo: Repo = "",
) -> None:
    """Generate a release's model card from its evidence, or a library's page from its adapters.

    Example: zoo card ./relevance > README.md
    """
    from zoo.adapter import CARD_NAME, AdapterRepo
    from zoo.cards.card import read_report, recorded_report, render_card
    from zoo.cards.drift import check_card
    from zoo.cards.library import render_library
    from zoo.errors import UsageError
    from zoo.staging import write_file

    if check and write:
        raise UsageError("--check changes nothing, and --write does", hint="give one of them")
    if library and (report or repo):
        raise UsageError("a library's page is made from its locks", hint="leave --report and --repo out")
    if library:
        root, text = path, render_library(path)
    else:
        adapter = AdapterRepo.open(path)
        evidence = read_report(report) if report else recorded_report(adapter)
        root, text = adapter.root, render_card(adapter, evidence, hub_id=repo)
        if evidence is None:
            said = f"no evidence is recorded: the card says so\n  → zoo validate {path} --record"
            typer.echo(said, err=True)
    if check:
        check_card(root / CARD_NAME, text)
    elif write:
        write_file(root / CARD_NAME, text.encode())
        typer.echo(f"wrote {root / CARD_NAME}", err=True)
    else:
        sys.stdout.write(text)
