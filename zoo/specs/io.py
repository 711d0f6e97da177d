"""`io.yaml`: an intrinsic's contract, what goes into its prompt and what comes out of its reply.

The fields are those of the published dialect, which two programs read (granite-common 0.4.1 and mellea 0.8.0,
`intrinsics/{input,output,util}.py`); this model is closed and says what they leave open.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

IO_FORMAT = 1
MAX_LIST = 1000
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
PathPart = Annotated[str, StringConstraints(max_length=200)] | Annotated[int, Field(strict=True)] | None
Path = Annotated[list[PathPart], Field(max_length=32)]
Location = Literal["last_message", "documents", "all_but_last_message"]
Category = bool | Annotated[int, Field(strict=True)] | str


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Transformation(_Closed):
    """What every transformation has.

    Attributes:
        input_path: keys, indices and wildcards (null) from the reply's top to what is transformed; empty for
            the reply itself.
    """

    input_path: Path = []


class Likelihood(_Transformation):
    """Replaces a literal by the expected value over the categories, by the probabilities of its tokens.

    Attributes:
        categories_to_values: category as in the reply's schema (string, boolean, integer) to its number.
    """

    type: Literal["likelihood"]
    categories_to_values: dict[Category, float]


class DecodeSentences(_Transformation):
    """Replaces a sentence's number by where the sentence is and what it says.

    Attributes:
        source: where the numbered sentences are.
        output_names: which fields to write, and what to call each.
    """

    type: Literal["decode_sentences"]
    source: Location | list[Location]
    output_names: dict[Literal["begin", "end", "text", "document_id", "message_index"], Name]


class Explode(_Transformation):
    """One record for each element of a list field of a record."""

    type: Literal["explode"]
    target_field: Name


class DropDuplicates(_Transformation):
    """Of records that are equal in the target fields only the first stays."""

    type: Literal["drop_duplicates"]
    target_fields: list[Name]


class Project(_Transformation):
    """Keeps the named fields of records, renamed when a mapping from old to new names is given."""

    type: Literal["project"]
    retained_fields: list[Name] | dict[Name, Name]


class Nest(_Transformation):
    """Wraps a value into an object with one field."""

    type: Literal["nest"]
    field_name: Name


class MergeSpans(_Transformation):
    """Joins records that are equal in the group fields and whose spans follow one another."""

    type: Literal["merge_spans"]
    group_fields: list[Name]
    begin_field: Name
    end_field: Name
    text_field: Name | None = None


Transformation = Annotated[
    Likelihood | DecodeSentences | Explode | DropDuplicates | Project | Nest | MergeSpans,
    Field(discriminator="type"),
]


class IOSpec(_Closed):
    """An `io.yaml`.

    Attributes:
        name: the intrinsic's name.
        model: replaces the request's `model`.
        response_format: JSON Schema of the reply; a JSON string in the file becomes a mapping here.
        transformations: from the reply to the result, in order.
        instruction: a format template, appended as a user's message; its fields are call arguments and
            `last_message`.
        parameters: merged into the request.
        sentence_boundaries: tag prefix by where sentences are numbered with it.
        docs_as_message: how documents become a message, for servers that take none.
        logprobs_workaround: the reply is taken from the tokens of the log-probabilities (gpt-oss).
    """

    name: Name | None = None
    model: Name | None = None
    response_format: Mapping[str, Any] | None = None
    transformations: list[Transformation] = Field(default=[], max_length=100)
    instruction: Annotated[str, StringConstraints(max_length=100_000)] | None = None
    parameters: Mapping[str, Any] = {}
    sentence_boundaries: dict[Location, Name] = {}
    docs_as_message: Literal["string", "json", "roles"] | None = None
    logprobs_workaround: bool = False
