"""The flows that a flow is compared with: itself with a step left out, and with every step left out.

Each added intrinsic has to show what it is worth: arXiv 2504.11704 (v1), section 7, asks for flows that are
not composed as controls.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from zoo.flows.execution import STANDS_IN
from zoo.specs.flow import RESPONSE, FlowSpec
from zoo.specs.reference import DATA, REQUEST

WHOLE = "flow"
BARE = "bare"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A flow or one of its controls.

    Attributes:
        name: `flow`, `without STEP`, or `bare`.
        left_out: ids of the steps that are passed over.
        silent: steps that cannot run then either, because they want a text or an argument from one of these.
        same: nothing that is scored depends on what is left out, so its figures are the flow's.
    """

    name: str
    left_out: frozenset[str] = frozenset()
    silent: tuple[str, ...] = ()
    same: bool = False


def variants(spec: FlowSpec) -> list[Variant]:
    """The flow, then each control.

    The step that gives the response and the one that faithfulness comes from stay, since nothing could be
    scored without them; so does what they cannot run without.
    """
    scored, fixed = scored_steps(spec), _fixed(spec)
    removable = [step.id for step in spec.steps if step.id not in fixed]
    found = [Variant(name=WHOLE)]
    for step in removable:
        left_out = frozenset({step})
        found.append(
            Variant(
                name=f"without {step}",
                left_out=left_out,
                silent=tuple(_silenced(spec, left_out)),
                same=not scored & {step, *_silenced(spec, left_out)},
            )
        )
    if len([step for step in removable if step in scored]) > 1:
        left_out = frozenset(removable)
        found.append(Variant(name=BARE, left_out=left_out))
    return found


def scored_steps(spec: FlowSpec) -> set[str]:
    """The steps that the response, the abstentions and the faithfulness depend on."""
    judge = spec.score.reference.head
    return needed_steps(spec, {spec.outputs[RESPONSE].head, *([judge] if judge != DATA else [])})


def only_scored(spec: FlowSpec) -> FlowSpec:
    """The flow without the steps on which nothing that is scored depends."""
    wanted = scored_steps(spec)
    steps = [step for step in spec.steps if step.id in wanted]
    return spec.model_copy(update={"steps": steps, "output": {RESPONSE: spec.output[RESPONSE]}})


def needed_steps(spec: FlowSpec, wanted: Iterable[str]) -> set[str]:
    """The steps that some steps depend on, themselves included, and those that may end the flow."""
    needed = {*wanted, *(s.id for s in spec.steps if s.otherwise and s.otherwise.abstain is not None)}
    for step in reversed(spec.steps):
        if step.id in needed:
            needed |= {reference.head for reference in step.references.values()}
            needed |= {condition.reference.head for condition in step.conditions}
    return needed - {REQUEST}


def _fixed(spec: FlowSpec) -> set[str]:
    """What must run in every control."""
    fixed = {spec.outputs[RESPONSE].head, spec.score.reference.head}
    for step in reversed(spec.steps):
        if step.id in fixed:
            fixed |= {reference.head for name, reference in step.references.items() if name not in STANDS_IN}
    return fixed


def _silenced(spec: FlowSpec, left_out: frozenset[str]) -> list[str]:
    """Steps that want what a left-out step would have given and for which nothing stands in."""
    gone, silent = set(left_out), []
    for step in spec.steps:
        wants = {reference.head for name, reference in step.references.items() if name not in STANDS_IN}
        if step.id not in gone and wants & gone:
            gone.add(step.id)
            silent.append(step.id)
    return silent
