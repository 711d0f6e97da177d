"""`process`: from a model's reply to the contract's result."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from zoo.errors import ContractError
from zoo.io.json_value import Budget, Path
from zoo.io.likelihood import Tokens, expected
from zoo.io.pathways import places_of, replaced, value_at
from zoo.io.records import drop_duplicates, explode, project, wrong_kind
from zoo.io.reply import Reply, read_reply
from zoo.io.reply_text import parsed, placed, without_places
from zoo.io.request import read_request
from zoo.io.schema import check_reply
from zoo.io.sentences import Place, places
from zoo.io.spans import Numbered, Offsets, decode, merge_spans

if TYPE_CHECKING:
    from zoo.specs.io import (
        DecodeSentences,
        DropDuplicates,
        Explode,
        IOSpec,
        Likelihood,
        MergeSpans,
        Nest,
        Project,
        Transformation,
    )

    InPlace = Likelihood | Explode | DropDuplicates | Project | Nest | MergeSpans


def process(
    spec: "IOSpec",
    reply: str | Mapping[str, Any],
    request: Mapping[str, Any],
    *,
    spans: Offsets = "untagged",
) -> Any:
    """The result of a reply: checked against its schema, then transformed.

    Args:
        spec: the contract.
        reply: the model's text, or an OpenAI choice with `message` and, for likelihoods, `logprobs`.
        request: the caller's request, as it was before `rewrite`.
        spans: what a sentence's offsets count: `untagged` the caller's text, `tagged` the text with the tags.

    Returns:
        Plain JSON that shares nothing with the arguments.

    Raises:
        ContractError: ZO100 to ZO104, the request; ZO120 to ZO133, the reply.

    Source: granite-common 0.4.1 and mellea 0.8.0, intrinsics/output.py (IntrinsicsResultProcessor).
    """
    if spans not in ("untagged", "tagged"):
        raise ContractError(f"spans={spans!r} is neither untagged nor tagged", code="ZO100")
    answer = read_reply(reply, harmony=spec.logprobs_workaround)
    value = parsed(answer.text)
    if spec.response_format is not None:
        check_reply(value, spec.response_format)
    if not spec.transformations:
        return value
    run = _Run(spec, answer, request, spans)
    weighs = any(step.type == "likelihood" for step in spec.transformations)
    if weighs:
        value = placed(answer.text)
    for step in spec.transformations:
        value = run.apply(value, step)
    return without_places(value) if weighs else value


class _Run:
    """One reply's way through the transformations; what several of them need is made once."""

    def __init__(self, spec: "IOSpec", reply: Reply, request: Mapping[str, Any], offsets: Offsets) -> None:
        self.spec = spec
        self.reply = reply
        self.request = request
        self.offsets = offsets
        self.budget = Budget()
        self._places: list[Place] | None = None
        self._tokens: Tokens | None = None

    def apply(self, value: Any, step: "Transformation") -> Any:
        """`value` after one transformation, changed in place where that is possible."""
        paths = places_of(value, step.input_path)
        if step.type == "decode_sentences":
            self._decode(value, step, paths)
            return value
        for path in paths:
            value = replaced(value, path, partial(self._transformed, step, path))
        return value

    def _transformed(self, step: "InPlace", path: Path, value: Any) -> Any:
        match step.type:
            case "likelihood":
                return self._expected(value, step, path)
            case "explode":
                return explode(value, step, path, self.budget)
            case "drop_duplicates":
                return drop_duplicates(value, step, path)
            case "project":
                return project(value, step, path)
            case "nest":
                return {step.field_name: value}
            case "merge_spans":
                return merge_spans(value, step, path, self.budget)

    def _expected(self, value: Any, step: "Likelihood", path: Path) -> float:
        if self._tokens is None:
            self._tokens = Tokens.of(self.reply)
        return expected(value, step.categories_to_values, self._tokens, path)

    def _decode(self, value: Any, step: "DecodeSentences", paths: list[Path]) -> None:
        sources = [step.source] if isinstance(step.source, str) else step.source
        for source in sources:
            if source not in self.spec.sentence_boundaries:
                raise ContractError(
                    f"the contract decodes sentences of {source}, and does not number them",
                    path=("sentence_boundaries",),
                    hint=f"add {source} to sentence_boundaries",
                    code="ZO130",
                )
        if self._places is None:
            self._places = places(read_request(self.request), self.spec.sentence_boundaries)
        found = Numbered(self._places, sources, self.offsets)
        for path in paths:
            parent = value_at(value, path[:-1]) if path else None
            if not isinstance(parent, dict):
                raise wrong_kind("a record's field", value if parent is None else parent, path[:-1])
            decode(parent, str(path[-1]), step.output_names, found, path, self.budget)
