"""`io.yaml`: an intrinsic's contract, what goes into its prompt and what comes out of its reply.

The fields are those of the published dialect, which two programs read (granite-common 0.4.1 and mellea 0.8.0,
`intrinsics/{input,output,util}.py`); this model is closed and says what they leave open.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

IO_FORMAT = 1
MAX_LIST = 1000
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Index = Annotated[int, Field(strict=True, ge=0)]
PathPart = Annotated[str, StringConstraints(max_length=200)] | Index | None
Path = Annotated[list[PathPart], Field(max_length=32)]
Location = Literal["last_message", "documents", "all_but_last_message"]
Category = Annotated[bool, Field(strict=True)] | Annotated[int, Field(strict=True)] | str
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]  # strict: `yes: true` is no number
Names = Annotated[list[Name], Field(max_length=MAX_LIST)]


def _empty_list(value: Any) -> Any:
    return [] if value is None else value


def _empty_mapping(value: Any) -> Any:
    return {} if value is None else value


def _no_boundaries(value: Any) -> Any:
    return {} if value is None or value is False else value  # `false` is the spelling of 2025


def _off(value: Any) -> Any:
    return False if value is None else value


def _parsed(value: Any) -> Any:
    if isinstance(value, str):
        return json.loads(value) if value.strip() else None
    return value


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
    categories_to_values: Annotated[dict[Category, Number], Field(min_length=1, max_length=MAX_LIST)]


class DecodeSentences(_Transformation):
    """Replaces a sentence's number by where the sentence is and what it says.

    Attributes:
        source: where the numbered sentences are.
        output_names: which fields to write, and what to call each.
    """

    type: Literal["decode_sentences"]
    source: Location | Annotated[list[Location], Field(min_length=1, max_length=3)]
    output_names: dict[Literal["begin", "end", "text", "document_id", "message_index"], Name]

    @property
    def sources(self) -> list[Location]:
        """`source` as a list."""
        return [self.source] if isinstance(self.source, str) else self.source


class Explode(_Transformation):
    """One record for each element of a list field of a record."""

    type: Literal["explode"]
    target_field: Name


class DropDuplicates(_Transformation):
    """Of records that are equal in the target fields one stays: the last, at the first one's place."""

    type: Literal["drop_duplicates"]
    target_fields: Names


class Project(_Transformation):
    """Keeps the named fields of records, renamed when a mapping from old to new names is given."""

    type: Literal["project"]
    retained_fields: Names | Annotated[dict[Name, Name], Field(max_length=MAX_LIST)]

    @property
    def renamed(self) -> dict[str, str]:
        """The new name of each kept field."""
        fields = self.retained_fields
        return {name: name for name in fields} if isinstance(fields, list) else fields


class Nest(_Transformation):
    """Wraps a value into an object with one field."""

    type: Literal["nest"]
    field_name: Name


class MergeSpans(_Transformation):
    """Joins records that are equal in the group fields and whose spans follow one another."""

    type: Literal["merge_spans"]
    group_fields: Names
    begin_field: Name
    end_field: Name
    text_field: Name | None = None


Transformation = Annotated[
    Likelihood | DecodeSentences | Explode | DropDuplicates | Project | Nest | MergeSpans,
    Field(discriminator="type"),
]


TRANSFORMATIONS: Mapping[str, type[_Transformation]] = {
    "likelihood": Likelihood,
    "decode_sentences": DecodeSentences,
    "explode": Explode,
    "drop_duplicates": DropDuplicates,
    "project": Project,
    "nest": Nest,
    "merge_spans": MergeSpans,
}


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
    response_format: Annotated[
        Mapping[str, Any] | None,
        BeforeValidator(_parsed, json_schema_input_type=str | dict[str, Any] | None),
    ] = None
    transformations: Annotated[
        list[Transformation],
        Field(max_length=100),
        BeforeValidator(_empty_list, json_schema_input_type=list[Transformation] | None),
    ] = []
    instruction: Annotated[str, StringConstraints(max_length=100_000)] | None = None
    parameters: Annotated[
        Mapping[str, Any],
        BeforeValidator(_empty_mapping, json_schema_input_type=dict[str, Any] | None),
    ] = {}
    sentence_boundaries: Annotated[
        dict[Location, Name],
        BeforeValidator(_no_boundaries, json_schema_input_type=dict[Location, Name] | Literal[False] | None),
    ] = {}
    docs_as_message: Literal["string", "json", "roles"] | None = None
    logprobs_workaround: Annotated[
        bool, Field(strict=True), BeforeValidator(_off, json_schema_input_type=bool | None)
    ] = False

    @property
    def reply_schema(self) -> Mapping[str, Any] | None:
        """The JSON Schema of the reply, wherever it is written; None when it is nowhere."""
        return next((schema for _, schema in reply_schemas(self)), None)


def reply_schemas(spec: IOSpec) -> list[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every place that gives the reply's JSON Schema, the strongest first, with its path.

    Servers have spelt it differently: `response_format` is OpenAI's (used for Ollama), `guided_json` vLLM's
    before 0.12, `structured_outputs` vLLM's since.
    """
    places: list[tuple[str, ...]] = [
        ("response_format",),
        ("parameters", "response_format", "json_schema", "schema"),
    ]
    for outer in (("parameters", "extra_body"), ("parameters",)):
        places += [(*outer, "structured_outputs", "json"), (*outer, "guided_json")]
    found = []
    for place in places:
        value: Any = spec.response_format if place == ("response_format",) else spec.parameters
        for part in place[1:]:
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, str):
            value = json.loads(value)
        if isinstance(value, Mapping):
            found.append((place, value))
    return found
