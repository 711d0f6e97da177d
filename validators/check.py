"""What a check is, and what it may look at."""

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from zoo.adapter import AdapterRepo
from zoo.errors import BaseMissingError
from zoo.layouts import CONFIG_NAME
from zoo.models import BaseModel, Dtype
from zoo.progress import Progress, silent
from zoo.report import Finding, Value
from zoo.validators.bases import Bases

if TYPE_CHECKING:
    from zoo.prompts import Conversation, Invocation, Prompt, Prompter
    from zoo.validators.conformance.replay import Replay
    from zoo.validators.conformance.session import Session
    from zoo.validators.conformance.shipped_file import Shipped
    from zoo.validators.folder import Entry
    from zoo.validators.payload import Payload
    from zoo.validators.rendering import Rendering


class Need(enum.Enum):
    """Something outside the adapter folder that a check cannot do without."""

    BASE = "the base model's files"
    TORCH = "torch and the base model's weights"
    NETWORK = "the network"
    GPU = "a GPU"
    ENGINE = "an engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A number that a check measured; it becomes the evidence of its outcome.

    Attributes:
        name: with the unit in it where there is one.
        value: finite; several are one number a layer.
    """

    name: str
    value: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule.

    Attributes:
        code: stable, `Z` + family letter + three digits; its meaning never changes.
        title: one line, what holds when the check passes.
        run: yields findings and measurements; no finding means passed. It may raise: a `VerdictError` or
            `UsageError` becomes a finding, an `UndecidedError` becomes skipped, anything else crashed.
        requires: codes that must have passed; otherwise this check is skipped.
        needs: what must be at hand; otherwise this check is skipped.
        unless: returns why the check has nothing to look at in this adapter, or an empty string.
    """

    code: str
    title: str
    run: Callable[["Context"], Iterable[Finding | Measurement]]
    requires: tuple[str, ...] = ()
    needs: frozenset[Need] = frozenset()
    unless: Callable[["Context"], str] | None = None


def required_by(checks: Sequence[Check], codes: Iterable[str]) -> tuple[Check, ...]:
    """The checks of the given codes and all that they require, in the given order."""
    wanted = set(codes)
    for check in reversed(checks):  # a check stands behind those it requires
        if check.code in wanted:
            wanted.update(check.requires)
    return tuple(check for check in checks if check.code in wanted)


