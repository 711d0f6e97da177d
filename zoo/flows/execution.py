"""Running a flow's steps in order over one request; what answers a step is given from outside.

Nothing here knows a model. A step's reference to a step that did not run leaves the request's own value in
`messages`, `last_user` and `documents`; a text to append or an argument has no such stand-in, so a step that
wants one of those from a step that did not run does not run either.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from zoo.errors import ContractError
from zoo.flows.request import FlowRequest, read_documents, read_messages
from zoo.specs.condition import Condition
from zoo.specs.flow import BASE, RESPONSE, Constant, FlowSpec, Step
from zoo.specs.reference import REQUEST, AbsentError, Reference

State = Literal["ran", "silent", "skipped", "constant", "abstained", "left out", "not reached"]
STANDS_IN = ("messages", "last_user", "documents")  # inputs for which the request's own value can stand


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a step is called with: plain JSON."""

    messages: Sequence[Mapping[str, str]]
    documents: Sequence[Mapping[str, Any]]
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came of a step.

    Attributes:
        result: plain JSON; of the base model its text.
        text: what the model wrote.
        seconds: wall time.
        prompt_tokens: tokens that the model had read when it began to write.
        reused_tokens: of these, those whose KV was there already.
    """

    result: Any
    text: str
    seconds: float = 0.0
    prompt_tokens: int = 0
    reused_tokens: int = 0


class Answerer(Protocol):
    """Answers a step: the base model, an adapter, or a double in a test."""

    def __call__(self, step: Step, call: Call, /) -> Answered:
        """Answers one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What happened at a step.

    Attributes:
        id: the step's.
        state: `ran`; `silent` (the base model said nothing, which is no result); `skipped` (no result);
            `constant` (its condition did not hold, and `otherwise` gave the result); `abstained` (the flow
            ended here); `left out` (by a control); `not reached`.
        reason: why it is not `ran`; else empty.
        answered: what came of it, when it ran.
        result: its result; None without one.
    """

    id: str
    state: State
    reason: str = ""
    answered: Answered | None = None
    result: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRun:
    """What a flow said to one request.

    Attributes:
        output: by the names of `output`; null where the step did not run.
        abstained: it ended with the text of an `abstain`, or no step gave a response, or an empty one.
        steps: one record a step, in order.
        seconds: wall time.
    """

    output: Mapping[str, Any]
    abstained: bool
    steps: Sequence[StepRecord]
    seconds: float

    @property
    def response(self) -> str | None:
        """The text that answers the request; None when there is none."""
        found = self.output.get(RESPONSE)
        return found if isinstance(found, str) else None

    def result(self, step: str) -> Any:
        """A step's result; None when it has none."""
        return next((record.result for record in self.steps if record.id == step), None)


def run_flow(
    spec: FlowSpec,
    request: FlowRequest,
    answerer: Answerer,
    *,
    left_out: AbstractSet[str] = frozenset(),
    on_step: Callable[[StepRecord], None] | None = None,
) -> FlowRun:
    """Runs a flow.

    Args:
        spec: checked (`zoo.flows.contract`).
        request: what to answer.
        answerer: answers each step that runs.
        left_out: ids of steps to pass over; conditions on their results are dropped.
        on_step: told of each step as it ends.

    Raises:
        ContractError: ZO314, a value has not the form that its use wants; and what the answerer raises.
    """
    begun = time.perf_counter()
    scope = _Scope(request=request, left_out=left_out)
    ended = ""
    for step in spec.steps:
        if ended:
            record = StepRecord(id=step.id, state="not reached", reason=f"the flow ended at {ended}")
        else:
            record = _run_step(step, scope, answerer)
        scope.records[step.id] = record
        if record.state == "abstained":
            ended = step.id
        if on_step:
            on_step(record)
    output = {name: scope.value(reference) for name, reference in spec.outputs.items()}
    if ended:
        output = dict.fromkeys(output)
        output[RESPONSE] = scope.records[ended].result
    elif not isinstance(output[RESPONSE], str | None):
        raise _wrong(
            f"output.{RESPONSE} is {_shown(output[RESPONSE])}, and a response is a text", (RESPONSE,)
        )
    return FlowRun(
        output=output,
        abstained=bool(ended) or not (output[RESPONSE] or "").strip(),
        steps=list(scope.records.values()),
        seconds=time.perf_counter() - begun,
    )


