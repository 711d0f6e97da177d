"""Gates by the real Ray on this machine: tests that `test_ray.py` runs in a process that has it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.ci.fleet.conftest import TODAY
from tests.ci.fleet.library import build_library
from tests.conftest import build_tiny_base
from zoo.ci.fleet import on_ray
from zoo.ci.fleet.journal import Journal
from zoo.ci.fleet.on_ray import ray_crew
from zoo.ci.fleet.run import fleet
from zoo.ci.fleet.task import Order
from zoo.ci.gate import gate
from zoo.cli import run
from zoo.errors import UndecidedError, UsageError
from zoo.models import BaseModel, resolve
from zoo.render.json import from_document, to_document
from zoo.report import Report
from zoo.specs.policy import Policy
from zoo.validators.validate import Settings


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    return resolve(str(build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")))


@pytest.fixture(scope="module")
def folders(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six adapters of two kinds; of the first kind the first cannot show anything: it is broken."""
    root = build_library(tmp_path_factory.mktemp("library"), base, 6, kinds=2)
    (root / "adapter-000" / "adapter_model.safetensors").write_bytes(b"no weights")
    return sorted(root.iterdir())


@pytest.fixture(scope="module")
def order(base: BaseModel) -> Order:
    return Order(settings=Settings(base=str(base.folder)), policy=Policy(required=["ZR001"]), today=TODAY)


@pytest.fixture(scope="module")
def here() -> Iterator[None]:
    """Ray, once for these tests; every crew of them uses it."""
    on_ray._connect(ray, "", 2)
    yield
    ray.shutdown()


def as_json(reports: list[Report]) -> str:
    """The merged report without the times in it."""
    documents: list[dict[str, Any]] = [to_document(report) for report in reports]
    for document in documents:
        for one in document["results"]:
            one["seconds"] = 0.0
    return json.dumps(documents, indent=2)


def same(reports: list[Report], alone: str) -> None:
    """Fails unless the bytes are the same; first it says which check of which adapter differs."""
    for here, there in zip(json.loads(as_json(reports)), json.loads(alone), strict=True):
        for one, other in zip(here["results"], there["results"], strict=True):
            assert (here["subject"], one) == (there["subject"], other)
    assert as_json(reports) == alone


@pytest.fixture(scope="module")
def alone(folders: list[Path], order: Order) -> str:
    return as_json(list(gate(folders, policy=order.policy, today=order.today, settings=order.settings)))


def test_killed_workers_lose_nothing(folders: list[Path], order: Order, alone: str, here: None) -> None:
    killed: list[int] = []
    with ray_crew(order, workers=2) as crew:
        reports = []
        for report in fleet(folders, order=order, crew=crew, journal=Journal(order)):
            reports.append(report)
            alive = [process for process in crew.processes if process not in killed]
            if alive and len(killed) < 2:
                killed.append(alive[-1])
                os.kill(killed[-1], signal.SIGKILL)
        assert len(set(crew.processes)) > 2
    same(reports, alone)
    assert not Journal(order).folder.exists()


def test_two_workers_of_the_command_say_what_one_process_says(
    folders: list[Path], order: Order, alone: str, here: None, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "zoo-gate.yaml").write_text("format: 1\nrequired: [ZR001]\n")
    monkeypatch.chdir(tmp_path)
    command = ["gate", "--library", str(folders[0].parent), "--base", order.settings.base, "--json", "-q"]
    assert run([*command, "--workers", "2"]) == 1
    documents = json.loads(capsys.readouterr().out)
    same([from_document(document) for document in documents], alone)
    assert [one["status"] for one in documents] == ["failed"] + 5 * ["passed"]
    assert "of the same kind, in this run" in alone  # what one adapter takes from another is in it


def test_a_cluster_is_found_by_its_address(folders: list[Path], order: Order, here: None) -> None:
    """Another process is led to the one that runs here, as to one of many machines."""
    address = ray.get_runtime_context().gcs_address
    command = [str(Path(sys.executable).with_name("zoo")), "gate", str(folders[1]), "--json", "-q"]
    done = subprocess.run(
        [*command, "--base", order.settings.base, "--on", f"ray:{address}", "--workers", "1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [one["status"] for one in json.loads(done.stdout)] == ["passed"]


def test_what_every_worker_would_raise_ends_the_run(folders: list[Path], order: Order, here: None) -> None:
    nowhere = Order(settings=Settings(base="org/nowhere/else"), policy=order.policy, today=TODAY)
    with ray_crew(nowhere, workers=1) as crew, pytest.raises(UsageError, match="org/nowhere/else"):
        list(fleet(folders, order=nowhere, crew=crew, journal=Journal(nowhere)))


def test_a_worker_with_other_code_or_without_the_library_is_refused(folders: list[Path]) -> None:
    from zoo.provenance import package_versions

    there = package_versions(on_ray.SAME) | {"node": "far", "sees": "yes"}
    on_ray._same_everywhere(there, folders[0])
    with pytest.raises(UndecidedError, match="far has torch 1"):
        on_ray._same_everywhere(there | {"torch": "1"}, folders[0])
    with pytest.raises(UndecidedError, match="does not see"):
        on_ray._same_everywhere(there | {"sees": ""}, folders[0])


def test_a_gpu_of_its_own_for_each_worker(order: Order) -> None:
    one = Order(settings=Settings(device="cuda:1"), policy=order.policy, today=TODAY)
    with pytest.raises(UsageError, match="each worker a GPU"), ray_crew(one):
        pass
