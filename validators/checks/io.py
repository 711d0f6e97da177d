"""Checks ZO020 to ZO025, ZO028 and ZO030: what an `io.yaml` says by itself."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zoo.adapter import IO_NAME
from zoo.errors import SpecError
from zoo.report import Finding, Location, Severity
from zoo.validators.check import Check, Context, Measurement
from zoo.validators.checks.io_prompts import IO_PROMPT_CHECKS
from zoo.validators.checks.io_template import TEMPLATE_CHECKS
from zoo.validators.contract import contract_of, without_io
from zoo.validators.places import in_io

if TYPE_CHECKING:
    from zoo.specs.io import DecodeSentences
    from zoo.specs.shape_path import Kind

OWNED = ("messages", "stream", "n", "tools", "tool_choice")


def _readable(context: Context) -> Iterator[Finding | Measurement]:
    try:
        found = contract_of(context)
    except SpecError as error:
        line = error.message.split(":")[1:2]
        yield Finding(
            message=f"{error.code}: {error.message}",
            location=Location(file=IO_NAME, line=int(line[0]) if line and line[0].isdigit() else None),
            fix=error.hint or f"zoo explain {error.code} says more",
        )
        return
    for note in found.notes:
        yield Finding(
            message=f"{note.code}: {note.message}",
            severity=Severity.WARNING if note.code == "ZO010" else Severity.INFO,
            location=in_io(found, note.path),
            fix="quote it" if note.code == "ZO010" else "write it as it is written today",
        )
    yield Measurement(name="transformations", value=len(found.spec.transformations))


def _fits(context: Context) -> Iterator[Finding]:
    from zoo.specs.io import reply_schemas
    from zoo.specs.json_schema import oddities

    found = contract_of(context)
    for place, schema in reply_schemas(found.spec)[:1]:
        for path, message, certain in oddities(schema):
            yield Finding(
                message=f"the reply's schema: {message}",
                severity=Severity.ERROR if certain else Severity.WARNING,
                location=in_io(found, (*place, *path)),
                fix="make the schema say what the model writes",
            )
    for kind in ("path", "unknown"):
        yield from _problems(context, kind)


def _categories(context: Context) -> Iterator[Finding]:
    yield from _problems(context, "category")


def _problems(context: Context, kind: "Kind") -> Iterator[Finding]:
    from zoo.specs.io_pipeline import trace

    found = contract_of(context)
    for problem in trace(found.spec).problems:
        if problem.kind == kind:
            yield Finding(
                message=problem.message,
                severity=Severity.ERROR if problem.certain else Severity.WARNING,
                location=in_io(found, problem.path),
                fix="compare it with the schema and with the transformations before it",
            )


def _sentences(context: Context) -> Iterator[Finding]:
    from zoo.io.sentences import prefix_problem
    from zoo.specs.io import DecodeSentences

    found = contract_of(context)
    boundaries = found.spec.sentence_boundaries
    for index, rule in enumerate(found.spec.transformations):
        if isinstance(rule, DecodeSentences):
            where = in_io(found, ("transformations", index, "source"))
            for message, severity in _decoding(rule, frozenset(boundaries)):
                yield Finding(
                    message=message, severity=severity, location=where,
                    fix="sentence_boundaries: {documents: c, last_message: r}",
                )  # fmt: skip
    if why := prefix_problem(boundaries.values()):
        yield Finding(
            message=why,
            location=in_io(found, ("sentence_boundaries",)),
            fix="sentence_boundaries: {documents: c, last_message: r}",
        )
    others = [tag for location, tag in boundaries.items() if location != "last_message"]
    if boundaries.get("last_message") in others:
        yield Finding(
            message="the last message's sentences have the same tags as other ones: both begin at 0",
            severity=Severity.WARNING,
            location=in_io(found, ("sentence_boundaries",)),
            fix="give each its own prefix",
        )


def _decoding(rule: "DecodeSentences", numbered: frozenset[str]) -> Iterator[tuple[str, Severity]]:
    for source in dict.fromkeys(rule.sources):
        if source not in numbered:
            yield (
                f"sentences of {source} are decoded, and sentence_boundaries does not number them",
                Severity.ERROR,
            )
    if len(set(rule.sources)) < len(rule.sources):
        yield "a source is named twice", Severity.ERROR
    if len(rule.sources) > 1 and "last_message" in rule.sources:
        yield (
            "the last message counts from 0 by itself: a number does not say which source it is from",
            Severity.ERROR,
        )
    counted = [source for source in ("documents", "all_but_last_message") if source in numbered]
    if (
        "last_message" not in rule.sources
        and set(rule.sources) <= numbered
        and rule.sources != counted[: len(rule.sources)]
    ):
        yield (
            "documents are numbered first and the history goes on from there; mellea 0.8.0 counts in the "
            f"order of source, and needs {counted}",
            Severity.WARNING,
        )


def _upstream(context: Context) -> Iterator[Finding | Measurement]:
    from zoo.specs.io_upstream import UPSTREAMS, refusal

    found = contract_of(context)
    for upstream in UPSTREAMS:
        reason = refusal(found.raw, upstream)
        yield Measurement(name=upstream, value=f"refuses it: {reason}" if reason else "loads it")
        if reason:
            yield Finding(
                message=f"{upstream} refuses this file: {reason}",
                severity=Severity.INFO,
                location=in_io(found),
                fix="nothing to do, unless the adapter shall run there",
            )


def _parameters(context: Context) -> Iterator[Finding]:
    from zoo.specs.io import reply_schemas

    found = contract_of(context)
    body = found.spec.parameters.get("extra_body") or {}
    if not isinstance(body, dict):
        yield Finding(message="parameters.extra_body is no mapping",
                      location=in_io(found, ("parameters", "extra_body")), fix="write a mapping")  # fmt: skip
        body = {}
    taken: list[tuple[str, ...]] = [("parameters", name) for name in OWNED if name in found.spec.parameters]
    if "documents" in body:
        taken.append(("parameters", "extra_body", "documents"))
    for path in taken:
        yield Finding(
            message=f"parameters set {path[-1]}, which is the request's own",
            location=in_io(found, path),
            fix="leave it to the caller; what the model is told belongs into instruction",
        )
    schemas = reply_schemas(found.spec)
    for place, schema in schemas[1:]:
        if schema != schemas[0][1]:
            yield Finding(
                message=f"{'.'.join(place)} gives another schema than {'.'.join(schemas[0][0])}",
                location=in_io(found, place),
                fix="give the reply's schema once, as response_format",
            )


_READ = ("ZO020",)
_OWN_CHECKS = (
    Check(code="ZO020", title="io.yaml can be loaded", run=_readable, unless=without_io),
    Check(code="ZO021", title="The transformations fit the reply's schema", run=_fits, requires=_READ,
          unless=without_io),
    Check(code="ZO022", title="Each category has its number", run=_categories, requires=_READ,
          unless=without_io),
    Check(code="ZO025", title="Decoded sentences are numbered", run=_sentences, requires=_READ,
          unless=without_io),
    Check(code="ZO028", title="The upstream executors that load io.yaml are known", run=_upstream,
          requires=_READ, unless=without_io),
    Check(code="ZO030", title="The parameters leave the request alone", run=_parameters, requires=_READ,
          unless=without_io),
)  # fmt: skip
IO_CHECKS = tuple(sorted((*_OWN_CHECKS, *TEMPLATE_CHECKS, *IO_PROMPT_CHECKS), key=lambda check: check.code))
