"""The whole of a gate by Jobs, but for the real service: command, client, container's program, model."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ci.fleet.library import build_library
from tests.hub.job import BrokenError, Job
from tests.hub.server import HubServer
from tests.hub.this_process import connect
from zoo.ci.fleet import on_jobs
from zoo.ci.fleet.shard import LIBRARY
from zoo.cli import run
from zoo.hub import jobs
from zoo.models import BaseModel


def upload(hub: HubServer, repo: str, folder: Path) -> None:
    hub.store.create(repo)
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    hub.store.commit(repo, dict(files))


def container(hub: HubServer, folder: Path) -> Any:
    """A machine that does what a container would: mounts the repository and runs the command in it."""

    def machine(job: Job) -> Iterator[str]:
        (volume,) = job.spec["volumes"]
        mounted = folder / job.id
        for path, content in hub.store.contents(volume["source"], volume["revision"]).items():
            (mounted / path).parent.mkdir(parents=True, exist_ok=True)
            (mounted / path).write_bytes(content)
        *uv, python, module, name = job.spec["command"]
        assert (uv[:3], python, module) == (["uv", "run", "--with"], "python", "-m")
        environment = os.environ | hub.environment(folder / "home", xet=False, token="")
        environment |= job.spec["environment"] | job.spec["secrets"] | {LIBRARY: str(mounted)}
        done = subprocess.run(
            [sys.executable, "-P", "-m", name],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        yield from done.stdout.splitlines()
        if done.returncode:
            raise BrokenError(done.stderr[-300:] or f"exit {done.returncode}")

    return machine


def documents(text: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(text)
    for document in found:
        for one in document["results"]:
            one["seconds"] = 0.0
    return found


@pytest.mark.slow
def test_one_job_says_what_one_process_says(
    tiny_base: BaseModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    library = build_library(tmp_path / "library", tiny_base, 3, kinds=2)
    (library / "adapter-001" / "adapter_model.safetensors").write_bytes(b"no weights")
    policy = tmp_path / "zoo-gate.yaml"
    policy.write_text("format: 1\nrequired: [ZR001]\n")
    monkeypatch.setattr(on_jobs, "POLL_SECONDS", 0.1)
    jobs._namespace.cache_clear()
    with HubServer() as hub:
        connect(hub, tmp_path / "home", monkeypatch)
        upload(hub, "org/library", library)
        upload(hub, "tests/tiny-llama", tiny_base.folder)
        hub.store.machine = container(hub, tmp_path / "machine")
        command = ["gate", "--library", str(library), "--policy", str(policy), "--json", "-q"]
        assert run(command) == 1
        alone = documents(capsys.readouterr().out)
        there = ["--on", "jobs:cpu-basic", "--repo", "org/library", "--workers", "1"]
        assert run([*command, *there]) == 1
        said = capsys.readouterr()
        assert documents(said.out) == alone
        assert hub.token not in said.out + said.err
        assert [job.stage for job in hub.store.jobs.values()] == ["COMPLETED"]
    jobs._namespace.cache_clear()
    assert any("of the same kind, in this run" in json.dumps(one) for one in alone)
