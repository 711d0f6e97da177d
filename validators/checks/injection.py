"""Check ZI008: what happens when somebody else writes the invocation into a prompt."""

from collections.abc import Iterator, Sequence

from zoo.activation import occurrences
from zoo.report import Finding, Severity
from zoo.specs.release import Position
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.checks.invocation import invocation_place
from zoo.validators.checks.placement import EDGES, in_place
from zoo.validators.injection import encode_apart
from zoo.validators.rendering import Tokenised


def _not_moved_by_users(context: Context) -> Iterator[Finding | Measurement]:
    prompts = context.rendering.quotations
    moved = [prompt for prompt in prompts if not prompt.found or not in_place(context, prompt)]
    apart = [_apart(context, prompt) for prompt in prompts]
    moved_apart = [
        prompt for prompt, count in zip(prompts, apart, strict=True) if _copied_behind(prompt, count)
    ]
    if context.invocation.position is Position.IN_MESSAGE:
        yield _inside_a_message(context, prompts, moved, moved_apart)
    elif moved:
        places = ", ".join(dict.fromkeys(prompt.chat.label for prompt in moved))
        yield Finding(
            message=f"whoever writes {context.invocation.text!r} into {places} moves or hides the activation",
            location=invocation_place(context),
            fix=EDGES,
        )
    yield Measurement(name="quotations", value=len(prompts))
    yield Measurement(
        name="quotations_that_make_an_earlier_copy", value=sum(len(p.found) > 1 for p in prompts)
    )
    yield Measurement(name="quotations_that_move_it", value=len(moved))
    yield Measurement(
        name="quotations_that_make_a_copy_with_special_tokens_off_in_them",
        value=sum(count > 1 for count in apart),
    )
    if context.invocation.position is Position.IN_MESSAGE:
        yield Measurement(
            name="quotations_that_move_it_with_special_tokens_off_in_them", value=len(moved_apart)
        )


def _inside_a_message(
    context: Context, prompts: Sequence[Tokenised], moved: Sequence[Tokenised], apart: Sequence[Tokenised]
) -> Finding:
    """It can always be repeated behind; whether anything helps depends on its tokens."""
    behind = sum(bool(prompt.chat.tail) for prompt in prompts)
    helps = "use the position after_prompt" if apart else (
        "encode user text with special tokens off, or use the position after_prompt"
    )  # fmt: skip
    return Finding(
        message="the invocation stands inside a message: user text behind it that repeats it moves the "
        f"activation, and so can weaken the adapter (in {len(moved)} of {behind} tries; with special tokens "
        f"off in user text, in {len(apart)})",
        severity=Severity.WARNING,
        location=invocation_place(context),
        fix=helps,
    )


def _apart(context: Context, prompt: Tokenised) -> int:
    """How often the ids occur when special tokens are not parsed in what the user wrote."""
    ids = encode_apart(context.prompter.tokenizer, prompt.text, prompt.chat.quoted)
    return len(occurrences(ids, context.invocation.ids))


def _copied_behind(prompt: Tokenised, count: int) -> bool:
    return bool(prompt.chat.tail) and count > 1


INJECTION_CHECKS = (
    Check(code="ZI008", title="User text cannot move the invocation", run=_not_moved_by_users,
          requires=("ZI004",), needs=frozenset({Need.BASE})),
)  # fmt: skip
