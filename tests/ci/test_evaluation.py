"""The gate asks adapters that were trained for it: against PEFT's own passes, and what is published."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmarks.gate_library import without_times
from tests.ci.seeded import IN_ORDER, REGRESSIONS, change_library, noise
from tests.ci.shelf import TASKS, Shelf, build_shelf, publish, write_policy
from tests.hub.server import HubServer
from tests.publishing.conftest import hub  # noqa: F401  # a fixture
from tests.validators.changes import weights
from zoo.adapter import AdapterRepo
from zoo.cli import run as run_zoo
from zoo.evaluation.asking import ask
from zoo.models import load_model
from zoo.peft_model import attach
from zoo.prompts import Invocation, Prompter
from zoo.render.figures import figures
from zoo.training.contract import Contract
from zoo.training.dataset import Encoded, encode, read_dataset

NAMES = ("result renamed", "hardly trained", "another licence in a patch", "another basis 1")
Gate = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """One task, trained once; four adapters of it."""
    return build_shelf(tmp_path_factory.mktemp("shelf"), tasks=TASKS[:1], each=len(NAMES))


@pytest.fixture
def gate(
    shelf: Shelf,
    hub: HubServer,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Gate:
    """Gates folders under the library's policy; the published state is on the Hub."""
    publish(shelf, hub.store, shelf.names)
    policy = write_policy(shelf, shelf.root / "zoo-gate.yaml")
    monkeypatch.chdir(tmp_path)

    def run(*paths: Path, options: Sequence[str] = ()) -> tuple[int, Any]:
        told = ["gate", *map(str, paths), "--policy", str(policy), "--base", str(shelf.base.folder), "-q"]
        status = run_zoo([*told, "--json", *options])
        return status, json.loads(capsys.readouterr().out)

    return run


def failed_codes(report: dict[str, Any]) -> set[str]:
    return {
        one["code"]
        for one in report["results"]
        if any(finding["severity"] == "error" for finding in one["outcome"].get("findings", []))
    }


def test_regressions_are_caught_and_what_is_in_order_is_not(shelf: Shelf, gate: Gate, tmp_path: Path) -> None:
    known = {**REGRESSIONS, **IN_ORDER}
    changes = {name: known[name] for name in NAMES}
    assigned = change_library(shelf, tmp_path / "library", changes)
    status, reports = gate(tmp_path / "library")
    assert status == 1
    for report in reports:
        change = changes[assigned[Path(report["subject"]).name]]
        if change.kind:
            assert change.code in failed_codes(report), report["subject"]
        else:
            assert report["status"] == "passed"


def test_here_and_in_ci_the_verdict_is_the_same_and_every_form_shows_the_answers(
    shelf: Shelf, gate: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shelf.published(shelf.names[0])
    kinds = ("sarif", "xml", "md", "html")
    options = [part for kind in kinds for part in ("-o", str(tmp_path / f"report.{kind}"))]
    status, here = gate(folder, options=options)
    for name, value in {"CI": "true", "GITHUB_ACTIONS": "true", "RUNNER_OS": "Linux"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    assert (status, without_times(here)) == ((again := gate(folder))[0], without_times(again[1]))
    assert status == 0
    measured = {one["code"]: one["outcome"].get("measured", {}) for one in here[0]["results"]}
    shown = {one.name: one for one in figures(measured["ZG007"])}["relevance balanced_accuracy"]
    assert shown.ends() is not None
    for kind in ("xml", "md", "html"):
        text = (tmp_path / f"report.{kind}").read_text().replace("\\", "")
        assert f"{shown.value:.3f} [{shown.low:.3f}, {shown.high:.3f}]" in text, kind
    assert "balanced_accuracy_low" in (tmp_path / "report.sarif").read_text()
    assert "balanced" in (tmp_path / "summary.md").read_text()


def test_another_sample_is_red(shelf: Shelf, gate: Gate, tmp_path: Path) -> None:
    sample = shelf.sample(TASKS[0])
    kept = sample.read_bytes()
    try:
        sample.write_bytes(kept.replace(b'"answer": "yes"', b'"answer": "no"', 1))
        status, reports = gate(shelf.published(shelf.names[0]))
    finally:
        sample.write_bytes(kept)
    assert status == 1
    assert failed_codes(reports[0]) >= {"ZG006", "ZG001"}


def test_the_likeliest_answers_are_those_of_pefts_whole_passes(shelf: Shelf) -> None:
    """Prefixes kept once, suffixes packed, and no difference to asking PEFT about each prompt."""
    repo = AdapterRepo.open(shelf.published(shelf.names[0]))
    prompter, data = Prompter(shelf.base), read_dataset(shelf.sample(TASKS[0]), values=True)
    samples = data.samples[:16]
    assert repo.release is not None
    spec = repo.release.invocation
    ids = tuple(repo.config.alora_invocation_tokens or ())
    invocation = Invocation(text=spec.text, ids=ids, position=spec.position)
    contract = Contract.read(repo.root / "io.yaml")
    model = attach(load_model(shelf.base), repo.root)
    found = ask(model, samples, prompter, invocation, contract=contract, name="sample")
    assert found.metric == "balanced_accuracy"
    encoded = encode(samples, prompter, invocation, name="s", max_tokens=500, contract=contract)
    options = sorted({one.answer for one in encoded})
    assert list(found.scores) == [float(_likeliest(model, one, options) == one.answer) for one in encoded]
    assert sum(found.trivial) == 8
    assert set(found.well_formed) == {1.0}
    hurt = Path(shutil.copytree(repo.root, shelf.root / "hurt"))
    weights(noise(4.0))(hurt, shelf.base)
    other = ask(
        attach(load_model(shelf.base), hurt), samples, prompter, invocation, contract=contract, name="sample"
    )
    assert sum(other.scores) < sum(found.scores)


def _likeliest(model: Any, sample: Encoded, options: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    def total(answer: tuple[int, ...]) -> float:
        ids = [*sample.prefix, *sample.lead, *answer]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(dim=-1)
        return sum(float(logits[len(ids) - len(answer) + n - 1, one]) for n, one in enumerate(answer))

    return max(options, key=total)
