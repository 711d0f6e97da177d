"""Several adapters on one base: loaded once, prefilled once, each with its own verdict."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.validators.releases import build_release
from zoo.errors import NotFoundError, UsageError
from zoo.models import BaseModel
from zoo.report import Flagged, Passed, Report, Severity, Skipped
from zoo.validators.conformance import prefill, rig
from zoo.validators.conformance.kv import prefix_kv
from zoo.validators.library import chosen_folders, validations
from zoo.validators.validate import Settings, validate

NAMES = ("a", "b", "c")


@pytest.fixture
def library(tiny_base: BaseModel, tmp_path: Path) -> Path:
    for name in NAMES:
        build_release(tiny_base, tmp_path / "library" / name)
    return tmp_path / "library"


def run(folders: list[Path], base: BaseModel, **settings: Any) -> dict[str, Report]:
    found = {}
    for validation in validations(folders, Settings(base=str(base.folder), **settings)):
        found[validation.context.repo.root.name] = validation.report(list(validation))
    return found


def errors(report: Report) -> set[str]:
    return {
        result.code
        for result in report.results
        if isinstance(result.outcome, Flagged) and result.outcome.severity is Severity.ERROR
    }


def counted(monkeypatch: pytest.MonkeyPatch, place: Any, name: str) -> list[Any]:
    calls: list[Any] = []
    right = getattr(place, name)

    def counting(*arguments: Any, **rest: Any) -> Any:
        calls.append(arguments)
        return right(*arguments, **rest)

    monkeypatch.setattr(place, name, counting)
    return calls


def test_the_base_is_loaded_once_and_each_prompt_prefilled_once(
    library: Path, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, prefills = counted(monkeypatch, rig, "load_model"), counted(monkeypatch, rig, "prefill")
    found = run(chosen_folders([], [library]), tiny_base)
    assert [report.status() for report in found.values()] == ["passed"] * 3
    assert len(loads) == 1
    assert len({ids for _, ids in prefills}) == len(prefills)
    one = len(prefills)
    run([library / "a"], tiny_base)
    assert len(loads) == 2
    assert len(prefills) == 2 * one  # alone it takes as many as all three took together


def test_together_they_get_the_verdicts_that_they_get_alone(library: Path, tiny_base: BaseModel) -> None:
    scale_last_b(library / "b", float("nan"))
    together = run([library / name for name in NAMES], tiny_base)
    for name in NAMES:
        alone = validate(library / name, base=str(tiny_base.folder))
        kinds = {result.code: type(result.outcome) for result in alone.results}
        assert {result.code: type(result.outcome) for result in together[name].results} == kinds
        assert together[name].status() == alone.status()
    assert together["b"].status() == "failed"
    assert {together[name].status() for name in "ac"} == {"passed"}


def scale_last_b(folder: Path, factor: float) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "adapter_model.safetensors")
    key = next(key for key in sorted(weights, reverse=True) if "lora_B" in key)
    weights[key] = weights[key] * factor
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def test_an_adapter_that_changes_the_base_does_not_change_it_for_the_next(
    tiny_base: BaseModel, tmp_path: Path, make_adapter: Callable[..., Path]
) -> None:
    ids = [1, 300, 301]
    pissa = make_adapter("1-pissa", init_lora_weights="pissa", alora_invocation_tokens=ids)
    config = json.loads((pissa / "adapter_config.json").read_text())
    # as a file that claims nothing unusual: only running it shows what it does
    from tests.validators.conformance.bench import context_of, outcomes
    from zoo.validators.bases import Bases

    right = build_release(tiny_base, tmp_path / "2-right")
    bases = Bases()
    context = context_of(right, tiny_base)
    context.bases = bases
    assert config["init_lora_weights"] == "pissa"
    held = bases.rigs.of(tiny_base, dtype="float32", device="cpu")
    before = rig.fingerprint(held.model)
    from zoo.adapter import AdapterRepo

    held.attach(AdapterRepo.open(pissa))
    assert rig.fingerprint(held._copy) != before
    held.detach()
    assert rig.fingerprint(held._copy) == before == rig.fingerprint(held.model)
    assert all(isinstance(outcome, Passed) for outcome in outcomes(context, "ZR002", "ZK001").values())


def test_what_is_shown_once_names_the_adapter_and_another_kind_is_shown_itself(
    library: Path, tiny_base: BaseModel
) -> None:
    other = build_release(tiny_base, library / "d", rank=8)
    found = run([*(library / name for name in NAMES), other], tiny_base)
    shown = {name: report.measured()["ZP003"].get("shown_on") for name, report in found.items()}
    assert shown["a"] is None
    assert str(shown["b"]).startswith("a,")
    assert str(shown["c"]).startswith("a,")
    assert shown["d"] is None  # another rank: another kind
    rows = {name: report.measured()["ZR005"]["rows"] for name, report in found.items()}
    assert rows == {"a": 2, "b": 1, "c": 1, "d": 2}  # each stays silent itself, ids are matched once a kind


def test_what_was_not_shown_is_tried_again(
    library: Path, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.validators.conformance import hooks

    right = hooks.leak

    calls: list[Any] = []

    def leaking(*arguments: Any) -> Any:
        from dataclasses import replace

        calls.append(arguments)
        return replace(right(*arguments), guarded=3)

    monkeypatch.setattr("zoo.validators.conformance.hooks.leak", leaking)
    found = run([library / name for name in NAMES], tiny_base)
    assert all("ZP003" in errors(report) for report in found.values())
    assert len(calls) == 3


def test_memory_is_kept_within_the_budget(tiny_base: BaseModel) -> None:
    held = rig.Rig.open(tiny_base, dtype="float32", device="cpu")
    held.budget = 200_000
    for first in range(3, 40):
        held.prefilled([first] * 64)
    assert sum(size for _, size in held._held.values()) <= held.budget
    assert len(held._held) > 1
    large = held.prefilled([5] * 2000)
    assert large.nbytes > held.budget  # what is larger than the budget is kept alone
    assert len(held._held) == 1


def test_a_prefill_is_the_bases_in_every_chunking(tiny_base: BaseModel) -> None:
    from zoo.models import load_model

    made = prefill.prefill(load_model(tiny_base), list(range(3, 103)))
    assert made.ways == ("whole", "pieces of 16", "two parts")
    used = made.cache((0, 2, 0))  # a copy, since the rows are not consecutive
    assert made.taint(used, (0, 2, 0)) is None
    values: Any = prefix_kv(used, 100)[1][1]
    values[1, 0, 50, 0] += 1
    found = made.taint(used, (0, 2, 0))
    assert found is not None
    assert (found.layer, found.part, found.position) == (1, "value", 50)


def test_what_an_engine_writes_into_the_shared_memory_is_seen_and_not_handed_on(tiny_base: BaseModel) -> None:
    held = rig.Rig.open(tiny_base, dtype="float32", device="cpu")
    made = held.prefilled(list(range(3, 43)))
    before = held.after(made, [7, 8])
    keys: Any = prefix_kv(made.cache(), 40)[1][0]  # a view: both the cache and the prefill change
    keys[0, 0, 3, 0] += 1
    found = made.taint(made.cache())
    assert found is not None
    assert (found.layer, found.part, found.max_abs) == (1, "key", float("inf"))
    held.forget(made)
    again = held.prefilled(list(range(3, 43)))
    assert again.taint(again.cache()) is None
    assert (held.after(again, [7, 8]) == before).all()


@pytest.mark.parametrize("paths", [[], ["nowhere"], ["empty"]])
def test_nothing_to_validate_is_a_usage_error(paths: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises((UsageError, NotFoundError)):
        chosen_folders([], [tmp_path / path for path in paths])


def test_hostile_adapters_get_a_verdict_and_the_run_goes_on(library: Path, tiny_base: BaseModel) -> None:
    def config(name: str, **changes: Any) -> None:
        path = library / name / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    hostile: dict[str, dict[str, Any]] = {
        "huge-r": {"r": 2_000_000_000},
        "rank-pattern": {"rank_pattern": {"q_proj": 1_000_000_000}},
        "regex": {"target_modules": "(a+)+$" * 40},
        "replication": {"layer_replication": [[0, 1_000_000]]},
    }
    for name, changes in hostile.items():
        build_release(tiny_base, library / f"hostile-{name}")
        config(f"hostile-{name}", **changes)
    found = run(chosen_folders([], [library]), tiny_base)
    assert {name: report.status() for name, report in found.items() if name in NAMES} == dict.fromkeys(
        NAMES, "passed"
    )
    reports = [found[f"hostile-{name}"] for name in hostile]
    assert {report.status() for report in reports} == {"failed"}
    for report in reports:
        assert sum(result.seconds for result in report.results) < 30
        assert any(isinstance(result.outcome, Skipped) for result in report.results)
