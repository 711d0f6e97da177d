"""The `io.yaml` under test, and the requests that its checks rewrite and render."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.adapter import IO_NAME
from zoo.errors import DefectError
from zoo.specs.release import Position
from zoo.validators.check import Context

if TYPE_CHECKING:
    from zoo.specs.io_file import IODocument

# Stand-ins where the release has no sample requests: a question, and one behind an answer.
QUESTION = {"role": "user", "content": "When was the lighthouse on the skerry lit for the first time?"}
ANSWER = {"role": "assistant", "content": "It was lit in 1868. The keeper rowed there."}
THANKS = {"role": "user", "content": "And who kept it, in winter?"}
DOCUMENTS = (
    {"doc_id": "0", "text": "The lighthouse was lit in 1868. Its keeper rowed to the village once a week."},
    {"doc_id": "1", "text": "In winter the crossing could take half a day."},
)
STAND_IN = "The reply names a year."


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A request to be rewritten.

    Attributes:
        label: names it in a finding.
        request: an OpenAI chat-completions request.
        arguments: values of the instruction's fields.
        own: the release's author wrote it.
    """

    label: str
    request: Mapping[str, Any]
    arguments: Mapping[str, Any]
    own: bool


def contract_of(context: Context) -> "IODocument":
    """The adapter's `io.yaml`; only for checks that are not run without one."""
    found = context.repo.io_document
    if found is None:
        raise DefectError("a check of io.yaml ran without one")
    return found


def without_io(context: Context) -> str:
    """Why there is nothing to look at."""
    return "" if (context.repo.root / IO_NAME).is_file() else f"no {IO_NAME}"


def sample_requests(context: Context) -> list[Sample]:
    """The release's sample requests, else its samples as requests, else stand-ins.

    At the position `in_message` a sample already carries what the contract would write, so it is no request.
    """
    from zoo.specs.io_template import read_template

    release, spec = context.repo.release, contract_of(context).spec
    names = read_template(spec.instruction).arguments if spec.instruction is not None else ()
    invented = dict.fromkeys(names, STAND_IN)
    if release and release.requests:
        return [
            Sample(
                label=f"request {index} of zoo.yaml",
                request=one.as_request(),
                arguments=one.arguments,
                own=True,
            )
            for index, one in enumerate(release.requests)
        ]
    samples = list(_stand_ins(invented))
    if release and release.invocation.position is not Position.IN_MESSAGE:
        for index, messages in enumerate(release.samples):
            said = [message.model_dump() for message in messages]
            samples.append(
                Sample(
                    label=f"sample {index} of zoo.yaml",
                    request={"messages": said},
                    arguments=invented,
                    own=True,
                )
            )
    return samples


def _stand_ins(arguments: Mapping[str, Any]) -> Iterator[Sample]:
    conversations: Sequence[Sequence[Mapping[str, str]]] = (
        [QUESTION], [QUESTION, ANSWER], [QUESTION, ANSWER, THANKS],
    )  # fmt: skip
    for index, messages in enumerate(conversations):
        for documents in ((), DOCUMENTS):
            body = {"extra_body": {"documents": [dict(one) for one in documents]}} if documents else {}
            yield Sample(
                label=f"stand-in {index}{' with documents' if documents else ''}",
                request={"messages": [dict(message) for message in messages], **body},
                arguments=arguments,
                own=False,
            )
