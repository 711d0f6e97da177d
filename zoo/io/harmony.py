"""The final channel of a gpt-oss reply."""

import re
from collections.abc import Sequence

from zoo.errors import ContractError

CHANNEL = "<|channel|>"
MESSAGE = "<|message|>"
CONSTRAIN = "<|constrain|>"
ENDS = frozenset({"<|end|>", "<|return|>", "<|end_of_text|>"})
_CHANNELS = re.compile(r"\s*<\|(?:start\|>assistant<\|)?channel\|>")
_FINAL = re.compile(r"<\|channel\|>\s*final\s*(?:<\|constrain\|>[^<]{0,100})?<\|message\|>")
_END = re.compile(r"<\|(?:end|return|end_of_text)\|>")


def final_of_tokens(tokens: Sequence[str]) -> slice | None:
    """Which tokens are the last final channel's payload; None when no token opens a channel.

    Whole tokens are compared, so that text which only spells a special token opens nothing.

    Raises:
        ContractError: ZO120, there are channels and none is final, or it is empty.

    Source: mellea 0.8.0, formatters/granite/intrinsics/output.py (_logprobs_workaround); the header with a
        `<|constrain|>` is of the Harmony format's description.
    """
    if CHANNEL not in tokens:
        return None
    found = None
    for index, token in enumerate(tokens):
        if token == CHANNEL and (begin := _payload(tokens, index + 1)) is not None:
            found = begin
    if found is None:
        raise _no_final()
    end = next((index for index in range(found, len(tokens)) if tokens[index] in ENDS), len(tokens))
    if end == found:
        raise _no_final()
    return slice(found, end)


def final_of_text(text: str) -> str:
    """The last final channel of a reply that a server passed on with its channels; else the text itself.

    Raises:
        ContractError: ZO120, it begins with a channel and none is final.
    """
    if not _CHANNELS.match(text):
        return text
    headers = list(_FINAL.finditer(text))
    if not headers:
        raise _no_final()
    begin = headers[-1].end()
    end = _END.search(text, begin)
    return text[begin : end.start() if end else len(text)]


def _payload(tokens: Sequence[str], at: int) -> int | None:
    """Where the payload of the channel header that goes on at `at` begins, if it is a final channel's."""
    at = _past_space(tokens, at)
    if at >= len(tokens) or tokens[at].strip() != "final":
        return None
    at = _past_space(tokens, at + 1)
    if at < len(tokens) and tokens[at] == CONSTRAIN:
        while at < len(tokens) and tokens[at] not in (MESSAGE, CHANNEL):
            at += 1
    return at + 1 if at < len(tokens) and tokens[at] == MESSAGE else None


def _past_space(tokens: Sequence[str], at: int) -> int:
    while at < len(tokens) and not tokens[at].strip():
        at += 1
    return at


def _no_final() -> ContractError:
    return ContractError(
        "the reply has channels, and no final one with an answer",
        path=("logprobs", "content"),
        hint="let the model generate more tokens",
        code="ZO120",
    )