@dataclass(kw_only=True)
class Context:
    """The facts that checks may ask for; each is worked out when the first check asks.

    Attributes:
        repo: the adapter under test.
        base: its base model, or None.
        base_missing: why `base` is None.
        static: leave out everything that needs torch.
        device: torch device of the dynamic part.
        dtype: of the base weights in the dynamic part.
        attention: transformers' attention implementation there; empty takes its default.
        prompts_at_most: how many prompts the dynamic part runs on.
        replay: the shipped vectors were asked for; that there are none is then no reason to pass.
        bases: what is shared with the validations of other adapters in the same run.
        engines: names of the engines to try the adapter in, besides PEFT.
        engine_options: settings of engines by name, such as the path of a GGUF base.
        tokenizer_envs: Python interpreters of other environments whose tokenizers are to agree.
        progress: told about long work.
    """

    repo: AdapterRepo
    base: BaseModel | None = None
    base_missing: str = ""
    static: bool = False
    device: str = "cpu"
    dtype: Dtype = "float32"
    attention: str = ""
    prompts_at_most: int = 5
    replay: bool = False
    bases: Bases = field(default_factory=Bases)
    engines: tuple[str, ...] = ()
    engine_options: Mapping[str, str] = field(default_factory=dict)
    tokenizer_envs: tuple[str, ...] = ()
    progress: Progress = field(default=silent)

    def unavailable(self, need: Need) -> str:
        """Why `need` is not at hand, or an empty string."""
        match need:
            case Need.BASE:
                return self.base_missing
            case Need.TORCH:
                return "only the static part was asked for" if self.static else self.base_missing
            case Need.NETWORK | Need.ENGINE:
                return ""
            case Need.GPU:
                return "" if self.device.startswith("cuda") else "no GPU was asked for (--device cuda)"

    @cached_property
    def entries(self) -> Sequence["Entry"]:
        """What lies in the adapter folder.

        Raises:
            RefusedError: ZF004, too much to look at.
        """
        from zoo.validators.folder import entries

        return entries(self.repo.root)

    @cached_property
    def known_base(self) -> BaseModel:
        """The base model.

        Raises:
            BaseMissingError: there is none.
        """
        if self.base is None:
            raise BaseMissingError(self.base_missing or "no base model", hint="name it with --base")
        return self.base

    @cached_property
    def prompter(self) -> "Prompter":
        """Renders and tokenises for the base.

        Raises:
            BaseMissingError: there is no base.
        """
        return self.bases.prompter(self.known_base)

    @cached_property
    def invocation(self) -> "Invocation":
        """The adapter's invocation: ids from its config; text and position from `zoo.yaml`, else decoded ids.

        A project has no config yet: its ids are what the base's tokenizer makes of the text.

        Raises:
            BaseMissingError: there is no base to decode the ids with.
        """
        from zoo.prompts import Invocation
        from zoo.specs.release import Position

        if self.repo.release and not (self.repo.root / CONFIG_NAME).is_file():
            spec = self.repo.release.invocation
            return Invocation(text=spec.text, ids=self.prompter.encode(spec.text), position=spec.position)
        ids = tuple(self.repo.config.alora_invocation_tokens or ())
        if self.repo.release:
            spec = self.repo.release.invocation
            return Invocation(text=spec.text, ids=ids, position=spec.position)
        return Invocation(text=self.prompter.decode(ids), ids=ids, position=Position.AFTER_PROMPT)

    @cached_property
    def rendering(self) -> "Rendering":
        """The samples under the base's chat template, invocation included, rendered in one go.

        Raises:
            RefusedError: ZT001, the template does not render.
        """
        from zoo.validators.rendering import render_samples

        own = self.repo.release.samples if self.repo.release else []
        written = [[message.model_dump() for message in sample] for sample in own]
        return render_samples(self.prompter, self.invocation, written)

    @property
    def samples(self) -> Sequence["Conversation"]:
        """The conversations of `rendering`: the release's own samples, then a fixed awkward corpus."""
        return self.rendering.conversations

    @cached_property
    def prompts(self) -> Sequence["Prompt"]:
        """The samples as prompts of this adapter.

        Raises:
            RefusedError: ZI004, the invocation is missing from one of them.
        """
        return [
            self.prompter.locate(text, self.invocation, label=f"conversation {index}")
            for index, text in enumerate(self.rendering.texts)
        ]

    @cached_property
    def payloads(self) -> Mapping[str, "Payload"]:
        """What the numbers of each tensor look like, by tensor name; the file is read once, in pieces.

        Raises:
            RefusedError: ZF003, the weights are not a well-formed safetensors file.
        """
        from zoo.validators.payload import inspect_file

        return inspect_file(self.repo.weights_path, self.repo.tensors)

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """The sha256 of every payload file, by relative path."""
        from zoo.provenance import payload_digests

        return payload_digests(self.repo.root)

    @cached_property
    def session(self) -> "Session":
        """The loaded base, reference and PEFT models of the dynamic part."""
        from zoo.validators.conformance.session import Session

        return Session.open(self)

    @cached_property
    def shipped(self) -> "Shipped":
        """The numbers in `conformance.safetensors`.

        Raises:
            RefusedError: ZS001, it is not of its format.
            SpecError: ZS001, its metadata is not.
        """
        from zoo.adapter import VECTORS_NAME
        from zoo.validators.conformance.shipped_file import read

        return read(self.repo.root / VECTORS_NAME)

    @cached_property
    def replaying(self) -> "Replay":
        """The shipped numbers against base and adapter.

        Raises:
            UndecidedError: they hold no tolerance for this dtype.
        """
        from zoo.validators.conformance.replay import Replay

        return Replay(self.session, self.shipped)

    def close(self) -> None:
        """Drops the models of this adapter; what the rigs hold of the base stays."""
        self.__dict__.pop("replaying", None)
        if "session" in self.__dict__:
            self.session.close()
            del self.__dict__["session"]
