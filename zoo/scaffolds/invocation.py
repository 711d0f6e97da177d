"""The invocation of a new project: a turn of its own, spelt as the base's chat template spells turns.

A template opens the assistant's turn with special tokens around a role, such as `<|im_start|>assistant` and a
newline. The project's name in the place of the role begins and ends with what never merges with its
neighbours, so its tokens are the same behind every conversation.
"""

from collections.abc import Sequence

from zoo.activation import occurrences
from zoo.errors import RefusedError
from zoo.prompts import Conversation, Invocation, Prompter
from zoo.specs.release import InvocationSpec, Position

CHATML = "<|im_start|>{name}\n"  # the embedded base's
ROLES = ("assistant", "model")
_ASKED = ({"role": "user", "content": "Hello."},)


def invocation_text(name: str, prompter: Prompter | None) -> str:
    """The text of an invocation that goes after the prompt.

    Args:
        name: the project's.
        prompter: of the base; None stands for the embedded one.

    Raises:
        RefusedError: ZO222, the template opens no turn that could be copied; ZT001, it does not render.
    """
    if prompter is None:
        return CHATML.format(name=name)
    closed = prompter.render([_ASKED], generation_prompt=False)[0]
    opened = prompter.render([_ASKED], generation_prompt=True)[0]
    opening = opened.removeprefix(closed) if opened.startswith(closed) else ""
    for role in ROLES:
        if role in opening:
            return opening.replace(role, name, 1)
    raise RefusedError(
        f"the chat template of {prompter.base.id} opens no assistant's turn whose form could be copied",
        code="ZO222",
        hint="scaffold for another base, then write zoo.yaml's base and invocation by hand",
    )


def check_invocation(text: str, conversations: Sequence[Conversation], prompter: Prompter) -> Invocation:
    """The invocation under a tokenizer, found once and at the end of every prompt.

    Args:
        text: from `invocation_text`.
        conversations: what it follows.
        prompter: of the base.

    Raises:
        RefusedError: ZO222, its tokens merge with their neighbours, or occur elsewhere too.
    """
    ids = prompter.encode(text)
    spec = InvocationSpec(text=text, position=Position.AFTER_PROMPT)
    for index, prompt in enumerate(prompter.texts(conversations, spec)):
        found = prompter.encode(prompt)
        if list(occurrences(found, ids)) != [len(found) - len(ids)]:
            raise RefusedError(
                f"the invocation {text!r} is not once at the end of prompt {index + 1} of {prompter.base.id}",
                code="ZO222",
                hint="choose another NAME or base",
            )
    return Invocation(text=text, ids=ids, position=Position.AFTER_PROMPT)
