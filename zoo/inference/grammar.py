"""Decoding that can only give what a JSON Schema allows.

Which tokens may come next is worked out by llguidance, from the base's own `tokenizer.json`. The blanks are
those of Python's `json.dumps` unless told otherwise: keys and punctuation are then forced, and what is forced
costs no call of the model. Free blanks are bounded, so that no model can write them for ever.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import ContractError

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from llguidance._lib import JsonCompileOptions
    from tokenizers import Tokenizer
    from torch import Tensor

FREE_BLANKS: "JsonCompileOptions" = {"whitespace_pattern": r"( |\n {0,16})"}
FIXED_BLANKS: "JsonCompileOptions" = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
MAX_SCHEMA_BYTES = 1_000_000


class Grammars:
    """Makes the constraints of one base model's tokenizer; a schema is compiled once."""

    def __init__(self, tokenizer: "Tokenizer", *, vocabulary: int, end_ids: Sequence[int]) -> None:
        """Reads the tokenizer, which takes about half a second for 50,000 tokens.

        Args:
            tokenizer: the base's.
            vocabulary: how many logits the model gives; ids without a token are never allowed.
            end_ids: what ends an answer; allowed where the JSON is complete.
        """
        from llguidance import LLTokenizer

        self._vocabulary = vocabulary
        known = max(tokenizer.get_vocab_size(with_added_tokens=True), vocabulary)
        self._tokenizer: LLTokenizer = LLTokenizer(
            tokenizer.to_str(), n_vocab=known, eos_token=list(end_ids) or None
        )
        self._compiled: dict[tuple[str, bool], tuple[LLMatcher, tuple[str, ...]]] = {}

    def constraint(self, schema: Mapping[str, Any], *, free_blanks: bool = False) -> "SchemaConstraint":
        """A constraint at its start.

        Args:
            schema: JSON Schema of the whole answer.
            free_blanks: whether a blank, or a new line with its indentation, may stand between any two
                elements, as servers allow unless told.

        Raises:
            ContractError: ZO160, the schema is too large, or cannot be decoded to.
        """
        wanted = (json.dumps(schema, ensure_ascii=False), free_blanks)
        if wanted not in self._compiled:
            self._compiled[wanted] = self._compile(*wanted)
        matcher, notes = self._compiled[wanted]
        return SchemaConstraint(matcher.deep_copy(), vocabulary=self._vocabulary, notes=notes)

    def spelt(self, token: int) -> bytes:
        """A token's own bytes, which may be a part of a character."""
        raw: bytes = self._tokenizer.decode_bytes([token])
        return raw

    def _compile(self, schema: str, free_blanks: bool) -> "tuple[LLMatcher, tuple[str, ...]]":
        from llguidance import LLMatcher, LLParserLimits

        if len(schema) > MAX_SCHEMA_BYTES:
            raise _undecodable(f"it is larger than {MAX_SCHEMA_BYTES:,} characters")
        # lenient: a keyword that cannot steer the decoding is left to the check of the finished reply
        blanks = FREE_BLANKS if free_blanks else FIXED_BLANKS
        overrides: JsonCompileOptions = {**blanks, "lenient": True}
        try:
            grammar = LLMatcher.grammar_from_json_schema(schema, overrides=overrides)
        except ValueError as error:
            raise _undecodable(" ".join(str(error).split())[:200]) from None
        limits = LLParserLimits(verbose_errors=False)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)
        if matcher.is_error():
            raise _undecodable(" ".join(matcher.get_error().split())[:200])
        return matcher, tuple(" ".join(note.split())[:200] for note in matcher.get_grammar_warnings())


class SchemaConstraint:
    """Where one answer stands in its schema; a `zoo.inference.constraint.Constraint`.

    Attributes:
        notes: keywords of the schema that do not steer the decoding; the finished reply is still held
            against them.
    """

    def __init__(self, matcher: "LLMatcher", *, vocabulary: int, notes: tuple[str, ...]) -> None:
        """Wraps a matcher at its start, which nobody else uses."""
        self._matcher = matcher
        self._vocabulary = vocabulary
        self.notes = notes

    def allowed(self) -> "Tensor":
        """Which tokens may come next.

        Returns:
            bool `[vocabulary]`, on the CPU.

        Raises:
            ContractError: ZO160, the schema is too complex to go on.
        """
        import numpy as np
        import torch

        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        return torch.from_numpy(np.unpackbits(bits, bitorder="little")[: self._vocabulary]).bool()

    def advance(self, token: int) -> None:
        """Takes the token that was chosen.

        Raises:
            ContractError: ZO160, the schema is too complex to go on.
            ValueError: the token was not allowed.
        """
        if self._matcher.validate_tokens([token]) != 1:
            raise ValueError(f"token {token} was not allowed here")
        self._matcher.consume_token(token)
        self._check()

    def takes(self, ids: Sequence[int]) -> bool:
        """Whether these tokens could all be chosen from here on, one after another; it stays where it stands.

        Raises:
            ContractError: ZO160, the schema is too complex to say.
        """
        taken: int = self._matcher.validate_tokens(list(ids))
        self._check()
        return taken == len(ids)

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, and nothing but its end may follow."""
        return self._matcher.is_stopped()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise _undecodable(" ".join(self._matcher.get_error().split())[:200])


def _undecodable(why: str) -> ContractError:
    return ContractError(
        f"the reply's schema cannot be decoded to: {why}",
        path=("response_format",),
        code="ZO160",
        hint="write the schema with types, enum, properties, items and their bounds",
    )
