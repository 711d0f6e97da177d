"""A release around a contract, and what loading, checks, executor and diff say of the contract's mutants."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema_rs

from tests.conftest import INVOCATION_TEXT
from tests.specs.intrinsics import Intrinsic, alternatives, choice
from tests.specs.mutants import Mutant
from zoo.activation import occurrences
from zoo.adapter import AdapterRepo
from zoo.contracts.compare import changes
from zoo.contracts.contract import read_contract
from zoo.errors import ContractError, SpecError
from zoo.io import conversation, process, rewrite
from zoo.models import BaseModel
from zoo.prompts import Prompter
from zoo.report import Crashed, Flagged, Result, Severity
from zoo.specs.io import IOSpec
from zoo.specs.io_file import parse_io
from zoo.specs.json_shape import Anything, Array, Either, Record, Scalar, Shape, shape_of
from zoo.specs.release import InvocationSpec, Position, ReleaseSpec, SampleRequest, dump_release
from zoo.template_sandbox import render
from zoo.validators.bases import Bases
from zoo.validators.catalog import ALL_CHECKS
from zoo.validators.check import Context, required_by
from zoo.validators.checks.io import IO_CHECKS
from zoo.validators.engine import run_checks

CODES = frozenset(check.code for check in IO_CHECKS)
CHECKS = required_by(ALL_CHECKS, CODES)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is known of one mutant.

    Attributes:
        refused: the code with which loading refuses it; empty when it loads.
        errors: codes of the checks that flag it as an error.
        warnings: codes that warn.
        crashed: checks that broke.
        broken: what raised in the executor, or that the adapter is off; empty when nothing did.
        changed: some result differs from the original's.
        diff: what the contract diff says: breaking, compatible, identical, or unreadable.
    """

    refused: str = ""
    errors: frozenset[str] = frozenset()
    warnings: frozenset[str] = frozenset()
    crashed: frozenset[str] = frozenset()
    broken: str = ""
    changed: bool = False
    diff: str = ""

    @property
    def flagged(self) -> bool:
        return bool(self.refused or self.errors or self.warnings)


