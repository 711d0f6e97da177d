"""`flow.yaml`: steps on one base model, each with what goes in, when it runs, and what follows otherwise."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from zoo.specs.condition import Condition, parse_condition
from zoo.specs.reference import DATA, PATTERN, REQUEST, Reference, parse_reference

FLOW_FORMAT = 1
FLOW_NAME = "flow.yaml"
BASE = "base"
MAX_STEPS = 32
MAX_NEW_TOKENS = 8192
RESERVED = frozenset({REQUEST, DATA, BASE, "flow", "output"})
RESPONSE = "response"

Text = Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
Line = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Id = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


def _reference(text: str) -> str:
    parse_reference(text)
    return text


def _condition(text: str) -> str:
    parse_condition(text)
    return text


ReferenceText = Annotated[
    Line, AfterValidator(_reference), WithJsonSchema({"type": "string", "pattern": PATTERN})
]
ConditionText = Annotated[Line, AfterValidator(_condition)]


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Constant(_Closed):
    """An argument that is the same for every request."""

    value: str | bool | int | float


class StepInput(_Closed):
    """What a step is called with. What is not given is the request's.

    Attributes:
        messages: a reference to a list of chat messages.
        last_user: a reference to a text that takes the place of the last user's message.
        assistant: a reference to a text that is appended as the assistant's message.
        documents: a reference to a list of documents; an empty list gives none.
        arguments: a step's own arguments by name: references or constants.
    """

    messages: ReferenceText = f"{REQUEST}.messages"
    last_user: ReferenceText | None = None
    assistant: ReferenceText | None = None
    documents: ReferenceText | Annotated[list[Any], Field(max_length=0)] = f"{REQUEST}.documents"
    arguments: dict[Line, ReferenceText | Constant] = Field(default={}, max_length=64)


class Otherwise(_Closed):
    """What follows when a step's condition does not hold; exactly one of the two.

    Attributes:
        abstain: the flow ends here, with this text as its response, and counts as having abstained.
        result: this is the step's result, and the flow goes on.
    """

    abstain: Text | None = None
    result: Any = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1 or (self.abstain is None and "abstain" in self.model_fields_set):
            raise ValueError("give exactly one of `abstain` (a text) and `result` (a value)")
        return self


class Step(_Closed):
    """One call of the base model or of an adapter.

    Attributes:
        id: what later steps call its result.
        use: an adapter's folder, relative to the file, or `base`.
        when: conditions that must all hold; a step without any always runs.
        otherwise: what follows when they do not; without it the step has no result.
        max_new_tokens: of the base model's answer; an adapter's io.yaml has its own.
        docs_as_message: makes documents a message for the base model, in this form; without it they go to its
            chat template, or into a message if that takes none.
    """

    id: Id
    use: Line
    input: StepInput = StepInput()
    when: ConditionText | Annotated[list[ConditionText], Field(min_length=1, max_length=16)] | None = None
    otherwise: Otherwise | None = None
    max_new_tokens: Annotated[int, Field(ge=1, le=MAX_NEW_TOKENS)] | None = None
    docs_as_message: Literal["string", "json", "roles"] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.id in RESERVED:
            raise ValueError(f"{self.id!r} means something else in references; give the step another id")
        if self.otherwise and not self.when:
            raise ValueError("`otherwise` follows a `when` that does not hold, and there is no `when`")
        if self.use != BASE and (self.max_new_tokens or self.docs_as_message):
            raise ValueError(
                "max_new_tokens and docs_as_message are the base model's; an adapter's are in its io.yaml"
            )
        return self

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """`when`, read."""
        texts = [self.when] if isinstance(self.when, str) else self.when or []
        return tuple(parse_condition(text) for text in texts)

    @property
    def references(self) -> dict[str, Reference]:
        """What its input refers to, by the name of the input; arguments as `arguments.NAME`."""
        given = self.input
        texts: dict[str, Any] = {
            "messages": given.messages,
            "last_user": given.last_user,
            "assistant": given.assistant,
            "documents": given.documents,
            **{f"arguments.{name}": value for name, value in given.arguments.items()},
        }
        return {name: parse_reference(text) for name, text in texts.items() if isinstance(text, str)}


class Score(_Closed):
    """Where a response's faithfulness, a number in [0, 1], comes from.

    Attributes:
        faithfulness: a place in a step's result (`*` for every element of a list), or `data.FIELD`: a
            field of the data, which holds a number or one for each flow.
        values: what the labels there are worth; null leaves an element out. Numbers count as they are.
        over: what several values come to.
    """

    faithfulness: ReferenceText = f"{DATA}.faithfulness"
    values: dict[str, Annotated[float, Field(ge=0, le=1)] | None] = Field(default={}, max_length=100)
    over: Literal["mean", "min"] = "mean"

    @property
    def reference(self) -> Reference:
        """`faithfulness`, read."""
        return parse_reference(self.faithfulness)


class FlowSpec(_Closed):
    """A `flow.yaml`, format 1.

    Attributes:
        name: the flow's short name.
        base: the base model of all steps, as `--base` takes it; else the one that the adapters name.
        steps: in the order in which they run.
        output: references by name; `response` is the text that answers the request.
        score: how `zoo flow score` measures faithfulness.
    """

    format: Literal[1]
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,95}$")]
    description: Annotated[str, StringConstraints(max_length=5000)] = ""
    base: Line | None = None
    steps: list[Step] = Field(min_length=1, max_length=MAX_STEPS)
    output: dict[Id, ReferenceText] = Field(min_length=1, max_length=64)
    score: Score = Score()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        ids = [step.id for step in self.steps]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"two steps are called {twice[0]!r}")
        if RESPONSE not in self.output:
            raise ValueError("`output` wants a `response`: the text that answers the request")
        return self

    @property
    def outputs(self) -> dict[str, Reference]:
        """`output`, read."""
        return {name: parse_reference(text) for name, text in self.output.items()}
