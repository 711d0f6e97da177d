"""`zoo.yaml`: what the author says about a release."""

import enum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SEMVER = r"^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$"
HUB_ID = r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$"

Line = Annotated[str, Field(min_length=1, max_length=2000)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Position(enum.StrEnum):
    """Where the invocation stands in a prompt.

    AFTER_PROMPT: after the rendered conversation, which is rendered without a generation prompt.
    GENERATION_PROMPT: it is (the end of) the template's own generation prompt.
    IN_MESSAGE: inside the last message, written there by whoever makes the request.
    """

    AFTER_PROMPT = "after_prompt"
    GENERATION_PROMPT = "generation_prompt"
    IN_MESSAGE = "in_message"


class BaseRef(_Closed):
    """The base model that the adapter was made for.

    Attributes:
        id: Hub id, `org/name`; it becomes the card's `base_model`.
        revision: commit hash; null only when the weights did not come from the Hub.
        embedded: name of the embedded base when its weights came from there.
    """

    id: Annotated[str, Field(max_length=200)]
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    embedded: Annotated[str, Field(max_length=100)] | None = None


class InvocationSpec(_Closed):
    """The invocation as text, and where it goes. The ids are in `adapter_config.json`."""

    text: Annotated[str, Field(min_length=1, max_length=8192)]
    position: Position = Position.AFTER_PROMPT


class GatePolicy(_Closed):
    """What the author allows to stay unchecked: code to reason."""

    allowed_skips: dict[Annotated[str, Field(pattern=r"^Z[A-Z]\d{3}$")], Line] = {}


class ReleaseSpec(_Closed):
    """A release's `zoo.yaml`, format 1.

    Attributes:
        name: the intrinsic's short name; letters, digits, `-`, `_`.
        version: semantic version, without `v`.
        license: SPDX identifier in the Hub's lower-case spelling.
        training_data: one line a source, for people.
        changes: what is new, by version, for people; a line each.
        samples: chat conversations to which the invocation must apply; checks render them.
        requests: what a caller of the intrinsic passes, before `io.yaml` rewrites it; checks rewrite and
            render them.
    """

    format: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,95}$")]
    version: Annotated[str, Field(pattern=SEMVER)] = "0.1.0"
    base: BaseRef
    invocation: InvocationSpec
    license: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]*$")] = "apache-2.0"
    languages: list[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]] = Field(default_factory=lambda: ["en"])
    description: Annotated[str, Field(max_length=5000)] = ""
    training_data: list[Line] = []
    changes: dict[Annotated[str, Field(pattern=SEMVER)], list[Line]] = Field(default={}, max_length=100)
    samples: list[list["Message"]] = Field(default=[], max_length=100)
    requests: list["SampleRequest"] = Field(default=[], max_length=100)
    gate: GatePolicy = GatePolicy()


class Message(_Closed):
    """One chat message."""

    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: Annotated[str, Field(max_length=200_000)]


class SampleDocument(_Closed):
    """A document of a sample request."""

    text: Annotated[str, Field(max_length=200_000)]
    doc_id: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    title: Annotated[str, Field(max_length=1000)] | None = None


class SampleRequest(_Closed):
    """A call of the intrinsic as its caller makes it.

    Attributes:
        messages: the conversation, without the invocation and the instruction that `io.yaml` adds.
        documents: beside it.
        arguments: values of the instruction's fields, by name.
    """

    messages: Annotated[list[Message], Field(min_length=1, max_length=200)]
    documents: list[SampleDocument] = Field(default=[], max_length=200)
    arguments: dict[
        Annotated[str, Field(max_length=100)], Annotated[str, Field(max_length=200_000)] | int | float
    ] = {}

    def as_request(self) -> dict[str, Any]:
        """An OpenAI chat-completions request."""
        said = self.model_dump(mode="json", exclude_none=True)
        body = {"extra_body": {"documents": said["documents"]}} if self.documents else {}
        return {"messages": said["messages"], **body}


ReleaseSpec.model_rebuild()


def dump_release(spec: ReleaseSpec) -> str:
    """The YAML text of a `zoo.yaml`, with keys in the model's order and unset keys left out."""
    import yaml

    content = spec.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump({"format": 1, **content}, sort_keys=False, allow_unicode=True, width=100)
