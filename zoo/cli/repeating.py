"""What `zoo train --repeat` takes beside it."""

import typer

from zoo.errors import UsageError

TAKEN = {"data", "out", "repeat", "base", "eval_data", "processes", "dry_run", "as_json", "quiet"}


def check_repeat(context: typer.Context) -> None:
    """Refuses what a recorded training says itself beside `--repeat`: it would be ignored.

    Raises:
        UsageError: ZD006, naming the options.
    """
    given = []
    for option in context.command.params:
        source = context.get_parameter_source(option.name or "")
        if option.name not in TAKEN and source is not None and source.name == "COMMANDLINE":
            given.append(option.opts[0])
    if given and context.params["repeat"]:
        raise UsageError(
            f"--repeat does a training again as it was recorded, and {', '.join(given)} would be ignored",
            hint="leave out what the record says, or train with options of your own, without --repeat",
            code="ZD006",
        )
