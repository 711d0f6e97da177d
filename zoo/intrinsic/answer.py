"""What came out of one call, and how long each part took."""

from dataclasses import dataclass
from typing import Any, Literal

Stop = Literal["end", "length", "constraint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seconds:
    """Wall time by part.

    Attributes:
        prompt: rewriting the request, rendering and tokenising it.
        prefill: the base model over what it had not read yet.
        decode: the suffix and every token of the reply.
        process: from the reply to the result.
    """

    prompt: float
    prefill: float
    decode: float
    process: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.prompt + self.prefill + self.decode + self.process


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One reply.

    Attributes:
        text: the reply as the model wrote it.
        result: what `io.yaml` makes of it, plain JSON; the text itself where there is none.
        ids: the reply's tokens, without the one that ends it.
        stopped: `end` the model ended it, `length` it was cut off, `constraint` the schema was complete.
        prefix_tokens: how many tokens before the invocation the base model read.
        suffix_tokens: how many from the invocation on the adapter read.
        parts: wall time by part.
    """

    text: str
    result: Any
    ids: tuple[int, ...]
    stopped: Stop
    prefix_tokens: int
    suffix_tokens: int
    parts: Seconds

    @property
    def seconds(self) -> float:
        """Wall time of the whole call."""
        return self.parts.total

    def to_document(self) -> dict[str, Any]:
        """The JSON form."""
        parts = {name: round(getattr(self.parts, name), 6) for name in Seconds.__slots__}
        return {
            "result": self.result,
            "text": self.text,
            "stopped": self.stopped,
            "tokens": {
                "prefix": self.prefix_tokens,
                "suffix": self.suffix_tokens,
                "reply": len(self.ids),
            },
            "seconds": {**parts, "total": round(self.seconds, 6)},
        }

    def line(self) -> str:
        """The tokens and times in one line."""
        parts = ", ".join(f"{name} {1000 * getattr(self.parts, name):.0f}" for name in Seconds.__slots__)
        return (
            f"{self.prefix_tokens} + {self.suffix_tokens} tokens read, {len(self.ids)} written "
            f"({self.stopped}); {1000 * self.seconds:.0f} ms: {parts}"
        )
