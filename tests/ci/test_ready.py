"""The action, the workflows and the hooks that we ship: their shell runs here for real."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ci.composite import Ended, run_action
from tests.hub.server import HubServer
from tests.real_release import real_release
from tests.source_tree import ROOT
from zoo import __version__
from zoo.ci.ready import KINDS, PLACES, Ready
from zoo.cli import run as run_zoo
from zoo.errors import UsageError
from zoo.models import BaseModel

ACTION = ROOT / "ci" / "action.yml"
FORMATS = ("json", "sarif", "xml", "md", "html")


@pytest.fixture
def path_with_zoo(tmp_path: Path) -> dict[str, str]:
    """An environment in which `zoo`, `hf` and `python` are those of the tests."""
    return {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def gate(workspace: Path, environment: dict[str, str], **given: str) -> Ended:
    return run_action(ACTION, {"install": "false", **given}, workspace=workspace, environment=environment)


def test_the_action_accepts_and_writes_every_format(
    tiny_base: BaseModel, tmp_path: Path, path_with_zoo: dict[str, str]
) -> None:
    real_release(tiny_base, tmp_path / "adapters" / "a release")
    found = gate(tmp_path, path_with_zoo, paths="adapters\n", base=str(tiny_base.folder))
    assert found.status == 0, found.stderr
    assert found.outputs == {"verdict": "passed", "exit-code": "0", "reports": "zoo-reports"}
    assert {path.suffix[1:] for path in (tmp_path / "zoo-reports").iterdir()} == set(FORMATS)
    assert "## zoo validate" in found.summary


def test_what_is_not_decided_is_not_green(
    tiny_base: BaseModel, tmp_path: Path, path_with_zoo: dict[str, str]
) -> None:
    real_release(tiny_base, tmp_path / "adapters" / "one")
    policy = tmp_path / "strict.yaml"
    policy.write_text("author_skips: ignore\n")  # it allows itself ZB001
    found = gate(tmp_path, path_with_zoo, paths="adapters", base=str(tiny_base.folder), policy="strict.yaml")
    assert (found.status, found.outputs["verdict"]) == (3, "undecided")


def test_static_checks_alone_find_what_is_wrong(
    tiny_base: BaseModel, tmp_path: Path, path_with_zoo: dict[str, str]
) -> None:
    for name in ("one", "two"):
        real_release(tiny_base, tmp_path / name / "release")
    base = str(tiny_base.folder)
    found = gate(tmp_path, path_with_zoo, paths="one\ntwo", static="true", base=base)
    assert (found.status, found.outputs["verdict"]) == (0, "passed"), found.stdout
    (tmp_path / "two" / "release" / "evil.py").write_text("print()")
    found = gate(tmp_path, path_with_zoo, paths="one\ntwo", static="true", base=base)
    assert (found.status, found.outputs["verdict"]) == (1, "failed")
    assert gate(tmp_path, path_with_zoo, paths="none").outputs["verdict"] == "usage"


@pytest.mark.parametrize(
    ("given", "installed"),
    [
        ({}, f"{ROOT / 'ci'}/.."),
        ({"extras": "embedded"}, f"{ROOT / 'ci'}/..[embedded]"),
        ({"version": "1.2.3", "extras": "sign,ray"}, "alora-zoo[sign,ray]==1.2.3"),
    ],
)
def test_what_the_action_installs(given: dict[str, str], installed: str, tmp_path: Path) -> None:
    """pip is not run: what it would be told is."""
    stubs = tmp_path / "bin"
    stubs.mkdir()
    for name in ("python", "zoo"):
        (stubs / name).write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@" >> "$TOLD"\n')
        (stubs / name).chmod(0o755)
    told = tmp_path / "told"
    environment = {"PATH": f"{stubs}{os.pathsep}{os.environ['PATH']}", "TOLD": str(told)}
    done = run_action(ACTION, given, workspace=tmp_path, environment=environment)
    assert done.status == 0
    assert told.read_text().split("zoo\n")[0].split("\n")[:-1] == [
        "python",
        "-m",
        "pip",
        "install",
        installed,
    ]


def test_values_with_shell_in_them_stay_values(tmp_path: Path, path_with_zoo: dict[str, str]) -> None:
    """A branch may be called what it likes."""
    found = gate(
        tmp_path, path_with_zoo, paths="$(touch pwned)", since="$(touch pwned)", base="`touch pwned`"
    )
    assert found.outputs["verdict"] == "usage"
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_written_with_their_version_and_nothing_is_overwritten(kind: Any, tmp_path: Path) -> None:
    assert run_zoo(["ci", kind, str(tmp_path)]) == 0
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == set(PLACES[kind])
    assert run_zoo(["ci", kind, str(tmp_path)]) == 0  # the same again
    first = tmp_path / next(iter(PLACES[kind]))
    text = first.read_text()
    if kind != "hooks":
        assert f'"{__version__}"' in text
        assert 'ersion: ""' not in text
    first.write_text(text + "# mine\n")
    with pytest.raises(UsageError):
        Ready.of(kind).write(tmp_path)
    assert first.read_text().endswith("# mine\n")


def test_workflows_give_the_action_only_what_it_takes(tmp_path: Path) -> None:
    Ready.of("library").write(tmp_path)
    workflow = yaml.safe_load((tmp_path / ".github/workflows/adapters.yml").read_text())
    action = yaml.safe_load((tmp_path / ".github/actions/zoo-gate/action.yml").read_text())
    given = [
        step["with"]
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if step["uses"] == "./.github/actions/zoo-gate"
    ]
    assert len(given) == 2
    assert set().union(*given) <= set(action["inputs"])


@pytest.mark.parametrize("revision", ["main", "refs/pr/1"])
def test_a_repository_on_the_hub_is_gated(
    tiny_base: BaseModel, tmp_path: Path, path_with_zoo: dict[str, str], revision: str
) -> None:
    """With the real client, from the script that workflow and webhook run."""
    release = real_release(tiny_base, tmp_path / "release")
    files = {path.name: path.read_bytes() for path in release.iterdir()}
    with HubServer() as hub:
        hub.store.create("org/relevance")
        oid = hub.store.commit("org/relevance", files)
        hub.store.repository("org/relevance").refs["refs/pr/1"] = oid
        payload = {"event": {"action": "update"}, "repo": {"name": "org/relevance", "headSha": oid}}
        if revision != "main":
            payload["discussion"] = {"num": 1, "isPullRequest": True}  # type: ignore[dict-item]
        done = subprocess.run(
            ["bash", str(ROOT / "ci" / "workflows" / "zoo-hub.sh")],
            cwd=tmp_path,
            env={
                **os.environ,
                **path_with_zoo,
                **hub.environment(tmp_path / "home", xet=False),
                "WEBHOOK_REPO_ID": "org/relevance",
                "WEBHOOK_PAYLOAD": json.dumps(payload),
                "ZOO_BASE": str(tiny_base.folder),
            },
            capture_output=True,
            text=True,
        )
    # what stands on main without card and bill is no published release; a proposal may be without
    assert done.returncode == (1 if revision == "main" else 0), done.stdout + done.stderr
    assert f"at {oid if revision == 'main' else revision}" in done.stderr
    assert (tmp_path / "zoo-reports" / "report.html").is_file()
    subject = json.loads((tmp_path / "zoo-reports" / "report.json").read_text())
    assert subject["status"] == "passed"


def test_a_script_without_a_repository_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "ci" / "workflows" / "zoo-hub.sh")],
        cwd=tmp_path,
        env={name: text for name, text in os.environ.items() if not name.startswith(("ZOO_", "WEBHOOK_"))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "ZOO_REPO" in done.stderr


def hooks() -> dict[str, dict[str, Any]]:
    shipped = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    return {hook["id"]: hook for hook in shipped}


def test_hooks_of_both_kinds_do_the_same() -> None:
    local = yaml.safe_load((ROOT / "ci" / "workflows" / "hooks.yml").read_text())["repos"][0]["hooks"]
    for hook in local:
        known = hooks()[hook["id"]]
        assert {k: v for k, v in hook.items() if k not in ("language", "name")} == {
            k: v for k, v in known.items() if k not in ("language", "name", "description")
        }
    assert len(local) == len(hooks())


def test_the_static_hook_stops_what_is_wrong(
    tiny_base: BaseModel, tmp_path: Path, path_with_zoo: dict[str, str]
) -> None:
    release = real_release(tiny_base, tmp_path / "adapters" / "one")
    entry = [*hooks()["zoo-static"]["entry"].split(), "--base", str(tiny_base.folder)]
    environment = {**os.environ, **path_with_zoo}
    assert subprocess.run(entry, cwd=tmp_path, env=environment, capture_output=True).returncode == 0
    (release / "optimizer.pt").write_bytes(b"x")
    assert subprocess.run(entry, cwd=tmp_path, env=environment, capture_output=True).returncode == 1
    looked_at = re.compile(hooks()["zoo-static"]["files"])
    assert looked_at.search("adapters/one/zoo.yaml")
    assert not looked_at.search("adapters/one/myzoo.yaml")


@pytest.mark.parametrize(
    ("there", "given"),
    [({"PRE_COMMIT_FROM_REF": "4b825dc^"}, ["--since", "4b825dc^"]), ({}, [])],
)
def test_the_gate_hook_compares_with_what_the_other_side_has(
    there: dict[str, str], given: list[str], tmp_path: Path
) -> None:
    """What is pushed is committed by then: nothing would differ from HEAD, and the gate be green."""
    stub = tmp_path / "zoo"
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    environment = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", **there}
    entry = [*shlex.split(hooks()["zoo-gate"]["entry"]), "--base", "a base"]
    done = subprocess.run(entry, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["gate", "--quiet", ".", *given, "--base", "a base"]


def test_what_cannot_be_downloaded_is_undecided(tmp_path: Path, path_with_zoo: dict[str, str]) -> None:
    with HubServer() as hub:
        done = subprocess.run(
            ["bash", str(ROOT / "ci" / "workflows" / "zoo-hub.sh")],
            cwd=tmp_path,
            env={
                **os.environ,
                **path_with_zoo,
                **hub.environment(tmp_path / "home", xet=False),
                "ZOO_REPO": "org/nothing",
            },
            capture_output=True,
            text=True,
        )
    assert done.returncode == 3
    assert "nothing was checked" in done.stderr
