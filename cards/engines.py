"""The section about engines: what each does with an activated LoRA, from `zoo.activation`."""

from zoo.activation import CONVENTIONS, Behaviour, Convention
from zoo.cards.checks import engines_ran
from zoo.cards.markdown import cell, table
from zoo.cards.record import CardRecord


def engines(record: CardRecord) -> str:
    """What engines do with it."""
    ran = record.report is not None and engines_ran(record.report)
    rows = [[cell(one.engine), cell(one.versions), _treatment(one), cell(one.note)] for one in CONVENTIONS]
    return (
        "## Engines\n\n"
        f"{table(['Engine', 'Versions', 'What it does with an aLoRA', 'Note'], rows)}\n\n"
        "This is known about the engines; "
        + (
            "those of the checks ZE above were run with this adapter."
            if ran
            else "only PEFT is run in the checks above."
        )
    )


def _treatment(convention: Convention) -> str:
    if convention.behaviour is not Behaviour.ACTIVATED:
        return f"**{convention.behaviour.value}**"
    if convention.shift == 0:
        return "activated where it should be"
    count = abs(convention.shift)
    side = "early" if convention.shift < 0 else "late"
    return f"activated {count} token{'s' if count > 1 else ''} {side}"
