"""One intrinsic: an adapter, its contract, and the base model it runs on."""

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.adapter import AdapterRepo
from zoo.errors import ContractError, UsageError
from zoo.hub.adapter import ambiguity, open_adapter
from zoo.intrinsic.answer import Answer
from zoo.intrinsic.placement import invocation_of
from zoo.intrinsic.request import (
    Document,
    Message,
    make_request,
    read_request,
)
from zoo.intrinsic.speaking import Speaker, streamed
from zoo.io.prompt import Asked, identified, place, rewritten
from zoo.models import BaseModel, Dtype
from zoo.prompts import Prompt

if TYPE_CHECKING:
    from pydantic import BaseModel as Result

    from zoo.inference.grammar import SchemaConstraint
    from zoo.inference.shared_base import SharedBase
    from zoo.specs.io import IOSpec

OnText = Callable[[str], None]


class Intrinsic:
    """An adapter that is called like a function: a conversation in, a checked result out.

    The base model reads what stands before the invocation, or takes it from what it has read already; only
    the few tokens from the invocation on are the adapter's. Many intrinsics may share one base.

    Attributes:
        repo: the adapter folder.
        spec: its `io.yaml`; None when there is none, and the reply's text is the result.
        shared: the base model with its cache.
        free_blanks: whether the adapter chooses the blanks in its JSON.
        invocation: what activates the adapter, and where it stands.
        notes: what a user should know: what had to be guessed, what the decoding does not enforce.
    """

    def __init__(self, repo: AdapterRepo, shared: "SharedBase", *, free_blanks: bool = False) -> None:
        """Merges the adapter into copies of the weights it adapts; `load` also finds the base.

        Args:
            repo: the adapter.
            shared: its base.
            free_blanks: the adapter chooses the blanks in its JSON; otherwise they are those of `json.dumps`,
                which is faster.

        Raises:
            SpecError: a file of the adapter breaks its specification.
            RefusedError: the adapter has no invocation, or cannot be merged.
            ContractError: ZO160, the reply's schema cannot be decoded to.
        """
        self.repo = repo
        self.spec: IOSpec | None = repo.io_spec
        self.shared = shared
        self.free_blanks = free_blanks
        self.speaker = Speaker(shared)
        self.invocation, note = invocation_of(repo, self.spec, self.speaker.prompter)
        self._adapted = shared.adapter(repo)
        self.notes = tuple(remark for remark in (note, *self._unenforced()) if remark)

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        base: str = "",
        device: str = "cpu",
        dtype: Dtype | None = None,
        shared: "SharedBase | None" = None,
        free_blanks: bool = False,
    ) -> "Intrinsic":
        """Loads an adapter folder, and its base unless one is given.

        Args:
            path: adapter folder, a library folder with one adapter, or `org/name[/folder][@revision]` on the
                Hub.
            base: base model instead of the one the adapter names.
            device: torch device.
            dtype: of the base's weights; float32 on a CPU and bfloat16 elsewhere when None.
            shared: a base that is loaded already.
            free_blanks: see above.

        Raises:
            NotFoundError: no adapter, or no base of that name.
            HubError: ZH007 no access, ZH008 no answer.
            BaseMissingError: the base cannot be had here.
            UsageError: ZO153, `shared` is another base than the adapter's.
        """
        repo = open_adapter(path)
        if shared is None:
            shared = open_base(find_base(repo, base), device=device, dtype=dtype)
        elif not base:
            _check_base(repo, shared.base)
        loaded = cls(repo, shared, free_blanks=free_blanks)
        loaded.notes = tuple(remark for remark in (ambiguity(path), *loaded.notes) if remark)
        return loaded

    @property
    def name(self) -> str:
        """The intrinsic's name, of `zoo.yaml` or `io.yaml`; the folder's where neither says it."""
        said = self.repo.release.name if self.repo.release else self.spec.name if self.spec else None
        return said or self.repo.name

    @cached_property
    def model(self) -> "type[Result]":
        """The pydantic model of the result."""
        from zoo.intrinsic.result import result_model
        from zoo.specs.io_pipeline import result_schema

        schema = result_schema(self.spec) if self.spec else {"type": "string"}
        return result_model(schema, self.name)

    def __call__(
        self, messages: Sequence[Message], documents: Sequence[Document] = (), **arguments: Any
    ) -> "Result":
        """Answers a conversation.

        Args:
            messages: with `role` and `content`.
            documents: texts, or objects with `text` and perhaps `title` and `doc_id`.
            arguments: what the intrinsic's instruction wants besides.

        Returns:
            An object of `model`; of a result that is no JSON object, `.root` is the value.

        Raises:
            ContractError: the request or the reply breaks the contract; ZO155, the result has not the form
                that follows from it.
        """
        from pydantic import ValidationError

        answer = self.ask(make_request(messages, documents), arguments)
        try:
            return self.model.model_validate(answer.result)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ContractError(
                f"the result of {self.name} has not the form that follows from its io.yaml: {first['msg']}",
                path=first["loc"],
                code="ZO155",
                hint=f"zoo validate {self.repo.root}",
            ) from None

    def raw(
        self, messages: Sequence[Message], documents: Sequence[Document] = (), **arguments: Any
    ) -> Answer:
        """Answers a conversation, and says how; arguments as of a call."""
        return self.ask(make_request(messages, documents), arguments)

    def stream(
        self, messages: Sequence[Message], documents: Sequence[Document] = (), **arguments: Any
    ) -> Generator[str, None, Answer]:
        """The pieces of the reply's text as they are decoded; what the generator returns is the answer.

        Closing it stops the decoding.
        """
        request = make_request(messages, documents)
        return streamed(lambda on_text: self.ask(request, arguments, on_text=on_text))

    def ask(
        self,
        request: Mapping[str, Any],
        arguments: Mapping[str, Any] | None = None,
        *,
        on_text: OnText | None = None,
    ) -> Answer:
        """Answers a chat-completions request.

        Args:
            request: the caller's; documents are in `extra_body.documents`. It is not changed.
            arguments: what the intrinsic's instruction wants besides.
            on_text: told of the reply's text piece by piece.

        Raises:
            ContractError: ZO100 to ZO133, the request or the reply breaks the contract; ZO151 or ZO152, the
                conversation is empty or holds the invocation; ZO154 or ZO156, it is too long, or the reply;
                ZO158 or ZO159, the base takes no documents, or no tool calls.
            RefusedError: ZT001 or ZI004, the prompt cannot be rendered with the invocation in its place.
        """
        clock = self.speaker.clock()
        request = identified(request)
        rewritten, prompt = self.prompt(request, arguments or {})
        return self.speaker.speak(
            self._adapted,
            prompt.prefix,
            prompt.suffix,
            request=rewritten,
            constraint=self._constraint(),
            finish=lambda choice: self._processed(choice, request),
            on_text=on_text,
            clock=clock,
        )

    def prompt(
        self, request: Mapping[str, Any], arguments: Mapping[str, Any]
    ) -> tuple[dict[str, Any], Prompt]:
        """The rewritten request, and its prompt with the invocation in its place; raises like `ask`."""
        request = identified(request)
        read_request(request)
        if self.spec is None and arguments:
            raise UsageError(f"{self.name} has no io.yaml, and so takes no arguments", hint="leave --arg out")
        prompter = self.speaker.prompter
        sent = rewritten(self.spec, request, arguments, prompter, self.invocation)
        messages, documents = read_request(sent, rewritten=True)
        asked = Asked(messages=messages, documents=documents, tools=sent.get("tools"))
        return sent, place([asked], prompter, self.invocation)[0]

    def _processed(self, choice: Mapping[str, Any], request: Mapping[str, Any]) -> Any:
        from zoo.io import process

        return process(self.spec, choice, request) if self.spec else choice["message"]["content"]

    def _constraint(self) -> "SchemaConstraint | None":
        schema = self.spec.reply_schema if self.spec else None
        if schema is None:
            return None
        return self.speaker.language.grammars.constraint(schema, free_blanks=self.free_blanks)

    def _unenforced(self) -> tuple[str, ...]:
        if self.spec is None:
            return ("there is no io.yaml: the reply's text is the result",)
        constraint = self._constraint()
        notes = constraint.notes if constraint else ()
        return tuple(f"the decoding does not enforce all of the schema: {note}" for note in notes)


