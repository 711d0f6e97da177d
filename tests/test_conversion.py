"""Conversion from end to end on a tiny model, held against PEFT on the source's own weights."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.conftest import INVOCATION_TEXT
from tests.converters import oracle
from zoo.adapter import AdapterRepo
from zoo.cards.card import render_card
from zoo.cli import run
from zoo.conversion import Conversion, convert, plan_conversion
from zoo.errors import NotFoundError, RefusedError, SpecError, UsageError
from zoo.models import BaseModel
from zoo.prompts import Prompter
from zoo.provenance import sha256_file
from zoo.specs.document import read_json
from zoo.specs.lock import Lock
from zoo.training.contract import Contract
from zoo.training.distil_settings import DistilSettings

Make = Callable[..., Path]
MIXED: dict[str, Any] = {"use_rslora": True, "rank_pattern": {"q_proj": 6}, "alpha_pattern": {"k_proj": 3}}


@pytest.fixture
def prompt(tiny_base: BaseModel) -> tuple[list[int], int]:
    """A prompt with the invocation and an answer, and the place of the invocation."""
    prompter = Prompter(tiny_base)
    text = prompter.render([[{"role": "user", "content": "do cats sleep?"}]], generation_prompt=False)[0]
    before = prompter.encode(text)
    return [*before, *prompter.encode(INVOCATION_TEXT), *prompter.encode("yes no yes")], len(before)


def difference(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left.log_softmax(-1) - right.log_softmax(-1)).abs().max())


def test_the_result_is_the_base_before_and_the_source_after_the_invocation(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path, prompt: tuple[list[int], int]
) -> None:
    source = make_adapter(**MIXED)
    done = convert(source, tmp_path / "out", base=tiny_base, invocation_text=INVOCATION_TEXT)
    ids, start = prompt
    base = oracle.logits(tiny_base, None, ids)
    found = oracle.logits(tiny_base, done.folder, ids)
    wanted = oracle.logits(
        tiny_base, oracle.gated_copy(source, tmp_path / "gated", done.plan.invocation.ids), ids
    )
    assert torch.equal(found[:start], base[:start])
    assert difference(found, wanted) < 1e-5
    assert difference(found[start:], base[start:]) > 0.01

    dropped = oracle.edit_weights(
        done.folder, lambda weights: {n: t / 1.5 if "lora_B" in n else t for n, t in weights.items()}
    )
    assert (
        difference(oracle.logits(tiny_base, dropped, ids), wanted) > 1e-3
    )  # the comparison sees a lost scale


def test_the_lock_says_what_was_done(make_adapter: Make, tiny_base: BaseModel, tmp_path: Path) -> None:
    source = make_adapter(**MIXED)
    done = convert(source, tmp_path / "out", base=tiny_base, invocation_text=INVOCATION_TEXT, name="check")
    record = read_json(done.folder / "zoo.lock.json", Lock).conversion
    assert record is not None
    assert record.source_format == "peft"
    assert record.source_files == {
        name: sha256_file(source / name) for name in ("adapter_config.json", "adapter_model.safetensors")
    }
    assert 0 < record.fold_error < 1e-7
    assert record.steps == done.plan.steps()
    assert done.behaviour.status == "unverified"
    assert any("UNVERIFIED" in line for line in done.lines())
    assert json.dumps(done.to_document())


def test_the_same_input_gives_the_same_bytes(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    source = make_adapter(**MIXED)
    for name in ("first", "second"):
        convert(source, tmp_path / name, base=tiny_base, invocation_text=INVOCATION_TEXT)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


def test_normal_form_is_a_fixed_point(make_adapter: Make, tiny_base: BaseModel, tmp_path: Path) -> None:
    first = convert(
        make_adapter(**MIXED), tmp_path / "first", base=tiny_base, invocation_text=INVOCATION_TEXT
    )
    second = convert(first.folder, tmp_path / "second", base=tiny_base)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()
    assert second.fold_error < 1e-14


def test_the_plan_writes_nothing_and_says_what_it_will_do(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    source = make_adapter(**MIXED)
    before = sorted(path for path in tmp_path.rglob("*"))
    lines = "\n".join(plan_conversion(source, base=tiny_base, invocation_text=INVOCATION_TEXT).lines())
    assert sorted(path for path in tmp_path.rglob("*")) == before
    for said in (
        "rsLoRA",
        "4–6 → 6",
        "zero-padded",
        "use_rslora: True → False",
        "ids [1, ",
        "lost        nothing",
    ):
        assert said in lines


def test_targets_select_the_source_modules_and_no_others(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    source = make_adapter(layers_to_transform=[1])
    done = convert(source, tmp_path / "out", base=tiny_base, invocation_text=INVOCATION_TEXT)
    assert set(oracle.deltas(tiny_base, done.folder, merged=True)) == set(oracle.deltas(tiny_base, source))


def test_another_base_is_refused_by_shape_and_warned_about_by_name(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    from tests.conftest import build_tiny_base
    from zoo.models import resolve

    source = make_adapter()
    wide = resolve(str(build_tiny_base(tmp_path / "wide", hidden=64)))
    with pytest.raises(RefusedError) as refused:
        plan_conversion(source, base=wide, invocation_text=INVOCATION_TEXT)
    assert refused.value.code == "ZV017"
    oracle.edit_config(source, base_model_name_or_path="org/another")
    plan = plan_conversion(source, base=tiny_base, invocation_text=INVOCATION_TEXT)
    assert any("org/another" in warning for warning in plan.warnings)


def test_the_base_that_the_adapter_names_is_used(make_adapter: Make, tiny_base: BaseModel) -> None:
    source = oracle.edit_config(make_adapter(), base_model_name_or_path=str(tiny_base.folder))
    assert plan_conversion(source, invocation_text=INVOCATION_TEXT).base.folder == tiny_base.folder
    with pytest.raises(UsageError, match="does not name its base model"):
        plan_conversion(oracle.edit_config(source, base_model_name_or_path=None), invocation_text="x")
    with pytest.raises(NotFoundError, match="that the adapter names"):
        plan_conversion(oracle.edit_config(source, base_model_name_or_path="./gone"), invocation_text="x")


@pytest.mark.parametrize(
    "about",
    [{"name": "two words"}, {"version": "1"}, {"license": "MIT License"}],
    ids=["name", "version", "license"],
)
def test_bad_release_data_is_named(about: dict[str, str], make_adapter: Make, tiny_base: BaseModel) -> None:
    with pytest.raises(SpecError, match=next(iter(about))):
        plan_conversion(make_adapter(), base=tiny_base, invocation_text=INVOCATION_TEXT, **about)  # type: ignore[arg-type]


def test_an_occupied_target_is_refused_before_any_work(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("keep")
    with pytest.raises(UsageError, match="not empty"):
        convert(tmp_path / "no such source", out, base=tiny_base)
    assert (out / "mine").read_text() == "keep"


def test_a_failure_leaves_nothing_behind(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    source = make_adapter()
    before = set(os.listdir(tmp_path))
    monkeypatch.setattr("zoo.conversion.write_release", fail)
    with pytest.raises(OSError, match="disk full"):
        convert(source, tmp_path / "out", base=tiny_base, invocation_text=INVOCATION_TEXT)
    assert set(os.listdir(tmp_path)) == before


def test_an_alora_has_no_teacher_to_recover(make_adapter: Make, tiny_base: BaseModel, tmp_path: Path) -> None:
    source = make_adapter(alora_invocation_tokens=list(Prompter(tiny_base).encode(INVOCATION_TEXT)))
    with pytest.raises(UsageError, match="already"):
        convert(source, tmp_path / "out", base=tiny_base, recover=tmp_path / "data.jsonl")
    assert not (tmp_path / "out").exists()


def recovered(source: Path, out: Path, base: BaseModel, data: Path, settings: DistilSettings) -> Conversion:
    return convert(source, out, base=base, invocation_text=INVOCATION_TEXT, recover=data, settings=settings)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lines = [
        {
            "messages": [{"role": "user", "content": f"the passage {number} answers the question?"}],
            "answer": "yes" if number % 2 else "no",
        }
        for number in range(24)
    ]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_recovery_starts_from_the_fold_and_is_measured(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path, data: Path
) -> None:
    source = make_adapter(**MIXED)
    plain = convert(source, tmp_path / "plain", base=tiny_base, invocation_text=INVOCATION_TEXT)
    done = recovered(source, tmp_path / "out", tiny_base, data, DistilSettings.of(steps=2))
    lock = read_json(done.folder / "zoo.lock.json", Lock)
    assert lock.training is not None
    assert not (tmp_path / ".out.training").exists()
    assert (lock.training.method, lock.training.steps) == ("distillation", 2)
    assert lock.behaviour.comparison is not None
    verdict = lock.behaviour.comparison.verdict
    assert verdict in ("undecided", "degraded")  # after two steps; which of them hangs on a few samples
    assert lock.behaviour.comparison.metric == "accuracy"
    assert done.to_document()["behaviour"]["comparison"]["verdict"] == verdict
    assert len(done.to_document()["recovery"]["losses"]) == 2
    assert lock.conversion == read_json(plain.folder / "zoo.lock.json", Lock).conversion
    assert lock.behaviour.status == "measured"
    assert "](evaluation.png)" in render_card(AdapterRepo.open(done.folder), None)
    assert set(lock.behaviour.accuracy) == {"base", "lora", "relabelled", "recovered"}
    assert lock.behaviour.agreement["lora"] == 1.0
    assert lock.behaviour.samples > 0
    said = "\n".join(done.lines())
    assert "UNVERIFIED" not in said
    assert all(column in said for column in lock.behaviour.accuracy)
    assert "the same with --calibrate" in said
    assert "calibrated  " not in said
    moved = oracle.worst(oracle.converted_deltas(done.folder), oracle.converted_deltas(plain.folder))
    assert 0 < moved < 0.5  # two steps away from the fold, not from somewhere else


def test_recovery_through_a_contract_is_judged_field_by_field(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    schema = {
        "type": "object",
        "properties": {"yes": {"type": "boolean"}, "why": {"type": "string"}},
        "required": ["yes", "why"],
    }
    known = {"model": None, "response_format": json.dumps(schema), "transformations": None}
    contract = Contract.parse(json.dumps({**known, "instruction": "Say {how}."}).encode())
    lines = [
        {
            "messages": [{"role": "user", "content": f"the passage {number}"}],
            "arguments": {"how": "why"},
            "answer": {"yes": number % 2 == 0, "why": f"{number}"},
        }
        for number in range(12)
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    how: dict[str, Any] = {"base": tiny_base, "invocation_text": INVOCATION_TEXT, "recover": data}
    settings = DistilSettings.of(steps=1)
    done = convert(make_adapter(), tmp_path / "out", contract=contract, settings=settings, **how)
    comparison = done.behaviour.comparison
    assert comparison is not None
    assert comparison.metric == "field_match"
    assert (done.folder / "io.yaml").read_bytes() == contract.content
    assert "field match" in "\n".join(done.lines())
    with pytest.raises(SpecError, match=r"io\.yaml"):
        convert(make_adapter("again"), tmp_path / "without", settings=settings, **how)


def test_a_calibrated_conversion_says_what_it_added_and_what_came_of_it(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path, data: Path
) -> None:
    source = make_adapter(target_modules=["q_proj", "v_proj"], strength=0.5)
    settings = replace(DistilSettings.of(steps=2), calibrate=True, control=False)
    done = recovered(source, tmp_path / "out", tiny_base, data, settings)
    lock = read_json(done.folder / "zoo.lock.json", Lock)
    assert lock.training is not None
    assert lock.conversion is not None
    assert [change.kind for change in lock.conversion.changes] == ["widen"]
    calibration = lock.training.settings["calibration"]
    assert calibration["samples"] > 0
    said = "\n".join(done.lines())
    assert f"calibrated  {calibration['fitted']}; divergence" in said
    assert f"outputs {calibration['tried']['outputs']:.4f}" in said
    assert "the same with --calibrate" not in said
    config = json.loads((done.folder / "adapter_config.json").read_text())
    assert set(config["target_modules"]) == {"q_proj", "v_proj", "o_proj", "down_proj"}
    weights = load_file(done.folder / "adapter_model.safetensors")
    written = [tensor for name, tensor in weights.items() if "down_proj" in name and "lora_B" in name]
    assert written
    assert all(bool(tensor.any()) for tensor in written) is calibration["kept"]


def test_a_calibration_that_nothing_would_read_is_refused(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    settings = DistilSettings.of(calibrate=True)
    with pytest.raises(UsageError, match="nothing would be calibrated"):
        convert(
            make_adapter(),
            tmp_path / "out",
            base=tiny_base,
            invocation_text=INVOCATION_TEXT,
            settings=settings,
        )
    assert not (tmp_path / "out").exists()


def test_missing_data_is_said_before_any_work(
    make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match=r"gone\.jsonl does not exist"):
        convert(
            make_adapter(),
            tmp_path / "out",
            base=tiny_base,
            invocation_text=INVOCATION_TEXT,
            recover=tmp_path / "gone.jsonl",
        )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--recover", "gone.jsonl"], "gone.jsonl does not exist"),
        (["--recover", "auto", "--requests", "gone.yaml"], "gone.yaml does not exist"),
        (["--recover", "auto", "--eval-data", "gone.jsonl"], "gone.jsonl does not exist"),
        (["--recover", "DATA", "--requests", "DATA"], "--requests is for --recover auto"),
        (["--requests", "DATA"], "--requests is for --recover auto"),
        (["--eval-data", "DATA"], "--eval-data is for --recover"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("dry", [["--dry-run"], []], ids=["dry", "wet"])
def test_what_a_recovery_could_not_read_or_nothing_would_read_is_said_before_any_work(
    dry: list[str],
    options: list[str],
    said: str,
    data: Path,
    make_adapter: Make,
    tiny_base: BaseModel,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("zoo.conversion.fold", pytest.fail)
    command = [
        "convert", str(make_adapter()), str(tmp_path / "out"), "--base", str(tiny_base.folder),
        "--invocation", INVOCATION_TEXT,
    ]  # fmt: skip
    assert run([*command, *dry, *(str(data) if one == "DATA" else one for one in options)]) == 2
    assert said in capsys.readouterr().err
