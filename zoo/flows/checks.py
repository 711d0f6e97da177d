"""What can be known of a flow before it runs: does each step get what its contract wants, and can it run."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from zoo.adapter import AdapterRepo
from zoo.errors import NotFoundError, ZooError
from zoo.flows.controls import needed_steps
from zoo.flows.decisions import conditions_decide, incomparable, unreachable
from zoo.flows.domain import NUMERIC, fits
from zoo.flows.flow import Flow
from zoo.flows.uses import TEXTS, Where, all_references, conditions, finding_at, known_field, uses
from zoo.provenance import sha256_file
from zoo.report import Finding, Flagged, NotApplicable, Outcome, Passed, Report, Result, Severity
from zoo.specs.flow import BASE, Constant
from zoo.specs.reference import DATA, REQUEST


def check_flow(flow: Flow) -> Report:
    """Every check of a flow, as a report."""
    results = [Result(code=code, title=title, outcome=_outcome(check(flow))) for code, title, check in CHECKS]
    return Report(subject=str(flow.path), digest=sha256_file(flow.path), results=results)


def _outcome(findings: Iterable[Finding] | None) -> Outcome:
    if findings is None:
        return NotApplicable(reason="the flow has nothing of the kind")
    found = list(findings)
    return Flagged(findings=found) if found else Passed()


def adapters_are_there(flow: Flow) -> Iterator[Finding] | None:
    """ZO301."""
    if not flow.contracts:
        return None
    return _adapters(flow)


def _adapters(flow: Flow) -> Iterator[Finding]:
    for index, step in enumerate(flow.spec.steps):
        where, contract = ("steps", index, "use"), flow.contracts.get(step.id)
        if fault := flow.faults.get(step.id):
            code = f"{fault.code}: " if fault.code else ""
            yield finding_at(flow, where, f"step {step.id}: {code}{fault.message}", fix=fault.hint)
        elif contract is not None and contract.result is None:
            message = f"step {step.id}: {step.use} has no io.yaml: its result is the text of its reply"
            fix = "write one: zoo init shows how"
            yield finding_at(flow, where, message, fix=fix, severity=Severity.WARNING)
        if contract is not None and (missing := _not_to_be_run(flow.folder(step))):
            message = f"step {step.id}: {step.use} {missing[1]}"
            yield finding_at(flow, where, message, severity=missing[0])


def _not_to_be_run(folder: Path) -> tuple[Severity, str] | None:
    """Why an adapter whose contract can be read cannot be run, and how bad that is."""
    try:
        ids = AdapterRepo.open(folder).config.alora_invocation_tokens
    except NotFoundError:
        return Severity.INFO, "holds no adapter yet: its contract is checked, and it cannot be run"
    except ZooError as error:
        return Severity.ERROR, f"cannot be read: {error.message}"
    return None if ids else (Severity.ERROR, "is a plain LoRA, which can share no cache (zoo convert)")


def names_are_known(flow: Flow) -> Iterator[Finding]:
    """ZO302."""
    known = [step.id for step in flow.spec.steps]
    for reference, where, _, what in all_references(flow):
        if reference.head not in (REQUEST, *known):
            message = f"{what} refers to {reference}, and no step is called {reference.head!r}"
            yield finding_at(flow, where, message, fix=f"known are {', '.join([REQUEST, *known])}")


def references_go_back(flow: Flow) -> Iterator[Finding]:
    """ZO303."""
    order = {step.id: index for index, step in enumerate(flow.spec.steps)}
    for reference, where, index, what in all_references(flow):
        at = order.get(reference.head, -1)
        if at >= index:
            which = "itself" if at == index else "a later step"
            message = f"{what} refers to {which}: {reference}"
            yield finding_at(flow, where, message, fix="steps run in the order of the file; put it below")


def fields_exist(flow: Flow) -> Iterator[Finding]:
    """ZO304."""
    for reference, where, _, what in all_references(flow):
        try:
            field = flow.field(reference)
        except KeyError as error:
            fix = "use what is there; zoo diff OLD NEW says what changed in an adapter"
            yield finding_at(flow, where, f"{what}: {error.args[0]}", fix=fix)
        else:
            if field is not None and not field.always and reference.head != REQUEST:
                message = f"{what}: {reference} may be missing from a reply"
                fix = "make it required in the adapter's response_format"
                yield finding_at(flow, where, message, fix=fix, severity=Severity.WARNING)


def types_fit(flow: Flow) -> Iterator[Finding]:
    """ZO305."""
    for use in uses(flow):
        field = known_field(flow, use.reference)
        if field is None or not field.types or not use.wanted:
            continue
        if use.reference.wild:
            message = f"{use.what} wants one value, and {use.reference} names several"
            yield finding_at(flow, use.where, message)
        elif unfit := {kind for kind in field.types if not fits(kind, use.wanted)}:
            message = f"{use.what} wants {_either(use.wanted)}, and {use.reference} is {field.describe()}"
            severity = Severity.ERROR if unfit == field.types else Severity.WARNING
            yield finding_at(flow, use.where, message, severity=severity)
    for _, condition, where in conditions(flow):
        field = known_field(flow, condition.reference)
        if field is not None and field.types and (problem := incomparable(condition, field)):
            yield finding_at(flow, where, problem)


def _either(types: frozenset[str]) -> str:
    return "a text" if types == TEXTS else " or ".join(sorted(types))


def one_base(flow: Flow) -> Iterator[Finding] | None:
    """ZO306."""
    return _bases(flow) if flow.contracts or flow.spec.base else None


def _bases(flow: Flow) -> Iterator[Finding]:
    first: tuple[str, str, str] | None = None
    for index, step in enumerate(flow.spec.steps):
        contract = flow.contracts.get(step.id)
        if contract is None or not contract.base.get("id"):
            continue
        name, revision = contract.base["id"], contract.base.get("revision", "")
        if first is None:
            first = (step.id, name, revision)
        elif name != first[1] or (revision and first[2] and revision != first[2]):
            message = (
                f"step {step.id} is made for {_named(name, revision)}, "
                f"step {first[0]} for {_named(*first[1:])}: "
                "a cache is shared on one base model"
            )
            yield finding_at(
                flow, ("steps", index, "use"), message, fix="use adapters of one base at one commit"
            )


def _named(name: str, revision: str) -> str:
    return f"{name} at {revision[:12]}" if revision else name


def arguments_fit(flow: Flow) -> Iterator[Finding]:
    """ZO307."""
    for index, step in enumerate(flow.spec.steps):
        given, contract = set(step.input.arguments), flow.contracts.get(step.id)
        wanted = set(contract.inputs.arguments) if contract else set()
        where: Where = ("steps", index, "input", "arguments")
        if contract is None and step.use != BASE:
            continue
        if missing := sorted(wanted - given):
            message = f"step {step.id}: its instruction wants {', '.join(missing)}, and the step gives none"
            yield finding_at(
                flow, where, message, fix=f"arguments: {{{missing[0]}: request.arguments.{missing[0]}}}"
            )
        if unknown := sorted(given - wanted):
            takes = (
                f"its instruction takes {', '.join(sorted(wanted))}" if wanted else "it takes no arguments"
            )
            yield finding_at(flow, where, f"step {step.id} gives {', '.join(unknown)}, and {takes}")
        for name, value in step.input.arguments.items():
            if isinstance(value, Constant) and isinstance(value.value, str) and not value.value.strip():
                yield finding_at(flow, (*where, name), f"step {step.id}: the argument {name} is empty")


def steps_are_of_use(flow: Flow) -> Iterator[Finding]:
    """ZO308."""
    last = len(flow.spec.steps)
    needed = needed_steps(flow.spec, {use.reference.head for use in uses(flow) if use.index == last})
    for index, step in enumerate(flow.spec.steps):
        if step.id not in needed and not (step.otherwise and step.otherwise.abstain):
            message = f"step {step.id} is run for nothing: neither the output nor a step on the way uses it"
            yield finding_at(
                flow, ("steps", index), message, severity=Severity.WARNING, fix="use it, or take it out"
            )
    yield from unreachable(flow)


def faithfulness_is_a_share(flow: Flow) -> Iterator[Finding]:
    """ZO311."""
    score, where = flow.spec.score, ("score", "faithfulness")
    if score.reference.head == DATA:
        return
    field = known_field(flow, score.reference)
    if field is None:
        return
    labels = [value for value in field.values or () if isinstance(value, str)]
    if unvalued := [label for label in labels if label not in score.values]:
        fix = f"score: {{values: {{{unvalued[0]}: 1}}}}; null leaves it out"
        yield finding_at(flow, where, f"the score gives no value for {', '.join(unvalued)}", fix=fix)
    if not field.values and field.types and not field.types <= NUMERIC:
        yield finding_at(
            flow, where, f"{score.reference} is {field.describe()}, and the score wants a number in [0, 1]"
        )
    numbers = [value for value in field.values or () if isinstance(value, int | float)]
    if any(not 0 <= number <= 1 for number in numbers):
        yield finding_at(flow, where, f"{score.reference} may lie outside [0, 1]")


CHECKS: tuple[tuple[str, str, Callable[[Flow], Iterable[Finding] | None]], ...] = (
    ("ZO301", "Every step's adapter is there, with its contract", adapters_are_there),
    ("ZO302", "Every reference names a step or the request", names_are_known),
    ("ZO303", "References go back, never forward", references_go_back),
    ("ZO304", "Every field that is used is in the step's result", fields_exist),
    ("ZO305", "Types fit where they are used", types_fit),
    ("ZO306", "All adapters are made for one base model", one_base),
    ("ZO307", "Every step gets its arguments", arguments_fit),
    ("ZO308", "Every step can run and is of use", steps_are_of_use),
    ("ZO315", "Every condition decides something", conditions_decide),
    ("ZO311", "Faithfulness is a number in [0, 1]", faithfulness_is_a_share),
)
