"""`zoo init` and `zoo diff` as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.releases import write_release
from zoo.models import BaseModel

ZOO = Path(sys.executable).with_name("zoo")
LABEL = b"""\
response_format: {type: string, enum: ["relevant", "irrelevant"]}
transformations:
  - {type: nest, field_name: relevance}
"""


def zoo(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ZOO), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    """Four releases: old; same; more, with a parameter beside; other, with another key."""
    more = LABEL + b"parameters: {max_completion_tokens: 4}\n"
    other = LABEL.replace(b"relevance}", b"context_relevance}")
    for name, version, io in (
        ("old", "1.0.0", LABEL),
        ("same", "1.0.0", LABEL),
        ("more", "1.0.1", more),
        ("other", "1.1.0", other),
        ("major", "2.0.0", other),
    ):
        write_release(tmp_path / name, version=version, files={"io.yaml": io})
    return tmp_path


def test_diff_says_what_changed_and_exits_by_the_version(releases: Path) -> None:
    expected = {
        "same": (0, "contract   identical", ""),
        "more": (0, "contract   compatible: 1 change, none breaking", ""),
        "other": (1, "contract   breaking: 1 of 3 changes", "ZO200"),
        "major": (0, "contract   breaking: 1 of 3 changes", ""),
    }
    for name, (code, line, refusal) in expected.items():
        done = zoo("diff", "old", name, cwd=releases)
        assert (name, done.returncode) == (name, code)
        assert line in done.stdout
        assert (refusal in done.stderr) if refusal else not done.stderr
    assert "2.0.0 or higher" in zoo("diff", "old", "other", cwd=releases).stderr


def test_diff_as_json(releases: Path) -> None:
    done = zoo("diff", "old", "other", "--json", cwd=releases)
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert (document["format"], document["verdict"], document["refused"]["code"]) == (1, "breaking", "ZO200")
    assert document["old"] == {"where": "old", "version": "1.0.0"}
    assert document["changes"][0] == {
        "part": "result", "place": "$.relevance", "breaking": True, "what": "removed", "old": "string",
        "new": None,
    }  # fmt: skip


@pytest.mark.parametrize("old", ["gone", "./gone", ".", "a/b/../c"])
def test_diff_of_nothing_is_usage(releases: Path, old: str) -> None:
    (releases / "empty").mkdir()
    done = zoo("diff", "empty" if old == "." else old, "old", cwd=releases)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "→" in done.stderr


def test_diff_names_the_line_of_a_broken_file(releases: Path) -> None:
    (releases / "same" / "io.yaml").write_text("response_format: 7\n")
    done = zoo("diff", "old", "same", cwd=releases)
    assert done.returncode == 2
    assert "io.yaml:1:1" in done.stderr


def test_init_lists_makes_and_refuses(tmp_path: Path, tiny_base: BaseModel) -> None:
    listed = zoo("init", "--list", cwd=tmp_path)
    assert listed.returncode == 0
    assert len(listed.stdout.splitlines()) == 9
    base = tiny_base.folder
    done = zoo("init", "relevance", "--kind", "context-relevance", "--base", base, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not checked  all that needs weights" in done.stdout
    again = zoo("init", "relevance", "--kind", "context_relevance", "--base", base, cwd=tmp_path)
    assert (again.returncode, "ZO221" in again.stderr) == (2, True)
    rendered = zoo("init", "--render", "relevance", cwd=tmp_path)
    assert (rendered.returncode, rendered.stdout.split()[-2:]) == (0, ["15", "samples"])
    for wrong, said in (
        (("x",), "a kind"),
        (("--kind", "guardian"), "a name"),
        (("x", "--kind", "gardian"), "did you mean guardian"),
        (("x", "--kind", "zzz"), "answerability"),
        (("--render", "."), "no project"),
    ):
        refused = zoo("init", *wrong, cwd=tmp_path)
        assert (wrong, refused.returncode) == (wrong, 2)
        assert said in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["relevance"]


def test_init_as_json_and_dry(tmp_path: Path, tiny_base: BaseModel) -> None:
    arguments = ("init", "relevance", "--kind", "context_relevance", "--base", tiny_base.folder)
    dry = zoo(*arguments, "--dry-run", cwd=tmp_path)
    assert (dry.returncode, dry.stdout.split()[:3]) == (0, ["would", "write", "relevance"])
    planned = json.loads(zoo(*arguments, "--dry-run", "--json", cwd=tmp_path).stdout)
    assert list(tmp_path.iterdir()) == []
    made = json.loads(zoo(*arguments, "--json", cwd=tmp_path).stdout)
    assert (planned.pop("written"), made.pop("written")) == (False, True)
    assert made == planned
    assert made["invocation"]["ids"]
    assert {path.name for path in (tmp_path / "relevance").iterdir()} >= {"io.yaml", "zoo.yaml"}
    again = zoo(*arguments, "--dry-run", cwd=tmp_path)
    assert (again.returncode, "ZO221" in again.stderr) == (2, True)
    (tmp_path / "relevance/data/train.jsonl").write_text("mine\n")
    rendered = json.loads(zoo("init", "--render", "relevance", "--dry-run", "--json", cwd=tmp_path).stdout)
    assert (rendered["samples"], rendered["written"]) == (15, False)
    assert (tmp_path / "relevance/data/train.jsonl").read_text() == "mine\n"
    assert len(json.loads(zoo("init", "--list", "--json", cwd=tmp_path).stdout)["kinds"]) == 9


def test_validate_takes_a_project_before_it_is_trained(tmp_path: Path, tiny_base: BaseModel) -> None:
    import shlex

    made = zoo("init", "relevance", "--kind", "context_relevance", "--base", tiny_base.folder, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    project = tmp_path / "relevance"
    workflow = (project / ".github/workflows/zoo.yml").read_text()
    (command,) = [line.split("run: ")[1] for line in workflow.splitlines() if "zoo validate ." in line]
    arguments = shlex.split(command)[1:]
    checked = zoo(*arguments, cwd=project)
    assert checked.returncode == 0, checked.stdout
    assert "ZO027" in checked.stdout
    io = (project / "io.yaml").read_text()
    (project / "io.yaml").write_text(io + "parameters: {messages: []}\n")
    spoilt = zoo(*arguments, cwd=project)
    assert spoilt.returncode == 1
    assert "ZO030" in spoilt.stdout
    recorded = zoo(*arguments, "--record", cwd=project)
    assert (recorded.returncode, "Traceback" in recorded.stderr) == (2, False)
    assert not (project / "zoo.lock.json").exists()


def test_the_trained_project_passes_its_static_checks(tmp_path: Path, tiny_base: BaseModel) -> None:
    """The commands of the project's README, one after another, with fewer steps."""
    import shlex

    made = zoo("init", "relevance", "--kind", "context_relevance", "--base", tiny_base.folder, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    project = tmp_path / "relevance"
    tried, train = [
        line for line in (project / "README.md").read_text().splitlines() if line.startswith("zoo train")
    ]
    assert zoo(*shlex.split(tried)[1:], cwd=project).returncode == 0
    arguments = shlex.split(train)[1:]
    done = zoo(*arguments, "--steps", 2, "--batch", 2, "-q", cwd=project)
    assert done.returncode == 0, done.stderr
    checked = zoo("validate", "release", "--static", "--base", tiny_base.folder, "--json", cwd=project)
    results = {one["code"]: one for one in json.loads(checked.stdout)["results"]}
    failed = {code for code, one in results.items() if "error" in json.dumps(one["outcome"])}
    assert failed <= {"ZB001"}  # two steps teach nothing
    assert zoo("diff", ".", "release", cwd=project).returncode == 0
