"""`zoo publish` and `zoo card` as a user runs them, in the end with the real checks on a tiny base."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cards.test_card import VECTORS
from tests.conftest import build_tiny_base
from tests.hub.server import HubServer
from tests.real_release import REASON, real_release
from tests.releases import record_evidence, report_on, write_release
from zoo.models import BaseModel, resolve
from zoo.render.json import render_json
from zoo.specs.release import Position

ZOO = Path(sys.executable).with_name("zoo")


def zoo(*arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ZOO), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


# ---------------------------------------------------------------- zoo card


def test_card_prints_the_card_and_says_when_there_is_no_evidence(tmp_path: Path) -> None:
    release = write_release(tmp_path / "release", files=VECTORS)
    done = zoo("card", release, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("---\n")
    assert "It was not checked" in done.stdout
    assert "--record" in done.stderr
    record_evidence(release, report_on(release))
    done = zoo("card", release, "--repo", "org/relevance", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout == (Path(__file__).parents[1] / "golden" / "card.md").read_text()
    assert not (release / "README.md").exists()


def test_card_takes_a_report_and_writes_on_demand(tmp_path: Path) -> None:
    release = write_release(tmp_path / "release")
    (tmp_path / "report.json").write_text(render_json(report_on(release)))
    done = zoo("card", release, "--report", "report.json", "--write", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == ""
    assert "4 passed" in (release / "README.md").read_text()


@pytest.mark.parametrize(
    ("report", "code", "word"),
    [("nope.json", 2, "nope.json"), ("bad.json", 2, "not JSON"), ("list.json", 2, "not a report")],
)
def test_card_says_what_is_wrong_with_a_report(tmp_path: Path, report: str, code: int, word: str) -> None:
    release = write_release(tmp_path / "release")
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    done = zoo("card", release, "--report", report, cwd=tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)
    assert word in done.stderr


# ---------------------------------------------------------------- zoo publish, with the real checks


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return resolve(str(build_tiny_base(tmp_path_factory.mktemp("publish") / "tiny")))


@pytest.fixture
def served(base: BaseModel) -> Iterator[tuple[HubServer, str]]:
    """A Hub that has the tiny base, and the base's commit."""
    with HubServer() as hub:
        hub.store.create("tests/tiny-llama")
        files = {path.name: path.read_bytes() for path in base.folder.iterdir()}
        yield hub, hub.store.commit("tests/tiny-llama", dict(files))


def snippet(card: str) -> str:
    found = re.search(r"```python\n(.*?)\n```", card, re.DOTALL)
    assert found
    return found.group(1)


def run_snippet(code: str, cwd: Path, **environment: str) -> str:
    probe = "\nimport json\nprint('IDS', json.dumps([ids[0].tolist(), answer[0].tolist(), start]))"
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code + probe],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("IDS ")[2]


def generated(base: BaseModel, folder: Path, ids: list[int], *, length: int, adapted: bool) -> list[int]:
    """Greedy decoding without any cache hand-over: one full forward pass a token."""
    import torch

    from zoo.models import load_model
    from zoo.peft_model import attach, forward

    model = attach(load_model(base), folder)
    invocation = json.loads((folder / "adapter_config.json").read_text())["alora_invocation_tokens"]
    start = max(i for i in range(len(ids)) if ids[i : i + len(invocation)] == invocation)
    while len(ids) < length:
        row = torch.tensor([ids])
        with torch.no_grad():
            if adapted:
                logits = forward(model, row, offsets=[len(ids) - start])
            else:
                with model.disable_adapter():
                    logits = model(input_ids=row).logits
        ids = [*ids, int(logits[0, -1].argmax())]
    return ids


@pytest.mark.slow
@pytest.mark.parametrize("position", list(Position))
def test_a_release_goes_all_the_way_and_its_card_runs(
    base: BaseModel, served: tuple[HubServer, str], tmp_path: Path, position: Position
) -> None:
    hub, commit = served
    folder = real_release(base, tmp_path / "release", position=position, commit=commit, seed=2)
    environment = hub.environment(tmp_path / "home", xet=False)
    done = zoo("publish", folder, "--repo", "org/relevance", "--json", "--quiet", cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["outcome"] == "published"
    assert hub.store.tags("org/relevance") == {"v0.1.0": result["commit"]}
    content = hub.store.contents("org/relevance", "v0.1.0")
    card = content["README.md"].decode()
    assert f"The author allows this: {REASON}" in card

    said = json.loads(run_snippet(snippet(card), tmp_path, **environment))
    ids, answer, start = said
    assert 0 < start < len(ids) < len(answer)
    assert answer == generated(base, folder, ids, length=len(answer), adapted=True)
    assert answer != generated(base, folder, ids, length=len(answer), adapted=False)


@pytest.mark.slow
def test_a_pull_request_is_merged_only_if_the_policy_lets_it(
    base: BaseModel, served: tuple[HubServer, str], tmp_path: Path
) -> None:
    hub, commit = served
    repo = "org/reviewed"
    folder = real_release(base, tmp_path / "release", commit=commit, seed=3)
    environment = hub.environment(tmp_path / "home", xet=False)
    ask = ["publish", folder, "--repo", repo, "--pr", "--quiet"]
    policy = tmp_path / "zoo-gate.yaml"  # found in the working folder, as by zoo gate
    policy.write_text("format: 1\nlicenses: [mit]\n")
    done = zoo(*ask, cwd=tmp_path, **environment)
    assert done.returncode == 1, done.stderr
    assert "ZH012" in done.stderr
    pull_request = hub.store.repository(repo).discussion("1")
    assert "ZG010" in str(pull_request.events)
    assert hub.store.tags(repo) == {}
    policy.write_text("format: 1\nlicenses: [apache-2.0]\n")
    done = zoo(*ask, "--policy", policy, cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert [*hub.store.tags(repo)] == ["v0.1.0"]
    done = zoo("publish", folder, "--repo", repo, "--policy", policy, cwd=tmp_path, **environment)
    assert done.returncode == 2
    assert "add --pr" in done.stderr


@pytest.mark.slow
def test_a_broken_adapter_is_not_published_and_a_local_one_is(
    base: BaseModel, served: tuple[HubServer, str], tmp_path: Path
) -> None:
    hub, commit = served
    folder = real_release(base, tmp_path / "release", commit=commit)
    environment = hub.environment(tmp_path / "home", xet=False)
    done = zoo("publish", folder, "--to", "out", cwd=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert "read back, every sha256 equal" in done.stdout
    assert "add" in done.stderr  # the plan
    before = (tmp_path / "out" / "zoo.lock.json").read_bytes()
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"alora_invocation_tokens": None}))
    done = zoo("publish", folder, "--to", "out", cwd=tmp_path, **environment)
    assert done.returncode == 1
    assert "ZH001" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "zoo.lock.json").read_bytes() == before


def test_a_missing_login_is_said_before_anything_is_checked(tmp_path: Path) -> None:
    with HubServer() as hub:
        release = write_release(tmp_path / "release")
        environment = hub.environment(tmp_path / "home", token="")
        done = zoo("publish", release, "--repo", "org/relevance", cwd=tmp_path, **environment)
    assert done.returncode == 3
    assert "hf auth login" in done.stderr
    assert "Traceback" not in done.stderr
