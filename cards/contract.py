"""The section about the contract: what a caller gives and gets, and one call that was really made."""

import json
from typing import Any

from zoo.cards.markdown import block, cell, code, code_cell, table
from zoo.cards.record import CardRecord
from zoo.contracts.fields import Field


def contract(record: CardRecord) -> str:
    """The contract; empty where there is no `io.yaml`."""
    promise = record.contract
    if promise is None or promise.result is None:
        return ""
    inputs = promise.inputs
    given = ["a conversation (`messages`)"]
    if inputs.documents in ("always", "sometimes"):
        given.append("documents" if inputs.documents == "always" else "documents, if there are any")
    given += [f"the argument {code(name)}" for name in sorted(inputs.arguments)]
    rows = [[code_cell(name), _described(field)] for name, field in sorted(promise.result.items())]
    parts = [
        "## Contract",
        "`io.yaml` says how a request becomes a prompt and a reply a result. A caller gives "
        f"{', '.join(given)}.",
        table(["Result", "What it is"], rows),
        _example(record),
    ]
    return "\n\n".join(part for part in parts if part)


def _described(field: Field) -> str:
    said = field.describe()
    if field.categories:
        numbers = ", ".join(f"{name} {number:g}" for name, number in field.categories)
        return cell(f"{said}, the expected value over {numbers}")
    if field.values is not None:
        return cell(f"{said}: {', '.join(json.dumps(value, ensure_ascii=False) for value in field.values)}")
    return cell(said)


def _example(record: CardRecord) -> str:
    made = record.lock.example if record.lock else None
    if made is None:
        return ""
    given = code(json.dumps(made.arguments, ensure_ascii=False))
    arguments = f"\n\nwith the arguments {given}" if made.arguments else ""
    return (
        "One call, made with these files when they were published. The base model read "
        f"{made.prefix_tokens:,} tokens, the adapter {made.suffix_tokens:,}. The request:\n\n"
        f"{block(_pretty(made.request), 'json')}{arguments}\n\n"
        f"The adapter wrote:\n\n{block(made.reply, 'text')}\n\n"
        f"The result:\n\n{block(_pretty(made.result), 'json')}"
    )


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