@dataclass
class Workbench:
    """Releases in which contracts are tried.

    Attributes:
        base: their base model.
        release: a release in order, without a contract; its files are linked, never written.
        folder: where the trial releases are made.
    """

    base: BaseModel
    release: Path
    folder: Path
    bases: Bases = field(default_factory=Bases)

    def __post_init__(self) -> None:
        self.prompter = Prompter(self.base)

    def place(self, intrinsic: Intrinsic, text: str, name: str) -> Path:
        """A release folder with this contract."""
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("adapter_config.json", "adapter_model.safetensors"):
            target = folder / file
            if not target.exists():
                target.symlink_to(self.release / file)
        position = Position.IN_MESSAGE if intrinsic.in_message else Position.AFTER_PROMPT
        request = intrinsic.request
        spec = ReleaseSpec(
            name="check",
            base=self.base.reference(),
            invocation=InvocationSpec(text=INVOCATION_TEXT, position=position),
            requests=[
                SampleRequest.model_validate(
                    {
                        "messages": request["messages"],
                        "documents": request["extra_body"]["documents"],
                        "arguments": dict(intrinsic.arguments),
                    }
                )
            ],
        )
        (folder / "zoo.yaml").write_text(dump_release(spec))
        (folder / "io.yaml").write_text(text, encoding="utf-8")
        return folder

    def results(self, folder: Path) -> list[Result]:
        repo = AdapterRepo.open(folder)
        context = Context(repo=repo, base=self.base, static=True, bases=self.bases)
        return [result for result in run_checks(context, CHECKS) if result.code in CODES]

    def verdict(self, mutant: Mutant) -> Verdict:
        folder = self.place(mutant.of, mutant.text, "mutant")
        try:
            spec = parse_io(mutant.text.encode(), name="io.yaml").spec
        except SpecError as error:
            return Verdict(refused=error.code)
        results = self.results(folder)
        broken, changed = self.executed(mutant.of, spec)
        return Verdict(
            errors=_codes(results, Severity.ERROR),
            warnings=_codes(results, Severity.WARNING),
            crashed=frozenset(one.code for one in results if isinstance(one.outcome, Crashed)),
            broken=broken,
            changed=changed,
            diff=self.diff(mutant.of, folder),
        )

    def diff(self, intrinsic: Intrinsic, folder: Path) -> str:
        old = read_contract(self.place(intrinsic, intrinsic.text, "original"))
        try:
            found = changes(old, read_contract(folder))
        except SpecError:
            return "unreadable"
        return "breaking" if any(one.breaking for one in found) else "compatible" if found else "identical"

    def executed(self, intrinsic: Intrinsic, spec: IOSpec) -> tuple[str, bool]:
        """What breaks when the executor runs, and whether any result differs.

        It breaks when a request cannot be rewritten, the adapter would not act on the prompt, or a reply
        that is valid against the file's own schema has no result. A reply that the original takes and this
        one does not is a difference.
        """
        original = parse_io(intrinsic.text.encode(), name="io.yaml").spec
        own = spec.reply_schema
        valid = jsonschema_rs.validator_for(dict(own), offline=True).is_valid if own is not None else bool
        try:
            rewritten = rewrite(spec, intrinsic.request, **intrinsic.arguments)
        except ContractError as error:
            return f"rewrite {error.code}", True
        if said := self._called(intrinsic, rewritten):
            return said, True
        changed = False
        for reply in self.replies(intrinsic, original, spec):
            was, now = (
                self._result(intrinsic, original, reply, {}),
                self._result(intrinsic, spec, reply, rewritten),
            )
            if isinstance(now, ContractError):
                if own is None or valid(reply):
                    return f"process {now.code}", True
                changed = changed or not isinstance(was, ContractError)
            elif not isinstance(was, ContractError) and json.dumps(was) != json.dumps(now):
                changed = True
        return "", changed

    def _called(self, intrinsic: Intrinsic, rewritten: Mapping[str, Any]) -> str:
        """Why the adapter would not act on this prompt."""
        messages, documents = conversation(rewritten)
        variables = self.prompter.variables(
            messages, generation_prompt=intrinsic.in_message, documents=documents
        )
        (text,) = render(self.prompter.template, [variables])
        ids = self.prompter.encode(text if intrinsic.in_message else text + INVOCATION_TEXT)
        found = len(occurrences(ids, self.prompter.encode(INVOCATION_TEXT)))
        return "" if found == 1 else f"invoked {found} times"

    def replies(self, intrinsic: Intrinsic, original: IOSpec, spec: IOSpec) -> Iterator[Any]:
        """The intrinsic's replies, and what the mutant's schema allows besides."""
        yield from intrinsic.replies
        if spec.reply_schema != original.reply_schema and spec.reply_schema is not None:
            validator = jsonschema_rs.validator_for(dict(spec.reply_schema), offline=True)
            for value in samples(shape_of(spec.reply_schema)):
                if validator.is_valid(value):
                    yield value

    def _result(self, intrinsic: Intrinsic, spec: IOSpec, reply: Any, rewritten: Mapping[str, Any]) -> Any:
        text = json.dumps(reply, ensure_ascii=False)
        ids = self.prompter.encode(text)
        for name in ("max_completion_tokens", "max_tokens"):
            budget = rewritten.get(name)
            if isinstance(budget, int) and budget < len(ids):
                text = self.prompter.decode(ids[: max(budget, 0)])
        try:
            return process(spec, choice(text, alternatives(spec.reply_schema)), intrinsic.request)
        except ContractError as error:
            return error


def samples(shape: Shape) -> list[Any]:
    """Some values of a shape: every enumerated one, with and without what is optional."""
    match shape:
        case Scalar(values=tuple() as values):
            return list(values[:20])
        case Scalar():
            kinds: dict[str, Sequence[Any]] = {
                "string": ["words"], "integer": [0, 1], "number": [0.5], "boolean": [True, False],
                "null": [None],
            }  # fmt: skip
            return [value for kind in sorted(shape.types) for value in kinds[kind]]
        case Record():
            full = {name: samples(child) for name, child in shape.fields.items()}
            rows = [{name: one[0] for name, one in full.items()}]
            rows += [{**rows[0], name: value} for name, one in full.items() for value in one[1:]]
            return rows + [{k: v for k, v in rows[0].items() if k != name} for name in sorted(shape.optional)]
        case Array():
            inner = samples(shape.item)
            return [*([value] for value in inner), *([value, value] for value in inner[:1]), []]
        case Either():
            return [value for option in shape.options for value in samples(option)]
        case Anything():
            return ["words", 0, {}, []]


def _codes(results: Sequence[Result], severity: Severity) -> frozenset[str]:
    return frozenset(
        one.code
        for one in results
        if isinstance(one.outcome, Flagged)
        and any(finding.severity is severity for finding in one.outcome.findings)
    )
