"""Running a flow and its controls over a data set."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from zoo.errors import ContractError
from zoo.flows.controls import Variant, only_scored, variants
from zoo.flows.data import Row
from zoo.flows.execution import Answered, Answerer, Call, run_flow
from zoo.flows.faithfulness import from_data, from_step
from zoo.flows.records import Entry, Records
from zoo.flows.scoring import Outcome
from zoo.progress import Progress, silent
from zoo.specs.flow import FlowSpec, Step
from zoo.specs.reference import DATA

HOPELESS = ("ZO158", "ZO160")  # the adapter cannot work on this base, whatever the query


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a flow and its controls did with a data set.

    Attributes:
        variants: the flow, then its controls.
        entries: by variant, one a row, in the rows' order.
        outcomes: the same, with each answer's faithfulness.
    """

    variants: Sequence[Variant]
    entries: Mapping[str, Sequence[Entry]]
    outcomes: Mapping[str, Sequence[Outcome]]


def measure(
    spec: FlowSpec,
    rows: Sequence[Row],
    answerer: Answerer,
    *,
    records: Records,
    progress: Progress = silent,
) -> Measured:
    """Runs the flow and each control over every row, and looks up or takes down how faithful each answer is.

    A step that is called with the same input in several of them is answered once. A step that breaks its
    contract makes the row failed; it does not end the run.

    Args:
        spec: checked.
        rows: of the data.
        answerer: answers steps; deterministic, or the controls differ by more than the step.
        records: what an earlier run found is not run again.
        progress: told of each row.

    Raises:
        ZooError: the answerer's, when a model is missing or broken.
        SpecError: ZO311, a faithfulness in the data is no number in [0, 1].
    """
    several, scored = variants(spec), only_scored(spec)
    entries: dict[str, list[Entry]] = {variant.name: [] for variant in several}
    for number, row in enumerate(rows, start=1):
        once = _remembering(answerer)
        for variant in several:
            entry = records.get(row.digest, variant.name)
            if entry is None:
                entry = _entry(scored, row, variant, once)
                records.add(entry)
            entries[variant.name].append(entry)
        progress("score", done=number, total=len(rows))
    outcomes = {
        name: [_outcome(spec, *pair) for pair in zip(found, rows, strict=True)]
        for name, found in entries.items()
    }
    return Measured(variants=several, entries=entries, outcomes=outcomes)


def _entry(spec: FlowSpec, row: Row, variant: Variant, answerer: Answerer) -> Entry:
    try:
        run = run_flow(spec, row.request, answerer, left_out=variant.left_out)
        measured = None if spec.score.reference.head == DATA or run.abstained else from_step(spec.score, run)
    except ContractError as error:
        if error.code in HOPELESS:
            raise
        said = f"{error.code}: {error.message}"
        return Entry(row=row.digest, variant=variant.name, state="failed", error=said)
    return Entry(
        row=row.digest,
        variant=variant.name,
        state="abstained" if run.abstained else "answered",
        response=run.response,
        faithfulness=measured,
    )


def _outcome(spec: FlowSpec, entry: Entry, row: Row) -> Outcome:
    value = entry.faithfulness
    if entry.state == "answered" and spec.score.reference.head == DATA:
        value = from_data(spec.score, row, entry.variant)
    return Outcome(answerable=row.answerable, state=entry.state, faithfulness=value)


def _remembering(answerer: Answerer) -> Callable[[Step, Call], Answered]:
    given: dict[str, Answered | ContractError] = {}

    def answer(step: Step, call: Call) -> Answered:
        settings = [step.use, step.max_new_tokens, step.docs_as_message]
        key = json.dumps([settings, asdict(call)], sort_keys=True, default=str)
        if key not in given:
            try:
                given[key] = answerer(step, call)
            except ContractError as error:
                given[key] = error
        found = given[key]
        if isinstance(found, ContractError):
            raise found
        return found

    return answer
