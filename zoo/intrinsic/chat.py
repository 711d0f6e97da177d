"""A conversation with a base model that several adapters can be asked about, all on one cache.

A line is a user's message, which the base answers, or a command that begins with `/`. What a command is asked
goes to the answer alone: the conversation holds the user's messages and the base's answers.
"""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import SpecError, UsageError, ZooError
from zoo.intrinsic.answer import Answer
from zoo.intrinsic.intrinsic import Intrinsic
from zoo.intrinsic.request import make_request
from zoo.intrinsic.speaking import Speaker
from zoo.specs.document import read_bounded

MAX_DOCUMENT_BYTES = 4_000_000
HELP = """\
TEXT                    a message to the base model, which answers it
/user TEXT              a message that waits: ask an adapter about it, then /answer
/answer                 the base model answers the conversation as it stands
/NAME [name=value …]    an adapter's answer about the conversation: {names}
/documents [FILE …]     the documents: text files, or .jsonl with `text`; none forgets them
/show                   the conversation
/new                    forget the conversation
/help  /quit
"""

Say = Callable[[str], None]


class Chat:
    """One conversation.

    Attributes:
        intrinsics: adapters by the name they are asked by.
        messages: the conversation so far.
        documents: given to every answer.
    """

    def __init__(self, intrinsics: Sequence[Intrinsic], speaker: Speaker, *, say: Say, note: Say) -> None:
        """Starts an empty conversation.

        Args:
            intrinsics: of one base.
            speaker: of that base.
            say: takes what was answered, piece by piece.
            note: takes a remark: a time, an error; whole lines.

        Raises:
            UsageError: two adapters have one name, or one a command's.
        """
        self.intrinsics: dict[str, Intrinsic] = {}
        self.messages: list[dict[str, str]] = []
        self.documents: list[dict[str, Any]] = []
        self._speaker = speaker
        self._say = say
        self._note = note
        self._commands: Mapping[str, Callable[[str], object]] = {
            "user": self._user,
            "answer": lambda _: self._answer(),
            "documents": self._read_documents,
            "show": lambda _: self._show(),
            "new": lambda _: self.messages.clear(),
            "help": lambda _: self._note(HELP.format(names=", ".join(self.intrinsics) or "none").rstrip()),
        }
        for intrinsic in intrinsics:
            name = intrinsic.name.lower()
            if name in self.intrinsics or name in self._commands or name == "quit":
                raise UsageError(
                    f"two things in this chat would be called /{name}", hint="give one of them another name"
                )
            self.intrinsics[name] = intrinsic

    def take(self, line: str) -> bool:
        """Does what a line says; an error is said, and the conversation goes on as it was before.

        Returns:
            Whether more lines are wanted.
        """
        line = line.strip()
        if line in ("/quit", "/exit"):
            return False
        before = list(self.messages)
        try:
            if line.startswith("/"):
                self._command(line[1:])
            elif line:
                self._user(line)
                self._answer()
        except ZooError as error:
            self.messages = before
            self._note(str(error))
        except KeyboardInterrupt:  # stops the answer, not the chat
            self.messages = before
            self._note("stopped")
        return True

    def _command(self, text: str) -> None:
        name, _, rest = text.partition(" ")
        name = name.lower()
        if name in self._commands:
            self._commands[name](rest.strip())
        elif name in self.intrinsics:
            self._ask(self.intrinsics[name], parse_arguments(_words(rest)))
        else:
            known = ", ".join(f"/{one}" for one in (*self.intrinsics, *self._commands, "quit"))
            raise UsageError(f"there is no /{name}", hint=known)

    def _user(self, text: str) -> None:
        if not text:
            raise UsageError("/user wants a text")
        self.messages.append({"role": "user", "content": text})

    def _answer(self) -> None:
        answer = self._speaker.answer(make_request(self.messages, self.documents), on_text=self._say)
        self.messages.append({"role": "assistant", "content": answer.text})
        self._end(answer)

    def _ask(self, intrinsic: Intrinsic, arguments: Mapping[str, Any]) -> None:
        on_text = None if intrinsic.spec else self._say
        answer = intrinsic.ask(make_request(self.messages, self.documents), arguments, on_text=on_text)
        if on_text is None:
            self._say(json.dumps(answer.result, ensure_ascii=False))
        self._end(answer)

    def _end(self, answer: Answer) -> None:
        self._say("\n")
        self._note(answer.line())

    def _show(self) -> None:
        for message in self.messages:
            self._say(f"{message['role']}: {message['content']}\n")
        self._note(f"{len(self.messages)} messages, {len(self.documents)} documents")

    def _read_documents(self, text: str) -> None:
        self.documents = [one for name in _words(text) for one in read_documents(Path(name))]
        self._note(f"{len(self.documents)} documents")


def parse_arguments(texts: Sequence[str]) -> dict[str, str]:
    """Arguments from `name=value` texts.

    Raises:
        UsageError: one has no `=`, or a name stands twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name or name in found:
            raise UsageError(f"{text!r} is no argument", hint="write name=value, each name once")
        found[name] = value
    return found


def read_documents(path: Path) -> list[dict[str, Any]]:
    """Documents from a file: of `.jsonl` an object with `text` a line, else the whole file as one.

    Raises:
        NotFoundError: there is no such file.
        SpecError: it is too large, not UTF-8, or a line is no document.
    """
    try:
        text = read_bounded(path, MAX_DOCUMENT_BYTES).decode()
    except UnicodeDecodeError:
        raise SpecError(f"{path} is not UTF-8 text", code="ZO150") from None
    if path.suffix != ".jsonl":
        return [{"text": text, "title": path.stem}]
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            document = json.loads(line) if line.strip() else None
        except (ValueError, RecursionError):
            document = ()
        if document is not None and not (
            isinstance(document, dict) and isinstance(document.get("text"), str)
        ):
            raise SpecError(f"{path}, line {number} is no JSON object with `text`", code="ZO150")
        found += [document] if document else []
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{text!r}: {error}") from None
