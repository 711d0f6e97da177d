import re
from pathlib import Path

import pytest
import yaml

from tests.source_tree import ROOT

WORKFLOWS = [
    *sorted((ROOT / ".github" / "workflows").glob("*.yml")),
    *(ROOT / "ci" / "workflows" / f"{name}.yml" for name in ("library", "hub")),
]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_workflow_takes_no_rights_it_does_not_need(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["permissions"] == {"contents": "read"}
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_commit_with_its_version_beside_it(path: Path) -> None:
    uses = [line for line in path.read_text().splitlines() if re.search(r"\buses:", line)]
    assert uses
    for line in uses:
        if "uses: ./.github/actions/zoo-gate" in line:
            continue  # written beside it by `zoo ci`
        assert re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_there_is_a_workflow_and_it_runs_what_contributors_run() -> None:
    assert any("make test" in path.read_text() for path in WORKFLOWS)
    assert "make --no-print-directory test" in (ROOT / ".ci" / "run").read_text()
