"""ZS001 to ZS006: good vectors pass, and whatever is wrong with adapter, base, engine or file shows."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import build_adapter
from tests.validators.conformance.bench import build_base, flagged, said
from tests.validators.conformance.shipping import replayed, rewritten, shipped_release
from tests.validators.measured import number
from zoo import peft_model
from zoo.adapter import VECTORS_NAME
from zoo.models import BaseModel, Dtype
from zoo.provenance import sha256_file
from zoo.report import Flagged, NotApplicable, Outcome, Passed, Severity, Skipped
from zoo.validators.catalog import ALL_CHECKS, STATIC_CHECKS
from zoo.validators.check import required_by
from zoo.validators.conformance.peft_checks import LOADS
from zoo.validators.conformance.replay_checks import (
    REPLAY_CHECKS,
    REPLAYED,
    SHIPPED_CHECKS,
    other_base,
)
from zoo.validators.conformance.shipped_file import MAX_BYTES
from zoo.validators.engine import run_checks
from zoo.validators.validate import Settings, Validation

CODES = [f"ZS00{number}" for number in range(1, 7)]
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, llama: BaseModel) -> Path:
    return shipped_release(llama, tmp_path_factory.mktemp("shipped") / "release")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "release"))


def errors(found: dict[str, Outcome]) -> set[str]:
    return {
        code for code, one in found.items() if isinstance(one, Flagged) and one.severity is Severity.ERROR
    }


# ---------------------------------------------------------------- in order


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_good_vectors_pass_in_every_dtype(made: Path, llama: BaseModel, dtype: Dtype) -> None:
    found = replayed(made, llama, dtype=dtype)
    assert {code: said(found[code]) for code in CODES} == dict.fromkeys(CODES, "")
    measured = {code: one.measured for code, one in found.items() if isinstance(one, Passed)}
    parity = measured["ZS004"]
    assert number(parity["max_abs_log_prob_difference"]) <= number(parity["tolerance"])
    assert number(measured["ZS005"]["one_token_early_in_multiples_of_tolerance"]) > 1
    assert measured["ZS006"]["controls_run"] == 4


def test_without_vectors_there_is_nothing_to_replay_unless_it_was_asked_for(
    folder: Path, llama: BaseModel
) -> None:
    (folder / VECTORS_NAME).unlink()
    found = replayed(folder, llama)
    assert all(isinstance(found[code], NotApplicable) for code in CODES)
    found = replayed(folder, llama, asked=True)
    assert all(isinstance(found[code], Skipped) for code in CODES)
    assert "there is no conformance.safetensors" in said(found["ZS001"])


def test_a_dtype_that_was_not_measured_is_undecided(folder: Path, llama: BaseModel) -> None:
    rewritten(
        folder,
        lambda arrays: arrays.pop("kv.tolerance.float16"),
        lambda doc: doc["tolerances"].pop("float16"),
    )
    found = replayed(folder, llama, dtype="float16")
    assert isinstance(found["ZS003"], Skipped)
    assert "no tolerance for float16" in said(found["ZS003"])


# ---------------------------------------------------------------- another adapter, another base


def test_other_weights_are_stale(folder: Path, llama: BaseModel) -> None:
    other_weights(folder)
    found = replayed(folder, llama)
    assert errors(found) == {"ZS002"}
    assert "made for another adapter_model.safetensors" in said(found["ZS002"])
    assert isinstance(found["ZS004"], Skipped)


def test_other_weights_under_the_right_digest_deviate(folder: Path, llama: BaseModel) -> None:
    other_weights(folder)
    digest = sha256_file(folder / "adapter_model.safetensors")
    rewritten(folder, record=lambda doc: doc["adapter"].update(weights_sha256=digest))
    found = replayed(folder, llama)
    assert errors(found) == {"ZS004", "ZS006"}
    assert "fits none of the shipped runs" in said(found["ZS004"])


def other_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    save_file({name: 1.05 * tensor for name, tensor in load_file(path).items()}, path)


def test_another_config_is_stale(folder: Path, llama: BaseModel) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": 5}))
    found = replayed(folder, llama)
    assert errors(found) == {"ZS002"}
    assert "another adapter_config.json" in said(found["ZS002"])


def test_another_base_in_the_lock_is_stale(folder: Path, llama: BaseModel) -> None:
    path = folder / "zoo.lock.json"
    lock = json.loads(path.read_text())
    lock["base"]["weights_sha256"] = "0" * 64
    path.write_text(json.dumps(lock))
    assert "other weights of the base" in said(replayed(folder, llama)["ZS002"])


@pytest.mark.parametrize("stated", [True, False])
def test_another_base_is_told_by_its_digest_and_by_its_numbers(
    folder: Path, tmp_path: Path, stated: bool
) -> None:
    if not stated:  # a commit and a local folder: no digest to compare
        (folder / "zoo.lock.json").unlink()
        rewritten(folder, record=lambda doc: doc["base"].update(weights_sha256=None, revision="0" * 40))
    found = replayed(folder, build_base(tmp_path / "other", "llama", seed=7))
    assert errors(found) == {"ZS003"}
    assert "not the adapter, the base deviates" in said(found["ZS003"])
    assert "the base's prefix KV is" in said(found["ZS003"])
    assert ("other weights of the base than the one at hand" in said(found["ZS003"])) is stated
    assert isinstance(found["ZS004"], Skipped)


def test_a_base_with_other_layers_or_a_smaller_vocabulary_is_said_not_crashed(
    folder: Path, tmp_path: Path, llama: BaseModel
) -> None:
    def shallow(arrays: dict[str, Any]) -> None:
        arrays["kv.expected"] = arrays["kv.expected"][:, :1].copy()
        for dtype in ("float32", "bfloat16", "float16"):
            arrays[f"kv.tolerance.{dtype}"] = arrays[f"kv.tolerance.{dtype}"][:1].copy()

    rewritten(folder, shallow)
    found = replayed(folder, llama)
    assert errors(found) == {"ZS003"}
    assert "2 layers, not 1" in said(found["ZS003"])
    rewritten(folder, lambda arrays: arrays["token.ids"].__setitem__((0, 31), 400_000))
    assert "token ids that a base with" in said(replayed(folder, llama)["ZS003"])


# ---------------------------------------------------------------- engines that deviate


def by_offset(offset: Callable[[int, int], int | None]) -> Callable[..., Any]:
    """PEFT with another start than the rule's; it is given (tokens from the start on, all tokens)."""
    rule = peft_model.forward

    def forward(model: Any, ids: Any, *, cache: Any) -> Any:
        import torch

        invocation = model.peft_config["default"].alora_invocation_tokens
        row = ids[0].tolist()
        width = len(invocation)
        start = max(i for i in range(len(row)) if row[i : i + width] == invocation)
        with torch.no_grad():
            return rule(model, ids, offsets=[offset(len(row) - start, len(row))], cache=cache)

    return forward