@dataclass(kw_only=True)
class _Scope:
    request: FlowRequest
    left_out: AbstractSet[str]
    records: dict[str, StepRecord] = field(default_factory=dict)

    def there(self, reference: Reference) -> bool:
        """Whether the step that a reference is about gave a result."""
        return reference.head == REQUEST or self.records[reference.head].state in ("ran", "constant")

    def value(self, reference: Reference) -> Any:
        """The value, or None when its step gave no result."""
        if not self.there(reference):
            return None
        head = self.request.as_value() if reference.head == REQUEST else self.records[reference.head].result
        try:
            return reference.find(head)
        except AbsentError as error:
            raise _wrong(f"{error} is not there: {reference.head} is {_shown(head)}", error.path) from None

    def unmet(self, condition: Condition) -> str:
        """Why a condition does not hold; empty when it does."""
        head = condition.reference.head
        if head in self.left_out:
            return ""
        if not self.there(condition.reference):
            return f"{head} gave nothing"
        value = self.value(condition.reference)
        try:
            return "" if condition.holds(value) else f"{condition} does not hold: it is {_shown(value)}"
        except TypeError as error:
            raise _wrong(str(error), (head, *condition.reference.path)) from None


def _run_step(step: Step, scope: _Scope, answerer: Answerer) -> StepRecord:
    if step.id in scope.left_out:
        return StepRecord(id=step.id, state="left out", reason="this control leaves it out")
    for condition in step.conditions:
        if reason := scope.unmet(condition):
            if step.otherwise is None:
                return StepRecord(id=step.id, state="skipped", reason=reason)
            if step.otherwise.abstain is not None:
                return StepRecord(id=step.id, state="abstained", reason=reason, result=step.otherwise.abstain)
            return StepRecord(id=step.id, state="constant", reason=reason, result=step.otherwise.result)
    for name, reference in step.references.items():
        if name not in STANDS_IN and not scope.there(reference):
            return StepRecord(id=step.id, state="skipped", reason=f"{reference.head} gave nothing")
    values = {name: scope.value(at) for name, at in step.references.items() if scope.there(at)}
    call = call_of(step, values, scope.request)
    try:
        answered = answerer(step, call)
    except ContractError as error:
        said = f"step {step.id}: {error.message}"
        raise ContractError(said, path=error.path, hint=error.hint, code=error.code) from error
    if step.use == BASE and isinstance(answered.result, str) and not answered.result.strip():
        return StepRecord(id=step.id, state="silent", reason="it said nothing", answered=answered)
    return StepRecord(id=step.id, state="ran", answered=answered, result=answered.result)


def call_of(step: Step, values: Mapping[str, Any], request: FlowRequest) -> Call:
    """Puts a step's input together.

    Args:
        step: the step.
        values: by the name of the input; what is not there the request's own stands in for.
        request: whose messages and documents stand in.

    Raises:
        ContractError: ZO314, a text, conversation or list of documents is none.
    """
    messages, documents = list(request.messages), list(request.documents)
    if "messages" in values:
        messages = _read(read_messages, values["messages"], step, "messages")
    if "documents" in values:
        documents = _read(read_documents, values["documents"], step, "documents")
    elif isinstance(step.input.documents, list):
        documents = []
    if "last_user" in values:
        messages = _with_last_user(messages, _text(values["last_user"], step, "last_user"), step)
    if "assistant" in values:
        messages = [
            *messages,
            {"role": "assistant", "content": _text(values["assistant"], step, "assistant")},
        ]
    constants = {
        name: given.value for name, given in step.input.arguments.items() if isinstance(given, Constant)
    }
    given = {
        name.removeprefix("arguments."): found
        for name, found in values.items()
        if name.startswith("arguments.")
    }
    return Call(messages=messages, documents=documents, arguments={**constants, **given})


def _with_last_user(messages: list[Any], text: str, step: Step) -> list[Any]:
    for index in range(len(messages) - 1, -1, -1):
        if messages[index]["role"] == "user":
            return [*messages[:index], {**messages[index], "content": text}, *messages[index + 1 :]]
    raise _wrong(
        f"step {step.id}: last_user replaces a user's message, and there is none", (step.id, "last_user")
    )


def _text(value: Any, step: Step, name: str) -> str:
    if isinstance(value, str) and value.strip():
        return value
    raise _wrong(f"step {step.id}: {name} is {_shown(value)}, and a text is wanted", (step.id, name))


def _read(reader: Callable[..., Any], value: Any, step: Step, name: str) -> Any:
    try:
        return reader(value, (step.id, name))
    except ContractError as error:
        raise _wrong(error.message, error.path) from None


def _shown(value: Any) -> str:
    import json

    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _wrong(message: str, path: Sequence[str | int]) -> ContractError:
    return ContractError(message, path=path, code="ZO314", hint="zoo flow check says what the steps may give")
