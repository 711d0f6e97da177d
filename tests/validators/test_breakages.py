"""Every way to break a release is flagged by the code for it, and by no other; a release in order passes."""

import time
from pathlib import Path

import pytest

from tests.validators.breakages import BREAKAGES, TEN
from tests.validators.changes import break_release
from tests.validators.releases import static_results
from zoo.models import BaseModel
from zoo.report import Crashed, Flagged, NotApplicable, Passed, Result, Skipped
from zoo.validators.catalog import STATIC_CHECKS
from zoo.validators.checks.io import IO_CHECKS

# Vectors are shipped by a release that was recorded or published; tests/validators/conformance breaks those.
SHIPPED = {"ZS001", "ZS002"}
# Not every release has an io.yaml; tests/validators/test_io_checks.py breaks those.
CONTRACT = {check.code for check in IO_CHECKS}
# ZT003 looks at other environments, and none was named; the tiny base has no card that states a licence
UNASKED = {"ZT003", "ZM003", *SHIPPED, *CONTRACT}


def flagged(results: list[Result]) -> dict[str, Flagged]:
    return {r.code: r.outcome for r in results if isinstance(r.outcome, Flagged)}


def test_a_release_in_order_passes_every_static_check(release: Path, tiny_base: BaseModel) -> None:
    results = static_results(release, tiny_base, STATIC_CHECKS)
    assert {r.code for r in results if not isinstance(r.outcome, Passed)} == UNASKED
    assert all(isinstance(r.outcome, NotApplicable) for r in results if r.code in UNASKED)
    assert len(results) == len(STATIC_CHECKS)


def test_a_folder_that_zoo_did_not_make_passes_what_applies(release: Path, tiny_base: BaseModel) -> None:
    (release / "zoo.yaml").unlink()
    (release / "zoo.lock.json").unlink()
    results = {r.code: r.outcome for r in static_results(release, tiny_base)}
    foreign = {code for code, outcome in results.items() if isinstance(outcome, NotApplicable)}
    assert foreign == {"ZM001", "ZM002", "ZM004", "ZL001", "ZL002", "ZL003", *UNASKED}
    skipped = {code for code, outcome in results.items() if isinstance(outcome, Skipped)}
    assert skipped == {"ZL004", "ZB001"}  # nobody measured what it answers
    assert all(isinstance(results[code], Passed) for code in results.keys() - foreign - skipped)


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_breakage_is_flagged_by_its_code_and_no_other(
    name: str, release: Path, tiny_base: BaseModel
) -> None:
    breakage = BREAKAGES[name]
    begin = time.perf_counter()
    base = break_release(release, tiny_base, breakage)
    environments = [release.parent / breakage.environment] if breakage.environment else []
    results = static_results(release, base, environments=environments)
    found = flagged(results)
    assert found.keys() == {breakage.code} | breakage.also
    assert found[breakage.code].severity is breakage.severity
    assert not [r for r in results if isinstance(r.outcome, Crashed)]
    assert time.perf_counter() - begin < 10
    for finding in found[breakage.code].findings:
        assert finding.message
        assert not finding.message.endswith(".")
        assert finding.fix


def test_every_static_check_has_a_breakage() -> None:
    broken = {breakage.code for breakage in BREAKAGES.values()}
    assert {check.code for check in STATIC_CHECKS} - broken == SHIPPED | CONTRACT


def test_the_ten_of_the_issue_are_ten() -> None:
    assert len(set(TEN)) == 10
    assert {BREAKAGES[name].code for name in TEN} == {
        "ZC003", "ZI003", "ZI004", "ZI005", "ZW001", "ZW003", "ZI001", "ZW002", "ZF003", "ZC001",
    }  # fmt: skip
