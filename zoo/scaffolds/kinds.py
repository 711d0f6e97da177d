"""The kinds of intrinsic that `zoo init` knows."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from zoo.errors import UsageError

FOLDER = Path(__file__).parent / "kinds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind.

    Attributes:
        name: as on the command line; its files are in `kinds/NAME`.
        does: what such an intrinsic says, in one sentence.
        wants: what the conversation must be.
        data: what to know about the sample data before replacing it.
    """

    name: str
    does: str
    wants: str
    data: str = "Half of the samples are one label, half the other, in pairs that share a document or a task."

    @property
    def io_path(self) -> Path:
        """Its `io.yaml`."""
        return FOLDER / self.name / "io.yaml"

    @property
    def requests_path(self) -> Path:
        """Its sample data."""
        return FOLDER / self.name / "requests.jsonl"


KINDS = (
    Kind(
        name="answerability",
        does="Says whether the documents answer the user's last question.",
        wants="A conversation that ends with the user's question, and documents.",
    ),
    Kind(
        name="query_rewrite",
        does="Rewrites the user's last question so that it can be understood without the conversation.",
        wants="A conversation that ends with the user's question.",
        data="Two of the questions stand alone already and stay as they are: keep such samples.",
    ),
    Kind(
        name="query_clarification",
        does="Asks back when the documents leave the user's question open, else says CLEAR.",
        wants="A conversation that ends with the user's question, and documents.",
    ),
    Kind(
        name="certainty",
        does="Says how likely the assistant's last answer is right.",
        wants="A conversation that ends with the assistant's answer.",
        data="The digits are made up. Measure real ones on the base's own answers: let it answer questions "
        "whose answers are known, and label each answer with the share of right ones among answers like it.",
    ),
    Kind(
        name="requirement_check",
        does="Says how likely the assistant's last reply meets a requirement.",
        wants="A conversation that ends with the assistant's reply, and the argument `requirement`.",
    ),
    Kind(
        name="hallucination_detection",
        does="Judges each sentence of the assistant's last answer by the documents.",
        wants="A conversation that ends with the assistant's answer, and documents.",
        data="Faithful and unfaithful sentences are about as many; `partial` and `NA` are yours to add.",
    ),
    Kind(
        name="citations",
        does="Finds the document sentences that carry each sentence of the assistant's last answer.",
        wants="A conversation that ends with the assistant's answer, and documents.",
        data="Numbers count from 0: `r` in the answer, `c` on through all documents.",
    ),
    Kind(
        name="context_relevance",
        does="Says whether a document helps to answer the user's last question.",
        wants="A conversation that ends with the user's question, and one document.",
        data="Each question has one document of each of the three labels.",
    ),
    Kind(
        name="guardian",
        does="Says how likely a criterion is true of the last message.",
        wants="A conversation, and the argument `criteria`.",
    ),
)


def kind_named(name: str) -> Kind:
    """The kind of a name; `-` counts as `_`.

    Raises:
        UsageError: ZO220, there is none.
    """
    names = [kind.name for kind in KINDS]
    if (wanted := name.replace("-", "_")) in names:
        return KINDS[names.index(wanted)]
    near = get_close_matches(wanted, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"give --kind one of {', '.join(names)}"
    raise UsageError(f"{name!r} is no kind of intrinsic that zoo knows", hint=hint, code="ZO220")
