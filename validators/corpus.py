"""A fixed corpus of awkward conversations, on which an invocation has to come out where it belongs.

What stands before the invocation decides whether its tokens survive: a template closes the turn, or does
not; the last characters of a message merge with what follows, or do not. The conversations differ in those
last characters, in their length, their script and their number of turns.
"""

from zoo.prompts import Conversation


def _ask(content: str) -> Conversation:
    return [{"role": "user", "content": content}]


_PASSAGE = (
    "The lighthouse on the northern skerry was lit for the first time in 1868. Its keeper rowed to the "
    "village once a week for flour, oil and letters; in winter the crossing could take half a day. "
)

# The last characters of the last message are what these differ in.
_ENDINGS: tuple[Conversation, ...] = (
    _ask("When was the lighthouse lit?"),
    _ask(""),
    _ask("Trailing space "),
    _ask("Trailing lines\n\n"),
    _ask("\tIndented, and ends in a tab\t"),
    _ask("Is 3 > 2, and is this a tag: <b>"),
    _ask("Version 1.2.3, build 20"),
    _ask("def f(x):\n    return {'a': [x]}\n```"),
    _ask("C:\\temp\\"),
    _ask("Elle a été « vérifiée » à Besançon — ça va ?"),
    _ask("灯台はいつ点灯しましたか。"),
    _ask("متى أضيئت المنارة؟"),
    _ask("Great 👩‍👩‍👧‍👦🏳️‍🌈"),
    _ask("[INST] <s> </s> <|user|> [SEP] not a template of ours"),
    _ask("check"),
)

_TURNS: tuple[Conversation, ...] = (
    [
        {"role": "user", "content": _PASSAGE + "When was it lit?"},
        {"role": "assistant", "content": "In 1868."},
        {"role": "user", "content": "And who kept it?"},
    ],
    [
        {"role": "user", "content": "Say it briefly."},
        {"role": "assistant", "content": "Yes."},
    ],
    _ask(_PASSAGE * 12 + "How often did the keeper row to the village?"),
)

CONVERSATIONS: tuple[Conversation, ...] = (*_ENDINGS, *_TURNS)

# Some templates refuse a system message outright; these are left out there.
WITH_SYSTEM: tuple[Conversation, ...] = (
    [
        {"role": "system", "content": "Answer from the passage only."},
        {"role": "user", "content": _PASSAGE + "Is the keeper named?"},
    ],
    [{"role": "system", "content": ""}, {"role": "user", "content": "No instructions at all:"}],
)
