"""Checks ZI001 to ZI003, ZI006 and ZI007: the invocation's ids by themselves."""

from collections.abc import Iterator

from zoo.activation import matcher_agrees
from zoo.report import Finding, Location, Severity
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.places import in_config, in_release

KEY = "alora_invocation_tokens"


def _present(context: Context) -> Iterator[Finding | Measurement]:
    config = context.repo.config
    if config.is_activated:
        yield Measurement(name="invocation_tokens", value=len(config.alora_invocation_tokens or ()))
        return
    legacy = f"; it has the older package's invocation_string {config.invocation_string[:60]!r}" if (
        config.invocation_string
    ) else ""  # fmt: skip
    yield Finding(
        message=f"{KEY} is empty: this is a plain LoRA, active on every token{legacy}",
        location=in_config(context.repo.root, KEY),
        fix='zoo convert LORA OUT --invocation "<|im_start|>check\\n" makes an aLoRA of it',
    )


def _in_vocabulary(context: Context) -> Iterator[Finding]:
    size = context.known_base.vocabulary
    for token in sorted(set(_ids(context))):
        if token >= size:
            yield Finding(
                message=f"id {token} is outside the vocabulary of {context.known_base.id}: {size:,} ids",
                location=in_config(context.repo.root, KEY),
                fix="the ids are another tokenizer's: encode the invocation with this base's",
            )


def _of_the_text(context: Context) -> Iterator[Finding | Measurement]:
    ids, text = _ids(context), context.invocation.text
    encoded = context.prompter.encode(text)
    yield Measurement(name="invocation", value=text)
    if encoded == ids or _acts_late(context, encoded, ids):
        return
    if context.repo.release:
        yield Finding(
            message=f"the ids {list(ids)} are not those of the text in zoo.yaml: {text!r} is "
            f"{list(encoded)}, and the ids read {context.prompter.decode(ids)!r}",
            location=in_config(context.repo.root, KEY),
            fix="write the ids that the adapter was trained with, and the text that gives them",
        )
    else:
        yield Finding(
            message=f"the ids {list(ids)} read {text!r}, and that text is tokenised as {list(encoded)}: "
            "no prompt contains them",
            location=in_config(context.repo.root, KEY),
            fix="encode the invocation's text with the base's tokenizer, in one piece",
        )


def _acts_late(context: Context, encoded: tuple[int, ...], ids: tuple[int, ...]) -> bool:
    """Whether this was converted from `alora` 0.x, whose adapters act behind the invocation's first token.

    Its text still stands whole in the prompt; the ids are those without the first.
    """
    lock = context.repo.lock
    converted = lock.conversion if lock else None
    return bool(converted and converted.source_format.startswith("alora") and encoded[1:] == ids)


def _no_padding_inside(context: Context) -> Iterator[Finding]:
    pad, ids = context.prompter.pad_id, _ids(context)
    if pad is None or pad not in ids:
        return
    last = ids[-1] == pad
    yield Finding(
        message=f"the invocation {'ends in' if last else 'contains'} the padding token, id {pad}"
        + (": padding on the right moves or makes an activation" if last else ""),
        severity=Severity.ERROR if last else Severity.WARNING,
        location=in_config(context.repo.root, KEY),
        fix="choose another invocation; with this one, pad on the left only",
    )


def _found_by_matchers(context: Context) -> Iterator[Finding]:
    ids = _ids(context)
    if not matcher_agrees(ids):
        yield Finding(
            message=f"the last id, {ids[-1]}, stands in the invocation twice: llama-server's backward "
            "matcher can miss it",
            severity=Severity.WARNING,
            location=in_config(context.repo.root, KEY),
            fix="end the invocation in a token that stands nowhere else in it",
        )


def invocation_place(context: Context) -> Location:
    """Where the author wrote the invocation: its text in a release, else its ids."""
    root = context.repo.root
    return in_release(root, "invocation.text") if context.repo.release else in_config(root, KEY)


def _ids(context: Context) -> tuple[int, ...]:
    return tuple(context.repo.config.alora_invocation_tokens or ())


_IDS = ("ZC001", "ZI001")
_TEXT = (*_IDS, "ZM001")
_BASE = frozenset({Need.BASE})
INVOCATION_CHECKS = (
    Check(code="ZI001", title="The adapter has an invocation", run=_present, requires=("ZC001",)),
    Check(code="ZI002", title="The invocation's ids exist", run=_in_vocabulary, requires=_IDS, needs=_BASE),
    Check(code="ZI003", title="The invocation's ids are those of its text", run=_of_the_text,
          requires=(*_TEXT, "ZI002"), needs=_BASE),
    Check(code="ZI006", title="The invocation does not contain padding", run=_no_padding_inside,
          requires=_IDS, needs=_BASE),
    Check(code="ZI007", title="Every engine's matcher finds the invocation", run=_found_by_matchers,
          requires=_IDS),
)  # fmt: skip
