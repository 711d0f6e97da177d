"""Check ZI009: what is left of the invocation when a prompt is cut to fit, and whether it has to be."""

from collections.abc import Iterator, Sequence

from zoo.activation import occurrences
from zoo.models import BaseModel
from zoo.report import Finding, Severity
from zoo.validators.chat import Kind
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.checks.invocation import invocation_place
from zoo.validators.checks.placement import listed
from zoo.validators.rendering import Tokenised

_LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")


def _survives_cutting(context: Context) -> Iterator[Finding | Measurement]:
    prompts = context.rendering.prompts
    limit = context_length(context.known_base)
    kept_tail = _tail(prompts) + 1  # with one token of context
    yield from _own_that_do_not_fit(context, prompts, limit)
    yield from _lost_on_the_left(context, prompts, kept_tail, limit)
    yield from _cut_by_the_tokenizer(context)
    yield Measurement(name="context_length", value=limit or "not stated by the base")
    yield Measurement(name="longest_prompt", value=max(len(prompt.ids) for prompt in prompts))
    yield Measurement(name="tokens_that_must_stay_at_the_end", value=kept_tail - 1)
    for name, count in _simulated(context, prompts, kept_tail).items():
        yield Measurement(name=name, value=count)


def context_length(base: BaseModel) -> int | None:
    """How many positions a base model has, as its config states; None when it does not."""
    nested = base.config.get("text_config")
    for config in (base.config, nested if isinstance(nested, dict) else {}):
        for key in _LENGTHS:
            if isinstance(value := config.get(key), int) and value > 0:
                return value
    return None


def _tail(prompts: Sequence[Tokenised]) -> int:
    """The invocation and what the template writes behind it, in tokens."""
    return min(len(prompt.ids) - prompt.found[-1] for prompt in prompts)


def _own_that_do_not_fit(
    context: Context, prompts: Sequence[Tokenised], limit: int | None
) -> Iterator[Finding]:
    too_long = [p for p in prompts if p.chat.kind is Kind.OWN and limit and len(p.ids) > limit]
    if too_long:
        longest = max(len(prompt.ids) for prompt in too_long)
        yield Finding(
            message=f"{listed(too_long)}: up to {longest:,} tokens, and {context.known_base.id} has "
            f"{limit:,} positions: an engine refuses the prompt or cuts it",
            location=invocation_place(context),
            fix="shorten the samples to what the base can read",
        )


def _lost_on_the_left(
    context: Context, prompts: Sequence[Tokenised], kept: int, limit: int | None
) -> Iterator[Finding]:
    """Whether the last tokens hold the invocation: always at a prompt's end, not always inside a message."""
    lost = [p for p in prompts if not occurrences(p.ids[-kept:], context.invocation.ids)]
    if not lost:
        return
    needed = max(len(prompt.ids) - prompt.found[-1] for prompt in lost)
    never = limit is not None and needed > limit
    yield Finding(
        message=f"cutting on the left to {limit if never else kept:,} tokens takes the invocation away, and "
        f"the adapter is silently off ({listed(lost)}): with the text behind it {needed:,} tokens must stay",
        severity=Severity.ERROR if never else Severity.WARNING,
        location=invocation_place(context),
        fix="put the invocation behind the text, or use the position after_prompt",
    )


def _cut_by_the_tokenizer(context: Context) -> Iterator[Finding]:
    cut = context.prompter.own_truncation
    if cut and str(cut.get("direction", "right")).lower() == "right":
        yield Finding(
            message=f"the base's tokenizer.json cuts at {cut.get('max_length')} tokens on the right: used as "
            "it is, it loses the invocation in longer prompts",
            severity=Severity.WARNING,
            location=invocation_place(context),
            fix="call no_truncation(), or set truncation_side to left",
        )


def _simulated(context: Context, prompts: Sequence[Tokenised], kept: int) -> dict[str, int | str]:
    """What the usual ways of cutting do; the cut on the right takes the invocation's last token only."""
    wanted = context.invocation.ids
    right = [occurrences(prompt.ids[: prompt.found[-1] + len(wanted) - 1], wanted) for prompt in prompts]
    halves = [p for p in prompts if len(p.ids) > 2 * kept]
    middle = [occurrences((*p.ids[: len(p.ids) // 4], *p.ids[-max(kept, len(p.ids) // 4):]), wanted)
              for p in halves]  # fmt: skip
    left = [occurrences(prompt.ids[-kept:], wanted) for prompt in prompts]
    moved = sum(bool(f) and f[-1] != p.found[-1] for f, p in zip(right, prompts, strict=True))
    return {
        "tokens_that_may_go_on_the_right": min(len(p.ids) - p.found[-1] - len(wanted) for p in prompts),
        "kept_when_cut_on_the_left": sum(map(bool, left)),
        "kept_when_cut_in_the_middle": f"{sum(map(bool, middle))} of {len(halves)}",
        "silently_off_when_cut_on_the_right": sum(not found for found in right),
        "moved_to_an_earlier_turn_when_cut_on_the_right": moved,
        "the_tokenizer_cuts_on_the": str(context.known_base.tokenizer_config.get("truncation_side", "right")),
    }


TRUNCATION_CHECKS = (
    Check(code="ZI009", title="Prompts fit the base, and cutting on the left keeps the invocation",
          run=_survives_cutting, requires=("ZI004",), needs=frozenset({Need.BASE})),
)  # fmt: skip
