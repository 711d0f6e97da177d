"""Check ZI010: whether people write the invocation without meaning it."""

from collections.abc import Iterator

from zoo.activation import occurrences
from zoo.report import Finding, Severity
from zoo.specs.release import Position
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.checks.invocation import invocation_place
from zoo.validators.ordinary import ORDINARY

_FIX = "choose what nobody writes: a special token and a word of your own"


def _not_in_ordinary_text(context: Context) -> Iterator[Finding | Measurement]:
    invocation = context.invocation
    calls = [text for text in ORDINARY if occurrences(context.prompter.encode(text), invocation.ids)]
    written = [text for text in ORDINARY if invocation.text in text and text not in calls]
    if calls:
        yield Finding(
            message=f"the invocation {invocation.text!r} is in {len(calls)} of {len(ORDINARY)} ordinary "
            f"texts, such as {_around(calls[0], invocation.text)!r}: {_consequence(invocation.position)}",
            location=invocation_place(context),
            fix=_FIX,
        )
    elif written:
        yield Finding(
            message=f"the letters of {invocation.text!r} are in {len(written)} of {len(ORDINARY)} ordinary "
            f"texts, such as {_around(written[0], invocation.text)!r}; only a merge with what stands beside "
            "them keeps the adapter off there",
            severity=Severity.WARNING,
            location=invocation_place(context),
            fix=_FIX,
        )
    yield Measurement(name="ordinary_texts", value=len(ORDINARY))
    yield Measurement(name="ordinary_texts_with_its_ids", value=len(calls))
    yield Measurement(name="ordinary_texts_with_its_letters", value=len(calls) + len(written))


def _consequence(position: Position) -> str:
    if position is Position.IN_MESSAGE:
        return "any message that goes on with such text moves the activation"
    return "a prompt that is cut or lacks the invocation is then adapted from there on, without a word"


def _around(text: str, wanted: str) -> str:
    """The place in a text, with some words beside it; its beginning when only the ids occur."""
    at = max(0, text.find(wanted))
    return text[max(0, at - 20) : at + len(wanted[:40]) + 20]


COLLISION_CHECKS = (
    Check(code="ZI010", title="Ordinary text does not contain the invocation", run=_not_in_ordinary_text,
          requires=("ZI003",), needs=frozenset({Need.BASE})),
)  # fmt: skip
