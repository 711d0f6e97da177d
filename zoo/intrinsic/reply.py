"""A reply as it is decoded: its text piece by piece, and in the end in the form servers give it."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Top = Sequence[tuple[int, float]]


class Pieces:
    """Turns tokens into text as they come; bytes of an unfinished character wait for the rest of it."""

    def __init__(self, tokenizer: "Tokenizer", on_text: Callable[[str], None] | None = None) -> None:
        """Starts with nothing.

        Args:
            tokenizer: the base's.
            on_text: told of every piece.
        """
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._on_text = on_text

    def add(self, token: int) -> None:
        """Takes the next token."""
        piece = self._stream.step(self._tokenizer, token)
        if piece and self._on_text:
            self._on_text(piece)


def as_choice(
    text: str, ids: Sequence[int], top: Sequence[Top], spelt: Callable[[int], bytes]
) -> dict[str, Any]:
    """The reply as an OpenAI choice.

    Args:
        text: what the reply says.
        ids: its tokens.
        top: for each of them the likeliest ids with their log-probabilities, the token's own among them;
            nothing when none were asked for.
        spelt: a token's bytes.
    """
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}}
    if not any(top):
        return choice
    content = []
    for token, likely in zip(ids, top, strict=True):
        entries = {id: _entry(spelt(id), logprob) for id, logprob in likely}
        content.append({**entries[token], "top_logprobs": list(entries.values())})
    return {**choice, "logprobs": {"content": content}}


def _entry(raw: bytes, logprob: float) -> dict[str, Any]:
    return {"token": raw.decode("utf-8", "replace"), "bytes": list(raw), "logprob": logprob}
