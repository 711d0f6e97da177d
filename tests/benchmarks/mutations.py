"""conformance-1: the mutation table, and the correct adapters beside it.

    python -m tests.benchmarks.mutations

Each defect is seeded into a release in order on a tiny Llama (an adapter's into a copy of its files, an
engine's or a cache's into PEFT while the suite runs), and every check of `zoo validate` runs on it.
A defect counts as caught when the codes that the table names for it flag it as an error and no check breaks
over it; that a check was skipped catches nothing. The correct adapters differ in architecture, rank, targets,
scale and dtype: an error, a crash or a skipped check is a false alarm there.
"""

import logging
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from tests.benchmarks.evidence import record
from tests.conftest import build_tiny_base
from tests.validators.conformance.mutations.correct_adapters import ADAPTERS, Bases, alarmed
from tests.validators.conformance.mutations.equivalent import EQUIVALENT
from tests.validators.conformance.mutations.mutant import CONSTRUCTED
from tests.validators.conformance.mutations.run import MUTANTS, Workshop, caught
from zoo.models import resolve
from zoo.validators.catalog import STATIC_CHECKS

LEAST_MUTANTS, LEAST_CORRECT = 60, 12


def mutants(folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Codes by mutant, and the ids of the mutants that were not caught; prints a line each."""
    workshop = Workshop(base=resolve(str(build_tiny_base(folder / "base"))), folder=folder)
    table, survivors = {}, []
    for mutant in MUTANTS:
        found = workshop.verdict(mutant)
        table[mutant.id] = sorted(found.errors)
        if not caught(mutant, found):
            survivors.append(mutant.id)
        mark = "survives" if mutant.id in survivors else " ".join(table[mutant.id])
        print(f"{mutant.family:<9}{mutant.id:<34}{mark:<60}{mutant.source}", flush=True)
    return table, survivors


def correct(folder: Path) -> dict[str, Any]:
    """What the suite holds against each correct adapter; prints a line each."""
    bases = Bases(folder=folder)
    alarms = {}
    for one in ADAPTERS:
        found = bases.verdict(one)
        if held := alarmed(found):
            alarms[one.id] = sorted(held)
        print(f"correct  {one.id:<70}{found.status} {alarms.get(one.id, '')}", flush=True)
    return alarms


def main() -> None:
    """Runs the table, prints it, and records conformance-1."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="mutations-") as name:
        folder = Path(name)
        table, survivors = mutants(folder)
        alarms = correct(folder)
    static = {check.code for check in STATIC_CHECKS}
    record(
        "conformance",
        "conformance-1",
        "defects seeded into adapters, engines and caches that the checks of zoo validate, on a tiny Llama, "
        "catch with the code named for each; correct adapters on which a check fails, breaks or is skipped",
        {
            "mutants": len(MUTANTS),
            "caught": len(MUTANTS) - len(survivors),
            "survivors": survivors,
            "by_family": dict(Counter(mutant.family for mutant in MUTANTS)),
            "seen_elsewhere": sum(mutant.source != CONSTRUCTED for mutant in MUTANTS),
            "beyond_the_static_checks": sum(not static & set(codes) for codes in table.values()),
            "equivalent_and_left_out": len(EQUIVALENT),
            "false_alarms": alarms,
            "correct_adapters": len(ADAPTERS),
            "families": sorted({one.family for one in ADAPTERS}),
            "seconds": round(time.perf_counter() - begin),
            "table": table,
        },
        bar=f"100 % of at least {LEAST_MUTANTS} caught, 0 false alarms over at least {LEAST_CORRECT}",
        met=not survivors and not alarms and len(MUTANTS) >= LEAST_MUTANTS and len(ADAPTERS) >= LEAST_CORRECT,
        ratio_of="the same releases without a defect, and the correct adapters, same suite",
        command="python -m tests.benchmarks.mutations",
    )


if __name__ == "__main__":
    main()
