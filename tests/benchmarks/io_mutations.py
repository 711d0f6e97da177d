"""io-2: faults seeded into contracts in order, and what loading, checks, executor and diff say of them.

    python -m tests.benchmarks.io_mutations

What loading refuses is not run. Any other mutant breaks when, in the real executor, a request cannot be
rewritten, the adapter would not act on the rendered prompt, or a reply that is valid against the mutant's own
schema has no result; it changes when a result differs from the original contract's. A mutant that changes
results, breaks nothing and is flagged by nobody is another contract in order (a renamed result, another
number, a schema with another type throughout): no file can be held against itself for that, and it is the
contract diff that must tell it from the original. Those are counted and listed by operator.
"""

import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from tests.benchmarks.evidence import record
from tests.conftest import build_tiny_base
from tests.specs.bench import Verdict, Workbench
from tests.specs.intrinsics import INTRINSICS
from tests.specs.mutants import Mutant, mutants
from tests.validators.releases import build_release
from zoo.models import resolve
from zoo.report import Flagged, NotApplicable, Passed, Severity

LEAST_MUTANTS, LEAST_CONTRACTS = 200, 8


def judged(bench: Workbench) -> list[tuple[Mutant, Verdict]]:
    """Every mutant with its verdict; prints a line each."""
    found = []
    for intrinsic in INTRINSICS:
        for mutant in mutants(intrinsic):
            verdict = bench.verdict(mutant)
            found.append((mutant, verdict))
            said = verdict.refused or " ".join(sorted(verdict.errors or verdict.warnings)) or verdict.diff
            effect = verdict.broken or ("changed" if verdict.changed else "")
            print(f"{mutant.sort:<7}{mutant.id:<78}{said:<16}{effect}", flush=True)
    return found


def alarms(bench: Workbench) -> dict[str, list[str]]:
    """What the checks hold against contracts in order; a check that did not run counts too."""
    found = {}
    for intrinsic in INTRINSICS:
        results = bench.results(bench.place(intrinsic, intrinsic.text, "valid"))
        held = [
            one.code
            for one in results
            if not isinstance(one.outcome, Passed | NotApplicable)
            and not (isinstance(one.outcome, Flagged) and one.outcome.severity is Severity.INFO)
        ]
        if held:
            found[intrinsic.name] = held
    return found


def main() -> None:
    """Judges all mutants and all contracts in order, and records io-2."""
    warnings.simplefilter("ignore")
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="io-mutations-") as name:
        folder = Path(name)
        base = resolve(str(build_tiny_base(folder / "base")))
        bench = Workbench(base=base, release=build_release(base, folder / "release"), folder=folder / "trial")
        false_alarms = alarms(bench)
        rows = judged(bench)
    value = figures(rows) | {
        "false_alarms": false_alarms,
        "contracts": len(INTRINSICS),
        "seconds": round(time.perf_counter() - begin),
    }
    record(
        "io",
        "io-2",
        "mutants of contracts in order that break or change a result in the real executor, and that loading "
        "or a static check flags; contracts in order that are flagged",
        value,
        bar=f"of at least {LEAST_MUTANTS} mutants every one that breaks a result flagged by loading or a "
        "check; one that only changes it flagged there, or by the contract diff where it is a contract in "
        "order itself; 0 false alarms",
        met=not value["broken_and_missed"]
        and not value["checks_that_crashed"]
        and not value["changed_and_seen_by_nobody"]
        and not false_alarms
        and len(rows) >= LEAST_MUTANTS
        and len(INTRINSICS) >= LEAST_CONTRACTS,
        ratio_of="the contracts in order, same requests and replies, same executor",
        command="python -m tests.benchmarks.io_mutations",
        note="other_contracts are mutants in order themselves: they load, every request and every reply "
        "valid against their own schema has a result, and no check can hold anything against them; they are "
        "counted apart, and the contract diff against the original reports each of them",
    )


def figures(rows: list[tuple[Mutant, Verdict]]) -> dict[str, Any]:
    """Counts over all mutants, and those that nobody caught by name."""
    refused = [one for _, one in rows if one.refused]
    broken = [(mutant, one) for mutant, one in rows if one.broken]
    changed = [(mutant, one) for mutant, one in rows if one.changed and not one.broken]
    others = [(mutant, one) for mutant, one in changed if not one.flagged]
    same = [one for _, one in rows if not (one.refused or one.broken or one.changed)]
    return {
        "mutants": len(rows),
        "refused_by_loading": len(refused),
        "refused_by_code": dict(Counter(sorted(one.refused for one in refused))),
        "broken": len(broken),
        "broken_and_flagged": sum(one.flagged for _, one in broken),
        "broken_and_missed": [mutant.id for mutant, one in broken if not one.flagged],
        "flagged_by_check": dict(
            Counter(sorted(code for _, one in rows for code in one.errors | one.warnings))
        ),
        "changed": len(changed),
        "changed_and_flagged": len(changed) - len(others),
        "other_contracts": dict(Counter(f"{mutant.sort}: {mutant.operator}" for mutant, _ in others)),
        "other_contracts_seen_by_the_diff": sum(one.diff in ("breaking", "compatible") for _, one in others),
        "changed_and_seen_by_nobody": [mutant.id for mutant, one in others if one.diff == "identical"],
        "without_effect_on_these_replies": len(same),
        "of_these_flagged": sum(one.flagged for one in same),
        "checks_that_crashed": sorted({code for _, one in rows for code in one.crashed}),
    }


if __name__ == "__main__":
    main()
