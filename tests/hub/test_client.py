"""The unmodified client, today's and an older one, does everything this project asks of a Hub."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hub.client_exercise import release
from tests.hub.server import HubServer

ROOT = Path(__file__).resolve().parents[2]
EXERCISE = Path(__file__).with_name("client_exercise.py")
FILES = [
    ".gitattributes",
    "README.md",
    "adapter_config.json",
    "adapter_model.safetensors",
    "nested/notes.txt",
]


def older_client() -> Path:
    """The interpreter of the environment that has the 1.x client."""
    python = Path(os.environ.get("ZOO_HUB1_PYTHON", ROOT / ".venv-hub1" / "bin" / "python"))
    if not python.exists():
        pytest.fail(f"{python} is missing: run `make .venv-hub1`, or set ZOO_HUB1_PYTHON", pytrace=False)
    return python


@pytest.fixture(scope="module", params=["2.x xet", "2.x lfs", "1.x xet", "1.x lfs"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one client saw, plus what the Hub has and was asked for in the end."""
    version, transfer = request.param.split()
    work = tmp_path_factory.mktemp("client")
    python = Path(sys.executable) if version == "2.x" else older_client()
    with HubServer() as hub:
        environment = os.environ | hub.environment(work / "home", xet=transfer == "xet")
        done = subprocess.run(
            [python, EXERCISE, work], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        tagged = hub.store.contents("org/name", "v1.0.0")
        paths = [f"{one.method} {one.path}" for one in hub.requests]
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen | {"param": request.param, "tagged": tagged, "requests": paths}


def test_it_is_the_client_that_was_meant(run: dict[str, Any]) -> None:
    assert run["version"].startswith(run["param"][:2])


def test_account(run: dict[str, Any]) -> None:
    assert run["account"] == {
        "whoami": "tester",
        "wrong token": ["HfHubHTTPError", 401],
        "write without token": ["HfHubHTTPError", 401],
    }


def test_repository(run: dict[str, Any]) -> None:
    assert run["repository"] == {
        "url": "org/name",
        "exist_ok": "org/name",
        "again": ["HfHubHTTPError", 409],
        "exists": [True, False],
        "files": [".gitattributes"],
    }


def test_publishing(run: dict[str, Any]) -> None:
    assert run["publishing"] == {
        "head moved": True,
        "no-op returns the head": True,
        "stale parent": ["HfHubHTTPError", 412],
        "bad card": ["ValueError", None],
        "commits": ["Release 1", "initial commit"],
    }


def test_reading(run: dict[str, Any]) -> None:
    import hashlib

    weights = release(1)["adapter_model.safetensors"]
    assert run["reading"] == {
        "files": FILES,
        "folders": ["nested"],
        "top level": [*FILES[:-1], "nested"],
        "weights sha256": hashlib.sha256(weights).hexdigest(),
        "weights by xet": run["param"].endswith("xet"),
        "weights size": len(weights),
        "tags": ["base_model:org/base", "license:apache-2.0", "peft"],
        "paths": {"nested": "Release 1", "README.md": "Release 1"},
        "tensors": {"weight": [40_000]},
        "card": ["apache-2.0", "org/base", "# A model"],
        "file exists": [True, False],
    }


def test_tags_and_branches(run: dict[str, Any]) -> None:
    assert run["names"] == {
        "duplicate tag": ["HfHubHTTPError", 409],
        "tag did not move": True,
        "tag of nothing": ["RevisionNotFoundError", 404],
        "deleted tag": ["RevisionNotFoundError", 404],
        "duplicate branch": ["HfHubHTTPError", 409],
        "delete main": ["HfHubHTTPError", 403],
        "resolved": True,
        "refs": ["refs/heads/main", "refs/heads/next", "refs/tags/v1.0.0"],
    }


def test_pull_request(run: dict[str, Any]) -> None:
    assert run["pull request"] == {
        "revision": "refs/pr/1",
        "read at the pull request": "other notes\n",
        "main before": FILES,
        "status": ["open", "merged"],
        "conflicts": [],
        "diff has": [True, True],
        "events": ["commit", "commit", "comment", "comment", "status-change"],
        "comments": ["All checks passed", "Merging"],
        "merge commit is the head": True,
        "main after": [
            *(path for path in FILES[:-1] if path != "adapter_config.json"),
            "more.txt",
            FILES[-1],
        ],
        "refs": ["refs/pr/1"],
    }


def test_discussion(run: dict[str, Any]) -> None:
    assert run["discussion"] == {
        "draft": ["draft", "refs/pr/3"],
        "merge a draft": ["BadRequestError", 400],
        "all": [[3, "A draft", "draft"], [2, "A better question", "closed"], [1, "Propose", "merged"]],
        "closed": [2],
        "missing": ["HfHubHTTPError", 404],
    }


def test_folders(run: dict[str, Any]) -> None:
    assert run["folders"] == {
        "on main": [f"copy/{path}" for path in FILES[1:]],
        "proposed": [f"proposed/{path}" for path in FILES[1:]],
    }


def test_downloading(run: dict[str, Any]) -> None:
    assert run["downloading"] == {
        "as published": True,
        "verified": [len(FILES), 0, 0],
        "tampered": ["nested/notes.txt"],
        "one commit": True,
    }


def test_what_is_absent(run: dict[str, Any]) -> None:
    assert run["absent"] == {
        "repository": ["RepositoryNotFoundError", 404],
        "repository, no token": ["RepositoryNotFoundError", 401],
        "private, no token": ["RepositoryNotFoundError", 401],
        "private, token": True,
        "revision": ["RevisionNotFoundError", 404],
        "file": ["RemoteEntryNotFoundError", 404],
        "commit": ["RepositoryNotFoundError", 404],
        "deleted file": ["RemoteEntryNotFoundError", 404],
        "bad path": ["HfHubHTTPError", 422],
    }


def test_deletion(run: dict[str, Any]) -> None:
    assert run["deletion"] == {
        "left": ["org/name"],
        "again": ["RepositoryNotFoundError", 404],
        "missing_ok": ["nothing was raised", None],
    }


def test_the_hub_has_what_was_published(run: dict[str, Any]) -> None:
    assert {path: run["tagged"][path] for path in run["tagged"] if path != ".gitattributes"} == release(1)


def test_large_files_went_the_way_that_was_meant(run: dict[str, Any]) -> None:
    by_xet = any("xet-write-token" in one for one in run["requests"])
    by_lfs = any(one.startswith("PUT /lfs-upload/") for one in run["requests"])
    assert [by_xet, by_lfs] == ([True, False] if run["param"].endswith("xet") else [False, True])


def test_the_older_client_is_demanded_not_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZOO_HUB1_PYTHON", str(tmp_path / "absent"))
    with pytest.raises(pytest.fail.Exception, match=r"make \.venv-hub1"):
        older_client()
