"""Checks ZT001, ZT002 and ZI005: the template, and what may stand beside the invocation."""

import json
from collections.abc import Iterator, Mapping

from zoo.activation import occurrences
from zoo.provenance import sha256_bytes, sha256_file
from zoo.report import Finding, Location, Severity
from zoo.specs.release import Position
from zoo.validators.characters import endings, named
from zoo.validators.check import Check, Context, Measurement, Need
from zoo.validators.checks.collision import COLLISION_CHECKS
from zoo.validators.checks.drift import DRIFT_CHECKS
from zoo.validators.checks.injection import INJECTION_CHECKS
from zoo.validators.checks.invocation import invocation_place
from zoo.validators.checks.placement import EDGES, PLACEMENT_CHECKS
from zoo.validators.checks.truncation import TRUNCATION_CHECKS

LISTED_EDGES = 5

# What may stand beside an invocation inside a message. Whoever writes the request puts a break or a space
# there, or the invocation directly behind a sentence; letters and digits directly beside it are unusual.
USUAL: Mapping[str, str] = {"\n": "a line break", " ": "a space", ".": "a full stop", "\n\n": "an empty line"}
USUAL_BEHIND: Mapping[str, str] = {**USUAL, ":": "a colon"}
UNUSUAL = ("x", "é")  # besides every kind of character


def _renders(context: Context) -> Iterator[Finding | Measurement]:
    rendering = context.rendering
    every = (*rendering.core, *rendering.more, *rendering.quoting)
    yield Measurement(name="prompts", value=len(every))
    yield Measurement(name="own_samples", value=rendering.own)
    for kind, said in rendering.kinds.items():
        yield Measurement(name=kind.value, value=said)


def _own_template(context: Context) -> Iterator[Finding]:
    root, base = context.repo.root, context.known_base
    if (root / "tokenizer.json").is_file() and sha256_file(root / "tokenizer.json") != sha256_file(
        base.tokenizer_path
    ):
        yield _differs("tokenizer.json", base.id)
    if (root / "chat_template.jinja").is_file():
        shipped = (root / "chat_template.jinja").read_bytes()
        if sha256_bytes(shipped) != sha256_bytes(base.chat_template.encode()):
            yield _differs("chat_template.jinja", base.id)
    for name in ("tokenizer_config.json", "chat_template.json"):
        if not (root / name).is_file():
            continue
        content = json.loads((root / name).read_bytes())
        if not isinstance(content, dict):
            continue
        if "auto_map" in content:
            yield Finding(message=f"{name} has auto_map, which names code to load",
                          location=Location(file=name), fix="remove it: the base has its own")  # fmt: skip
        template = content.get("chat_template")
        if isinstance(template, str) and template != base.chat_template:
            yield _differs(name, base.id)


def _differs(name: str, base: str) -> Finding:
    return Finding(
        message=f"{name} is not the one of {base}: who loads it renders prompts that nothing here has seen",
        severity=Severity.WARNING,
        location=Location(file=name),
        fix="remove it; prompts are the base model's",
    )


def _edges_hold(context: Context) -> Iterator[Finding | Measurement]:
    in_message = context.invocation.position is Position.IN_MESSAGE
    sides = ("before", "behind") if in_message else ("before",)
    tried = 0
    for side in sides:
        usual = USUAL if side == "before" else USUAL_BEHIND
        unusual = {text: named(text) for text in (*UNUSUAL, *endings()) if text not in usual}
        for neighbours, severity in (
            # behind a prompt only the template's own ending can stand before it, and ZI004 has rendered that
            (usual, Severity.ERROR if in_message else Severity.WARNING),
            (unusual, Severity.WARNING),
        ):
            tried += len(neighbours)
            broken = [what for text, what in neighbours.items() if not _survives(context, text, side)]
            if broken:
                yield Finding(
                    message=f"the invocation {context.invocation.text!r} is tokenised differently with "
                    f"{_some(broken)} {side} it: the adapter is silently off there",
                    severity=severity,
                    location=invocation_place(context),
                    fix=EDGES,
                )
    yield Measurement(name="neighbours_tried", value=tried)


def _some(broken: list[str]) -> str:
    shown = ", ".join(broken[:LISTED_EDGES])
    more = len(broken) - LISTED_EDGES
    return shown if more <= 0 else f"{shown} and {more} other kinds of text"


def _survives(context: Context, neighbour: str, side: str) -> bool:
    text = context.invocation.text
    whole = f"Some words{neighbour}{text}" if side == "before" else f"Some words\n{text}{neighbour}more"
    return bool(occurrences(context.prompter.encode(whole), context.invocation.ids))


_BASE = frozenset({Need.BASE})
PROMPT_CHECKS = (
    Check(code="ZT001", title="The base's chat template renders", run=_renders,
          requires=("ZC001", "ZI001", "ZM001"), needs=_BASE),
    Check(code="ZT002", title="The adapter ships no template of its own", run=_own_template,
          requires=("ZF003",), needs=_BASE),
    *PLACEMENT_CHECKS,
    Check(code="ZI005", title="The invocation's edges merge with nothing", run=_edges_hold,
          requires=("ZI003",), needs=_BASE),
    *INJECTION_CHECKS,
    *TRUNCATION_CHECKS,
    *COLLISION_CHECKS,
    *DRIFT_CHECKS,
)  # fmt: skip