@pytest.mark.parametrize(
    ("offset", "words", "codes"),
    [
        (lambda active, _: active, "", set()),  # the control of this very test
        (lambda active, _: active - 1, "it computes the adapter one token late", {"ZS004"}),
        (lambda active, _: active + 1, "it computes the adapter one token early", {"ZS004", "ZS005"}),
        (lambda _, __: None, "it computes the base model", {"ZS004"}),
        (lambda _, tokens: tokens, "it computes a plain LoRA on every token", {"ZS004", "ZS005"}),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_an_engine_with_another_start_is_named(
    made: Path,
    llama: BaseModel,
    monkeypatch: pytest.MonkeyPatch,
    offset: Callable[[int, int], int | None],
    words: str,
    codes: set[str],
    dtype: Dtype,
) -> None:
    monkeypatch.setattr(peft_model, "forward_by_rule", by_offset(offset))
    found = replayed(made, llama, dtype=dtype)
    assert flagged(found) == codes
    assert words in said(found["ZS004"])


def test_an_engine_that_is_slightly_off_fits_none(
    made: Path, llama: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = peft_model.forward_by_rule
    monkeypatch.setattr(
        peft_model, "forward_by_rule", lambda *args, **settings: 1.01 * rule(*args, **settings)
    )
    found = replayed(made, llama)
    assert errors(found) == {"ZS004"}
    assert re.search("nearest is the adapter from the invocation's first token on, 0.0", said(found["ZS004"]))


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_what_is_not_finite_never_agrees(
    made: Path, llama: BaseModel, monkeypatch: pytest.MonkeyPatch, factor: float
) -> None:
    rule = peft_model.forward_by_rule
    monkeypatch.setattr(
        peft_model, "forward_by_rule", lambda *args, **settings: factor * rule(*args, **settings)
    )
    assert "something that is not finite" in said(replayed(made, llama)["ZS004"])


# ---------------------------------------------------------------- controls


def test_an_adapter_whose_effect_is_within_the_tolerance_is_undecided(folder: Path, llama: BaseModel) -> None:
    rewritten(folder, record=lambda doc: doc["tolerances"]["float32"].update(log_prob=50.0))
    found = replayed(folder, llama)
    assert isinstance(found["ZS006"], Skipped)
    assert "nothing would show" in said(found["ZS006"])


@pytest.mark.parametrize("run", ["early", "late"])
def test_a_shifted_start_that_cannot_be_seen_is_a_warning(folder: Path, llama: BaseModel, run: str) -> None:
    rewritten(folder, lambda arrays: arrays.update({f"expected.{run}": arrays["expected.rule"].copy()}))
    found = replayed(folder, llama)
    assert f"the adapter one token {run} differs by 0 nats" in said(found["ZS006"])


# ---------------------------------------------------------------- the file


@pytest.mark.parametrize("name", ["rule", "early", "late", "base", "plain"])
def test_a_changed_number_shows(folder: Path, llama: BaseModel, name: str) -> None:
    rewritten(folder, lambda arrays: arrays[f"expected.{name}"].__setitem__((-1, 0), -30.0))
    wanted = {"rule": {"ZS004"}, "base": {"ZS003"}}.get(name, {"ZS006"})
    assert errors(replayed(folder, llama)) == wanted


def test_a_changed_projection_shows(folder: Path, llama: BaseModel) -> None:
    rewritten(folder, lambda arrays: arrays["kv.expected"].__setitem__((0, 1, 1, 0, 2), 9.0))
    found = replayed(folder, llama)
    assert errors(found) == {"ZS003"}
    assert "layer 1, value, prefix" in said(found["ZS003"])


BROKEN: dict[str, tuple[Change, Change]] = {
    "a tensor more": (lambda arrays: arrays.update(more=np.zeros(1, np.float32)), lambda _: None),
    "a tensor less": (lambda arrays: arrays.pop("expected.late"), lambda _: None),
    "float64": (
        lambda arrays: arrays.update({"expected.rule": arrays["expected.rule"].astype(np.float64)}),
        lambda _: None,
    ),
    "another shape": (
        lambda arrays: arrays.update({"token.ids": arrays["token.ids"][:, :-1].copy()}), lambda _: None
    ),
    "NaN": (lambda arrays: arrays["expected.rule"].__setitem__((0, 0), np.nan), lambda _: None),
    "a negative tolerance": (
        lambda arrays: arrays["kv.tolerance.float32"].__setitem__((0, 0, 0), -1), lambda _: None
    ),
    "a negative token": (lambda arrays: arrays["token.ids"].__setitem__((0, 0), -5), lambda _: None),
    "a length beyond the row": (lambda arrays: arrays["prompt.length"].__setitem__(0, 999), lambda _: None),
    "another start": (lambda arrays: arrays["prompt.start"].__setitem__(0, 1), lambda _: None),
    "a question beyond the prompt": (
        lambda arrays: arrays["question.length"].__setitem__(-1, 10_000), lambda _: None
    ),
    "a question on no prompt": (lambda arrays: arrays["question.prompt"].__setitem__(0, 9), lambda _: None),
    "no questions": (
        lambda arrays: arrays.update({n: v[:0].copy() for n, v in arrays.items() if n[0] in "qte"}),
        lambda _: None,
    ),
    "another format": (lambda _: None, lambda doc: doc.update(format=2)),
    "a key more": (lambda _: None, lambda doc: doc.update(more=1)),
    "no float32": (
        lambda arrays: arrays.pop("kv.tolerance.float32"), lambda doc: doc["tolerances"].pop("float32")
    ),
    "an endless tolerance": (
        lambda _: None, lambda doc: doc["tolerances"]["float32"].update(log_prob=float("inf"))
    ),
    "a million projections": (lambda _: None, lambda doc: doc["projection"].update(count=10**6)),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_of_another_form_is_refused(folder: Path, llama: BaseModel, name: str) -> None:
    rewritten(folder, *BROKEN[name])
    found = replayed(folder, llama)
    assert errors(found) == {"ZS001"}
    assert all(isinstance(found[code], Skipped) for code in CODES[1:])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        b"\xff" * 100,
        (2**40).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        bytes(MAX_BYTES + 1),
    ],
)
def test_a_file_that_is_no_safetensors_is_refused(folder: Path, llama: BaseModel, content: bytes) -> None:
    (folder / VECTORS_NAME).write_bytes(content)
    found = replayed(folder, llama)
    assert errors(found) == {"ZS001"}
    assert VECTORS_NAME in said(found["ZS001"])


def test_every_cut_is_refused(folder: Path, llama: BaseModel) -> None:
    content = (folder / VECTORS_NAME).read_bytes()
    for size in range(0, len(content), len(content) // 7 + 1):
        (folder / VECTORS_NAME).write_bytes(content[:size])
        assert errors(replayed(folder, llama)) == {"ZS001"}


# ---------------------------------------------------------------- pieces


def test_only_what_both_state_is_compared(llama: BaseModel) -> None:
    mine = llama.lock()
    hub = mine.model_copy(update={"revision": "1" * 40, "weights_sha256": None})
    assert other_base(mine, mine) == other_base(mine, hub) == []
    assert other_base(hub, hub.model_copy(update={"revision": "2" * 40}))
    assert other_base(mine, mine.model_copy(update={"tokenizer_sha256": "0" * 64}))
    assert other_base(mine, mine.model_copy(update={"id": "other/base"}))
    assert other_base(mine, mine.model_copy(update={"id": "a-folder"})) == []


def test_what_the_replay_requires_comes_with_it_in_order() -> None:
    rest = [check for check in STATIC_CHECKS if not check.code.startswith("ZS")]
    known = (*rest, *SHIPPED_CHECKS, LOADS, *REPLAY_CHECKS)
    codes = [check.code for check in required_by(known, REPLAYED)]
    assert {"ZL001", "ZL002", "ZF002", "ZP001", *CODES} <= set(codes)
    assert len(codes) < len(ALL_CHECKS)
    for check in known:
        if check.code in codes:
            assert set(check.requires) <= set(codes[: codes.index(check.code)])


def test_an_adapter_without_an_invocation_has_no_vectors(llama: BaseModel, tmp_path: Path) -> None:
    plain = build_adapter(llama, tmp_path / "plain")
    (plain / VECTORS_NAME).write_bytes(b"x")
    context = Validation.open(plain, Settings(base=str(llama.folder))).context
    assert all(isinstance(one.outcome, NotApplicable) for one in run_checks(context, SHIPPED_CHECKS))
