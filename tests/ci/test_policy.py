"""The gate's policy: what it demands, what may be skipped and until when, what changed since a commit."""

import datetime
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hub.server import HubServer
from tests.publishing.conftest import REPO, hub  # noqa: F401  # a fixture
from tests.releases import OUTCOMES, failed, report_on, skipped, write_release
from zoo.adapter import AdapterRepo
from zoo.ci.changed import changed_folders
from zoo.ci.gate import Gate, read_policy
from zoo.ci.judgement import Judge
from zoo.ci.published import Published
from zoo.cli import run as run_zoo
from zoo.errors import NotFoundError, SpecError, UndecidedError, UsageError
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


def git(folder: Path, *arguments: str) -> None:
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A repository of two adapters, committed and tagged `before`."""
    root = tmp_path / "library"
    for name in ("one", "two"):
        (root / f"{name}_lora").mkdir(parents=True)
        (root / f"{name}_lora" / "adapter_config.json").write_text("{}")
    git(tmp_path, "init", "-q", str(root))
    git(root, "add", ".")
    git(root, "commit", "-qm", "first")
    git(root, "tag", "before")
    return root


def test_what_changed_since_a_commit(library: Path) -> None:
    folders = [library / "one_lora", library / "two_lora"]
    assert changed_folders(folders, "before") == []
    (library / "two_lora" / "NOTES.md").write_text("new, and not even added")
    assert changed_folders(folders, "before") == [folders[1]]
    git(library, "add", ".")
    git(library, "commit", "-qm", "second")
    assert changed_folders(folders, "before") == [folders[1]]
    (library / "one_lora" / "adapter_config.json").unlink()
    assert changed_folders(folders, "before") == folders
    git(library, "checkout", "-q", ".")
    (library / "zoo-gate.yaml").write_text("required: []")  # another policy concerns everybody
    assert changed_folders(folders, "HEAD") == folders


@pytest.mark.parametrize("since", ["no-such-tag", "--output=/tmp/x", "f" * 40])
def test_what_is_no_commit_is_refused(library: Path, since: str) -> None:
    with pytest.raises(UsageError):
        changed_folders([library / "one_lora"], since)


def test_outside_a_repository_what_changed_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(UndecidedError):
        changed_folders([tmp_path / "a"], "HEAD")


def test_nothing_changed_is_a_verdict_and_nothing_found_is_none(
    library: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Gate(reports=[]).exit_code == 3
    assert run_zoo(["gate", str(library), "--since", "before"]) == 0
    assert "no adapter changed since before" in capsys.readouterr().out
    assert run_zoo(["gate", str(library), "--since", "before", "--policy", str(library / "none.yaml")]) == 2
