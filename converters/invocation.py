"""The invocation of a converted adapter: text to ids or ids to text, checked against its base."""

from collections.abc import Mapping, Sequence

from zoo.converters.checkpoint import LoraCheckpoint
from zoo.converters.readers.legacy import Boundary, trigger
from zoo.errors import RefusedError, UsageError
from zoo.prompts import Conversation, Invocation, Prompter
from zoo.specs.release import Position

# they end in different kinds of characters: what stands before the invocation decides merges
CONVERSATIONS: tuple[Conversation, ...] = (
    [{"role": "user", "content": "Is the sky blue?"}],
    [{"role": "user", "content": "Passage: cats sleep a lot\nQuestion: do cats sleep"}],
    [{"role": "user", "content": "<p>7 * 6 = 42</p>\n\n"}],
    [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "ça va ? 😀"},
    ],
)


def decide(
    checkpoint: LoraCheckpoint,
    prompter: Prompter,
    *,
    text: str = "",
    position: Position | None = None,
    boundary: Boundary = Boundary.EXCLUSIVE,
) -> tuple[Invocation, tuple[str, ...]]:
    """The invocation that the converted adapter gets, and what the plan says about it.

    Args:
        checkpoint: the source; its own invocation, where it has one, is kept.
        prompter: of the base model.
        text: what the user asked for.
        position: where it goes; found out from the chat template when None.
        boundary: how the legacy format's boundary is read.

    Raises:
        UsageError: there is no invocation, or two that disagree.
        RefusedError: ZV022, the text or ids do not fit the tokenizer; ZI004, they do not occur in rendered
            prompts; ZV019, see `trigger`.
    """
    own = checkpoint.invocation
    lines: list[str] = []
    if own is None:
        if not text:
            raise _missing(checkpoint, prompter)
        ids = _encode(text, prompter)
    elif own.ids:
        text, ids = _kept(own.ids, text, prompter)
        lines.append("the source's own invocation ids are kept")
    else:
        if text and text != own.text:
            raise UsageError(
                f"the source's invocation is {own.text!r}, not {text!r}", hint="leave --invocation out"
            )
        text, whole = own.text, _encode(own.text, prompter)
        ids = trigger(whole, boundary)
        lines.append(_legacy_line(whole, ids, boundary))
    _check_vocabulary(ids, prompter)
    place = position or _position(text, prompter)
    invocation = Invocation(text=text, ids=ids, position=place)
    _check_place(invocation, prompter)
    return invocation, tuple(lines)


def suggestion(name: str, prompter: Prompter) -> str:
    """An invocation text for this base's chat template: its generation prompt with the adapter's own role."""
    from zoo.errors import ZooError

    try:
        opened = _generation_prompt(prompter)
    except ZooError:
        return ""
    role = "".join(letter for letter in name.lower() if letter.isalnum()) or "check"
    return opened.replace("assistant", role[:24])


def _missing(checkpoint: LoraCheckpoint, prompter: Prompter) -> UsageError:
    text = suggestion(checkpoint.name, prompter)
    written = text.replace("\\", "\\\\").replace("\n", "\\n")
    return UsageError(
        f"{checkpoint.folder.name} is a plain LoRA: it needs an invocation",
        hint=f'for this base, for example --invocation "{written}"' if text else "give one with --invocation",
    )


def _kept(ids: tuple[int, ...], text: str, prompter: Prompter) -> tuple[str, tuple[int, ...]]:
    _check_vocabulary(ids, prompter)
    if not text:
        return prompter.decode(ids), ids
    if prompter.encode(text) != ids:
        raise UsageError(
            f"the source is an aLoRA already, with the ids {list(ids)}: {text!r} has other ids",
            hint=f"leave --invocation out; its text is {prompter.decode(ids)!r}",
        )
    return text, ids


def _encode(text: str, prompter: Prompter) -> tuple[int, ...]:
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UsageError(f"the invocation {text!r} is not valid Unicode", hint="write it in UTF-8")
    ids = prompter.encode(text)
    if not ids or prompter.decode(ids) != text:
        raise RefusedError(
            f"the invocation {text!r} does not survive the base's tokenizer: it reads back as "
            f"{prompter.decode(ids)!r}",
            code="ZV022",
            hint="choose a text that begins and ends with special tokens of this tokenizer",
        )
    return ids


def _check_vocabulary(ids: Sequence[int], prompter: Prompter) -> None:
    outside = [token for token in ids if token >= prompter.base.vocabulary]
    if outside:
        raise RefusedError(
            f"the invocation ids {outside[:8]} are outside the vocabulary of {prompter.base.vocabulary:,}",
            code="ZV022",
            hint="name the base model that the adapter was trained on with --base",
        )


def _legacy_line(whole: Sequence[int], ids: Sequence[int], boundary: Boundary) -> str:
    if boundary is Boundary.INCLUSIVE:
        return (
            f"legacy boundary inclusive: all ids {list(ids)}; active from the first, as in alora's training "
            "forward (its generate starts one token later)"
        )
    return (
        f"legacy boundary exclusive: ids {list(whole)} without the first → {list(ids)}; active one "
        "token after the text begins, as in alora's generate, tokenize_alora and README (its training "
        "forward starts one token earlier: --legacy-boundary inclusive)"
    )


def _position(text: str, prompter: Prompter) -> Position:
    opened = _generation_prompt(prompter)
    return Position.GENERATION_PROMPT if opened and opened.endswith(text) else Position.AFTER_PROMPT


def _generation_prompt(prompter: Prompter) -> str:
    """What the chat template adds to open the assistant's turn."""
    closed = prompter.render([CONVERSATIONS[0]], generation_prompt=False)[0]
    opened = prompter.render([CONVERSATIONS[0]], generation_prompt=True)[0]
    return opened.removeprefix(closed) if opened.startswith(closed) else ""


def _check_place(invocation: Invocation, prompter: Prompter) -> None:
    """Renders prompts: the ids must come out, and where the invocation ends the prompt, they must end it."""
    for prompt in prompter.prompts(_with_text(invocation), invocation):
        if invocation.position is not Position.IN_MESSAGE and prompt.suffix != invocation.ids:
            raise RefusedError(
                f"the invocation {invocation.text!r} does not come out at the end of a prompt: its tokens "
                "merge with their neighbours, and its ids occur only earlier",
                code="ZI004",
                hint="begin and end the invocation with special tokens",
            )


def _with_text(invocation: Invocation) -> Sequence[Conversation]:
    if invocation.position is not Position.IN_MESSAGE:
        return CONVERSATIONS
    written: list[list[Mapping[str, str]]] = []
    for conversation in CONVERSATIONS:
        *before, last = conversation
        written.append([*before, {**last, "content": last["content"] + invocation.text}])
    return written
