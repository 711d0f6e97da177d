"""Runs the whole suite on a release into which one defect was seeded, and says what caught it."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.validators.changes import break_release
from tests.validators.conformance.mutations.adapter_defects import ADAPTERS
from tests.validators.conformance.mutations.cache_defects import CACHES
from tests.validators.conformance.mutations.engine_numbers import NUMBERS
from tests.validators.conformance.mutations.engine_starts import STARTS
from tests.validators.conformance.mutations.engine_switches import SWITCHES
from tests.validators.conformance.mutations.mutant import Mutant
from tests.validators.releases import build_release
from zoo.models import BaseModel, Dtype
from zoo.report import Crashed, Flagged, NotApplicable, Passed, Report, Severity, Skipped
from zoo.validators.check import Check
from zoo.validators.conformance.use_checks import CHECKS as USE_CHECKS
from zoo.validators.engine import run_checks
from zoo.validators.validate import Settings, Validation

MUTANTS: tuple[Mutant, ...] = (*ADAPTERS, *STARTS, *NUMBERS, *SWITCHES, *CACHES)
PROMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the suite said of one release."""

    status: str
    errors: dict[str, list[str]]
    skipped: dict[str, str]
    crashed: dict[str, str]
    passed: frozenset[str]

    @classmethod
    def of(cls, report: Report) -> "Verdict":
        errors: dict[str, list[str]] = {}
        skipped, crashed, passed = {}, {}, set()
        for result in report.results:
            match result.outcome:
                case Flagged(findings=findings):
                    said = [one.message for one in findings if one.severity is Severity.ERROR]
                    errors |= {result.code: said} if said else {}
                case Skipped(reason=reason):
                    skipped[result.code] = reason
                case Crashed(error=error):
                    crashed[result.code] = error
                case Passed():
                    passed.add(result.code)
                case NotApplicable():
                    pass
        return cls(
            status=report.status(), errors=errors, skipped=skipped, crashed=crashed, passed=frozenset(passed)
        )


@dataclass(kw_only=True)
class Workshop:
    """Releases in order on one tiny base, each made once, and copies of them to break."""

    base: BaseModel
    folder: Path
    seed: int = 0
    _made: dict[str, Path] = field(default_factory=dict)

    def release(self, settings: Mapping[str, Any]) -> Path:
        """The release in order with some settings of `LoraConfig`; not to be changed."""
        key = str(sorted(settings.items()))
        if key not in self._made:
            folder = self.folder / f"release-{len(self._made)}" / "check"
            folder.parent.mkdir()
            torch.manual_seed(self.seed)  # PEFT draws A
            self._made[key] = build_release(self.base, folder, **settings)
        return self._made[key]

    def verdict(self, mutant: Mutant) -> Verdict:
        """Seeds the defect, runs the suite and takes everything away again."""
        # the breakages put what they need beside the release
        folder = Path(shutil.copytree(self.release(mutant.release), self.folder / mutant.id / "check"))
        base = self.base
        try:
            if mutant.breakage:
                base = break_release(folder, base, mutant.breakage)
            with mutant.engine():
                return verdict(folder, base)
        finally:
            shutil.rmtree(folder.parent)


def verdict(folder: Path, base: BaseModel, *, dtype: Dtype = "float32") -> Verdict:
    """What `zoo validate` says of a folder, by every check there is."""
    settings = Settings(base=str(base.folder), prompts=PROMPTS, dtype=dtype)
    validation = Validation.open(folder, settings)
    try:
        return Verdict.of(validation.report(list(run_checks(validation.context, suite(validation)))))
    finally:
        validation.close()


def suite(validation: Validation) -> tuple[Check, ...]:
    """Every check there is."""
    known = {check.code for check in validation.checks}
    return (*validation.checks, *(check for check in USE_CHECKS if check.code not in known))


def caught(mutant: Mutant, found: Verdict) -> bool:
    """Whether every code that has to catch a mutant did, without a check that breaks over it."""
    return found.status == "failed" and mutant.codes <= found.errors.keys()
