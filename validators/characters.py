"""What may stand right before an invocation: one text for each kind of character that tokenizers tell apart.

Pre-tokenizers split by Unicode category, by digits, by kinds of white space and by line breaks, and byte-pair
merges follow inside what they split off. So each kind is tried, and each ASCII punctuation mark by itself,
because merges such as `>` with `:` are of single marks.
"""

import string
from collections.abc import Iterator, Mapping

# Every general category of Unicode but the surrogates (Cs), which no UTF-8 text contains.
CATEGORIES: Mapping[str, str] = {
    "Lu": "A\u00c9\u042f",
    "Ll": "z\u00df\u044f",
    "Lt": "\u01c5",
    "Lm": "\u02b0",
    "Lo": "\u5b57\u0639\u304b",
    "Mn": "\u0301",
    "Mc": "\u093e",
    "Me": "\u20dd",
    "Nd": "\u0663\u096a",
    "Nl": "\u2167",
    "No": "\u00b2",
    "Pc": "\u203f",
    "Pd": "\u2014",
    "Ps": "\u300c",
    "Pe": "\u300d",
    "Pi": "\u00ab",
    "Pf": "\u00bb",
    "Po": "\u00bf\u3002",
    "Sm": "\u00d7",
    "Sc": "\u20ac",
    "Sk": "\u02dc",
    "So": "\u00a9\U0001f642",
    "Zs": "\u00a0\u2003\u3000",
    "Zl": "\u2028",
    "Zp": "\u2029",
    "Cc": "\x00\x07\x1b",
    "Cf": "\u200b\u202e\ufeff",
    "Co": "\ue000",
    "Cn": "\u0378",
}
SPACES = (" ", "  ", "\t", " \t", "\x0b", "\x0c", "\x85", "\u1680", "\u202f")
LINE_BREAKS = ("\n", "\n\n", "\n\n\n", "\r", "\r\n", "\r\n\r\n", " \n", "\n ", "\n\t")
EMOJI = (
    "\U0001f469\u200d\U0001f469\u200d\U0001f467",  # joined by zero-width joiners
    "\U0001f469\u200d",  # the joiner is last
    "\U0001f3f3\ufe0f\u200d\U0001f308",
    "\U0001f44d\U0001f3fd",  # with a skin tone
    "\U0001f1eb\U0001f1f7",  # a flag: two regional indicators
    "1\ufe0f\u20e3",  # a keycap
)
COMBINED = ("e\u0301", "o\u0302\u0323\u0301", "\u0915\u094d")
LIKE_SPECIAL = (
    "<s>", "</s>", "<|", "|>", "<|im_end|", "<|im_start", "<|im_end|>", "<|endoftext|>", "<|eot_id|>",
    "[INST]", "[/INST]", "<start_of_turn>", "<|end_of_role|>", "<think>", "</tool_call>", "<unk>",
)  # fmt: skip


def endings() -> Iterator[str]:
    """Each text once, in a fixed order."""
    several = (CATEGORIES.values(), (string.punctuation, string.digits))
    yield from (character for group in several for text in group for character in text)
    yield from (text for group in (SPACES, LINE_BREAKS, EMOJI, COMBINED, LIKE_SPECIAL) for text in group)


def named(text: str) -> str:
    """The text as its code points, for a finding: `U+00A0`."""
    if text.isascii() and text.isprintable() and text.strip():
        return repr(text)
    return "+".join(f"U+{ord(character):04X}" for character in text[:6])
