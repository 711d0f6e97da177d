"""The gate's policy: what it demands, what may be skipped and until when, what changed since a commit."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.ci.conftest import git
from tests.hub.server import HubServer
from tests.publishing.conftest import REPO, hub  # noqa: F401  # a fixture
from tests.releases import OUTCOMES, failed, report_on, skipped, write_release
from zoo.adapter import AdapterRepo
from zoo.ci.gate import read_policy
from zoo.ci.judgement import Judge
from zoo.ci.published import Published
from zoo.cli import run as run_zoo
from zoo.errors import NotFoundError, SpecError, UndecidedError
from zoo.report import Flagged, NotApplicable, Outcome, Passed, Report, Severity, Skipped
from zoo.specs.lock import BehaviourRecord
from zoo.specs.policy import Policy

TODAY = datetime.date(2026, 11, 23)
DATA = "d" * 64


def behaviour(accuracy: float, *, samples: int = 400, data: str = DATA, **more: Any) -> BehaviourRecord:
    return BehaviourRecord(
        status="measured",
        data_sha256=data,
        samples=samples,
        accuracy={"recovered": accuracy},
        trivial=0.5,
        **more,
    )


def record(folder: Path, measured: BehaviourRecord) -> None:
    path = folder / "zoo.lock.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"behaviour": measured.model_dump(mode="json")})
    )


def none_published(name: str) -> Published:
    raise NotFoundError(f"{name} has no published version")


def judged(
    folder: Path, report: Report, published: Callable[[str], Published] = none_published, **policy: Any
) -> Report:
    judge = Judge(policy=Policy.model_validate(policy), today=TODAY, published=published)
    return judge.judge(report, AdapterRepo.open(folder))


def outcome(report: Report, code: str) -> Outcome:
    return next(result.outcome for result in report.results if result.code == code)


CODE = OUTCOMES[0][0]  # of a check that passes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


def allowance(expires: str, *, adapters: list[str] | None = None) -> dict[str, Any]:
    one = {"code": "ZB001", "reason": "no data is licensed yet", "expires": expires}
    return one | ({"adapters": adapters} if adapters else {})


def test_a_policy_that_demands_nothing_leaves_the_verdict(folder: Path) -> None:
    for outcomes, status in (
        (OUTCOMES, "passed"),
        (failed("ZB001"), "failed"),
        (skipped("ZB001"), "incomplete"),
    ):
        assert judged(folder, report_on(folder, outcomes)).status() == status


@pytest.mark.parametrize(
    ("required", "outcomes", "status"),
    [
        ([CODE], OUTCOMES, "passed"),
        (["ZR009"], OUTCOMES, "failed"),  # did not run at all
        (["ZB001"], skipped("ZB001"), "failed"),
        ([CODE], [(CODE, "x", NotApplicable(reason="no"))], "failed"),
        ([CODE], [(CODE, "x", Passed())], "passed"),
    ],
)
def test_a_required_check_must_have_passed(
    folder: Path, required: list[str], outcomes: Any, status: str
) -> None:
    assert judged(folder, report_on(folder, outcomes), required=required).status() == status


@pytest.mark.parametrize(
    ("expires", "adapters", "status"),
    [
        ("2026-11-23", None, "passed"),  # the last day counts
        ("2026-11-22", None, "failed"),
        ("2027-01-01", ["relev*"], "passed"),
        ("2027-01-01", ["other"], "incomplete"),
    ],
)
def test_an_allowance_holds_for_its_adapters_until_its_day(
    folder: Path, expires: str, adapters: list[str] | None, status: str
) -> None:
    report = report_on(folder, skipped("ZB001"))
    found = judged(folder, report, allowed_skips=[allowance(expires, adapters=adapters)])
    assert found.status() == status


def test_an_allowance_that_ran_out_and_is_not_needed_is_a_remark(folder: Path) -> None:
    found = judged(folder, report_on(folder), allowed_skips=[allowance("2026-01-01")])
    said = outcome(found, "ZG002")
    assert isinstance(said, Flagged)
    assert said.severity is Severity.WARNING
    assert found.status() == "passed"


def test_an_allowance_that_was_renewed_holds(folder: Path) -> None:
    both = [allowance("2026-01-01"), allowance("2027-01-01")]
    assert judged(folder, report_on(folder, skipped("ZB001")), allowed_skips=both).status() == "passed"


def test_of_several_checks_under_one_code_all_must_have_passed(folder: Path) -> None:
    """As engines have them; the order does not matter."""
    for outcomes in ((Skipped(reason="x"), Passed()), (Passed(), Skipped(reason="x"))):
        report = report_on(folder, [*OUTCOMES, *(("ZE002", "an engine", one) for one in outcomes)])
        assert isinstance(outcome(judged(folder, report, required=["ZE002"]), "ZG001"), Flagged)


def test_a_library_may_ignore_what_authors_allow_themselves(folder: Path) -> None:
    from zoo.specs.release import GatePolicy

    own = GatePolicy(allowed_skips={"ZB001": "I do not feel like it"})
    report = report_on(folder, skipped("ZB001"), allowed=own)
    assert judged(folder, report).status() == "passed"
    assert judged(folder, report, author_skips="ignore").status() == "incomplete"


@pytest.mark.parametrize(
    ("bounds", "status"),
    [
        ({"accuracy": 0.9}, "passed"),
        ({"accuracy": 0.901}, "failed"),
        ({"above_trivial": 0.4}, "passed"),
        ({"above_trivial": 0.41}, "failed"),
        ({"samples": 401}, "failed"),
        ({"agreement": 0.97}, "passed"),
        ({"agreement": 0.99}, "failed"),
    ],
)
def test_bounds_on_what_was_measured(folder: Path, bounds: dict[str, float], status: str) -> None:
    record(folder, behaviour(0.9, agreement={"recovered": 0.98}))
    assert judged(folder, report_on(folder), evaluation=bounds).status() == status


@pytest.mark.parametrize(
    ("changed", "bounds"),
    [
        ({"trivial": None}, {"above_trivial": 0.1}),
        ({"agreement": {}}, {"agreement": 0.9}),
        ({"status": "unverified"}, {"accuracy": 0.1}),
    ],
)
def test_a_bound_on_a_figure_that_is_not_recorded_is_not_kept(
    folder: Path, changed: dict[str, Any], bounds: dict[str, float]
) -> None:
    record(folder, behaviour(0.9).model_copy(update=changed))
    found = judged(folder, report_on(folder), evaluation=bounds)
    assert isinstance(outcome(found, "ZG003"), Skipped)
    assert found.status() == "incomplete"


def test_agreement_on_invented_requests_is_no_accuracy(folder: Path) -> None:
    record(folder, behaviour(0.99, agreement={"recovered": 0.99}))
    path = folder / "zoo.lock.json"
    lock = json.loads(path.read_text())
    lock["training"]["settings"]["invented"] = {"sha256": DATA}
    path.write_text(json.dumps(lock))
    assert isinstance(
        outcome(judged(folder, report_on(folder), evaluation={"accuracy": 0.9}), "ZG003"), Skipped
    )
    assert isinstance(
        outcome(judged(folder, report_on(folder), evaluation={"agreement": 0.9}), "ZG003"), Passed
    )


@pytest.mark.parametrize("value", [7.0, -0.1, float("nan"), float("inf")])
def test_a_share_that_is_none_stops_its_adapter_and_no_other(folder: Path, value: float) -> None:
    """It would pass every bound, or end the whole gate where its variance is worked out."""
    path = folder / "zoo.lock.json"
    lock = json.loads(path.read_text())
    lock["behaviour"]["accuracy"]["recovered"] = value
    path.write_text(json.dumps(lock))
    demanded = {"published": "org/{name}"}
    before = Published(where="org/relevance@v1.0.0", behaviour=behaviour(0.9, data="d" * 64))
    found = judged(
        folder, report_on(folder), lambda _: before, regression=demanded, evaluation={"accuracy": 0.1}
    )
    assert found.status() == "incomplete"  # and ZL001 says that the lock is none
    with pytest.raises(SpecError):
        AdapterRepo.open(folder).lock  # noqa: B018


def test_bounds_on_what_nobody_measured_are_not_checked(folder: Path) -> None:
    record(folder, BehaviourRecord())
    found = judged(folder, report_on(folder), evaluation={"accuracy": 0.1})
    assert isinstance(outcome(found, "ZG003"), Skipped)
    assert found.status() == "incomplete"


@pytest.mark.parametrize(
    ("before", "after", "allowed", "kind"),
    [
        (behaviour(0.95), behaviour(0.95), 0.0, Passed),
        (behaviour(0.95), behaviour(0.93), 0.0, Passed),  # within chance of 400 samples
        (behaviour(0.95), behaviour(0.85), 0.0, Flagged),
        (behaviour(0.95), behaviour(0.85), 0.1, Passed),
        (behaviour(1.0, samples=10), behaviour(0.8, samples=10), 0.0, Passed),  # ten samples show little
        (behaviour(1.0, samples=400), behaviour(0.8, samples=400), 0.0, Flagged),
        (behaviour(0.95), behaviour(0.2, data="e" * 64), 0.0, Skipped),
        (behaviour(0.95), BehaviourRecord(), 0.0, Skipped),
        (
            behaviour(0.95).model_copy(update={"data_sha256": None}),
            behaviour(0.95).model_copy(update={"data_sha256": None}),
            0.0,
            Skipped,  # on which data neither of them says
        ),
        (BehaviourRecord(), behaviour(0.2), 0.0, NotApplicable),
    ],
)
def test_a_drop_against_the_published_version(
    folder: Path, before: BehaviourRecord, after: BehaviourRecord, allowed: float, kind: type[Outcome]
) -> None:
    record(folder, after)
    asked: list[str] = []

    def published(repo: str) -> Published:
        asked.append(repo)
        return Published(where=f"{repo}@v1.0.0", behaviour=before)

    demanded = {"published": "org/{name}", "accuracy": allowed}
    found = judged(folder, report_on(folder), published, regression=demanded)
    assert isinstance(outcome(found, "ZG004"), kind)
    assert asked == ["org/relevance"]


def test_nothing_published_is_no_regression_and_no_answer_is_not_checked(folder: Path) -> None:
    def silent(repo: str) -> Published:
        raise UndecidedError("no answer from the Hub")

    demanded = {"published": "org/{name}"}
    assert isinstance(outcome(judged(folder, report_on(folder), regression=demanded), "ZG004"), NotApplicable)
    assert judged(folder, report_on(folder), silent, regression=demanded).status() == "incomplete"


def test_the_published_measurement_is_read_from_the_highest_version(hub: HubServer, folder: Path) -> None:  # noqa: F811
    from zoo import hub as client

    hub.store.create(REPO)
    for version, accuracy in (("v0.9.0", 0.5), ("v0.10.0", 0.75)):
        record(folder, behaviour(accuracy))
        commit = hub.store.commit(REPO, {"zoo.lock.json": (folder / "zoo.lock.json").read_bytes()})
        client.create_tag(REPO, version, commit)
    found = Published.read(REPO)
    assert (found.where, found.behaviour.own_accuracy) == (f"{REPO}@v0.10.0", 0.75)
    hub.store.create("org/empty")
    with pytest.raises(NotFoundError):
        Published.read("org/empty")


def test_of_a_library_the_adapters_own_tags_count(hub: HubServer, folder: Path) -> None:  # noqa: F811
    """And nothing lists the files of the others, which a gate over hundreds would do hundreds of times."""
    from zoo import hub as client

    hub.store.create(REPO)
    for place, tag, accuracy in (
        ("relevance", "relevance-v1.2.0", 0.75),
        ("answer", "answer-v9.0.0", 0.25),
        ("relevance-2", "relevance-2-v5.0.0", 0.5),
    ):
        record(folder, behaviour(accuracy))
        files = {f"{place}/{path.name}": path.read_bytes() for path in folder.iterdir()}
        client.create_tag(REPO, tag, hub.store.commit(REPO, files))
    client.create_tag(REPO, "v7.0.0", hub.store.head(REPO))
    hub.requests.clear()
    found = Published.read(f"{REPO}/relevance")
    assert (found.where, found.behaviour.own_accuracy) == (f"{REPO}/relevance@relevance-v1.2.0", 0.75)
    assert not hub.requests.matching("GET", r".*/tree/.*")
    assert found.open().root.name == "relevance"
    with pytest.raises(NotFoundError, match="no published version"):
        Published.read(f"{REPO}/nothing")
    with pytest.raises(NotFoundError, match="no published version"):
        Published.read("org/nowhere")


@pytest.mark.parametrize(
    "text",
    [
        "required: [R1]",
        "demanded: [ZR001]",
        "allowed_skips: [{code: ZB001, reason: later, expires: 2027-01-01}]",
        "allowed_skips: [{code: ZB001, reason: no data is licensed yet}]",
        "evaluation: {accuracy: 93}",
        "format: 2",
        "a: [",
    ],
)
def test_a_policy_that_is_not_in_order_gates_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "zoo-gate.yaml").write_text(text)
    with pytest.raises(SpecError) as refused:
        read_policy(tmp_path / "zoo-gate.yaml")
    assert refused.value.code == "ZG005"


def test_it_is_said_that_no_policy_was_found(
    library: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another folder than yesterday's the policy would be missed without a word."""
    monkeypatch.chdir(library)
    run_zoo(["gate", ".", "--since", "before", "--quiet"])  # which the hooks and the action give
    assert "no zoo-gate.yaml here" in capsys.readouterr().err
    (library / "zoo-gate.yaml").write_text("format: 1")
    git(library, "add", ".")
    git(library, "commit", "-qm", "policy")
    run_zoo(["gate", ".", "--since", "HEAD"])
    assert "no zoo-gate.yaml" not in capsys.readouterr().err