def find_base(repo: AdapterRepo, wanted: str = "") -> BaseModel:
    """The base model of an adapter: the one wanted, else the one it names.

    Raises:
        NotFoundError: nothing of that name.
        BaseMissingError: it cannot be had here.
        UsageError: the adapter names none.
    """
    from zoo.models import resolve, resolve_named, resolve_reference

    if wanted:
        return resolve(wanted)
    if repo.release is not None:
        return resolve_reference(repo.release.base)
    if named := repo.config.base_model_name_or_path:
        return resolve_named(named, revision=repo.config.revision or "")
    raise UsageError(f"{repo.name} does not say its base model", hint="give --base")


def open_base(base: BaseModel, *, device: str = "cpu", dtype: Dtype | None = None) -> "SharedBase":
    """Loads a base model; float32 on a CPU and bfloat16 elsewhere unless told."""
    from zoo.inference.shared_base import SharedBase

    chosen: Dtype = dtype or ("float32" if device == "cpu" else "bfloat16")
    return SharedBase.open(base, device=device, dtype=chosen)


def _check_base(repo: AdapterRepo, base: BaseModel) -> None:
    named = repo.release.base.id if repo.release else repo.config.base_model_name_or_path
    if named and named != base.id:
        raise UsageError(
            f"{repo.name} is for the base {named}, not {base.id}",
            code="ZO153",
            hint="name the base explicitly if it is a copy under another name",
        )
