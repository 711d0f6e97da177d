"""Writing `conformance.safetensors`: the reference's numbers, always the same bytes, where none fit."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import build_adapter
from tests.real_release import real_release
from tests.validators.conformance.bench import build_base, context_of, invocation_ids
from tests.validators.conformance.shipping import rewritten, shipped_release, writer
from zoo import peft_model
from zoo.adapter import VECTORS_NAME
from zoo.errors import UndecidedError, UsageError
from zoo.models import BaseModel, load_model
from zoo.prompts import Prompt
from zoo.provenance import payload_digests, sha256_file
from zoo.specs.lock import Lock
from zoo.validators.conformance.projection import project
from zoo.validators.conformance.shipped import LONGEST, SHORT, choose
from zoo.validators.conformance.shipped_file import MAX_BYTES, dump, read, same_numbers
from zoo.validators.record import prepare, vectors_fit
from zoo.validators.validate import Settings, Validation


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, llama: BaseModel) -> Path:
    return shipped_release(llama, tmp_path_factory.mktemp("shipped") / "release")


@pytest.fixture
def release(llama: BaseModel, tmp_path: Path) -> Path:
    return real_release(llama, tmp_path / "release")


def prepared(folder: Path, base: BaseModel) -> str:
    opened = Validation.open(folder, Settings(base=str(base.folder)))
    reason = prepare(opened.context)
    assert opened.context.digests == payload_digests(folder)  # nothing stale stays behind
    assert opened.context.repo.lock == Lock.model_validate_json((folder / "zoo.lock.json").read_text())
    return reason


# ---------------------------------------------------------------- the numbers


def test_written_twice_the_bytes_are_the_same_and_few(made: Path, llama: BaseModel) -> None:
    content = (made / VECTORS_NAME).read_bytes()
    assert dump(writer(context_of(made, llama)).measure()) == content
    assert len(content) < MAX_BYTES / 10
    assert dump(read(made / VECTORS_NAME)) == content


def test_the_numbers_are_those_of_a_forward_pass_without_our_code(made: Path, llama: BaseModel) -> None:
    """A base with the update merged into its weights runs from the start on, on the base's own prefix."""
    import torch
    from safetensors.torch import load_file
    from transformers import DynamicCache

    shipped, base, merged = read(made / VECTORS_NAME), load_model(llama), load_model(llama)
    weights = load_file(made / "adapter_model.safetensors")
    for name, a in weights.items():
        if ".lora_A." in name:
            place = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            linear: Any = merged.get_submodule(place)
            linear.weight.data += weights[name.replace("lora_A", "lora_B")] @ a
    for prompt in range(shipped.prompts):
        ids, start = torch.tensor([shipped.ids(prompt)]), shipped.start(prompt)
        cache: Any = DynamicCache()
        with torch.no_grad():
            before = base(input_ids=ids[:, :start], past_key_values=cache).logits
            kept = [(layer.keys.clone(), layer.values.clone()) for layer in cache.layers]
            after = merged(input_ids=ids[:, start:], past_key_values=cache).logits
        every = torch.cat([before, after], dim=1)[0].log_softmax(-1)
        mine = shipped.questions(prompt)
        rows = every[torch.tensor(shipped.arrays["question.length"][mine]) - 1].numpy()
        found = np.take_along_axis(rows, shipped.arrays["token.ids"][mine].astype(int), axis=1)
        assert np.abs(found - shipped.expected("rule", prompt)).max() < 1e-5
        assert np.abs(found - shipped.expected("base", prompt)).max() > 0.1
        assert np.abs(project(kept) - shipped.arrays["kv.expected"][prompt]).max() < 1e-5
        # the likeliest tokens, in order
        assert (np.diff(shipped.expected("rule", prompt), axis=1) <= 0).all()
        assert np.allclose(rows.max(axis=1), shipped.expected("rule", prompt)[:, 0], atol=1e-5)


def test_the_continuation_is_greedy_and_never_invokes_again(made: Path) -> None:
    shipped = read(made / VECTORS_NAME)
    length = len(shipped.record.adapter.invocation)
    for prompt in range(shipped.prompts):
        ids, start = shipped.ids(prompt), shipped.start(prompt)
        mine = shipped.questions(prompt)
        asked = shipped.arrays["question.length"][mine].tolist()
        assert asked[0] == start  # one token early would show there
        forced = ids[start + length :]
        greedy = shipped.arrays["token.ids"][mine][asked.index(start + length) : -1, 0].tolist()
        assert forced == greedy
        assert len(forced) == 4


def test_nothing_of_peft_goes_into_it(made: Path, llama: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("PEFT was asked")

    for name in ("attach", "forward", "forward_by_rule"):
        monkeypatch.setattr(peft_model, name, broken)
    assert dump(writer(context_of(made, llama)).measure()) == (made / VECTORS_NAME).read_bytes()


@pytest.mark.parametrize("family", ["qwen2", "gpt2"])
def test_other_architectures(bases: dict[str, BaseModel], tmp_path: Path, family: str) -> None:
    base = bases[family]
    targets: dict[str, Any] = (
        {"target_modules": ["c_attn"], "fan_in_fan_out": True} if family == "gpt2" else {}
    )
    folder = build_adapter(base, tmp_path / "alora", alora_invocation_tokens=invocation_ids(base), **targets)
    shipped = writer(context_of(folder, base)).measure()
    assert {"float32", "bfloat16"} <= set(shipped.record.tolerances)
    assert np.abs(shipped.arrays["expected.rule"] - shipped.arrays["expected.late"]).max() > 0.01


def test_a_dtype_without_kernels_is_left_out(
    release: Path, llama: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.validators.conformance import shipped as module

    def refuse(base: BaseModel, *, dtype: str, device: str) -> Any:
        if dtype == "float16":
            raise RuntimeError("not implemented for 'Half'")
        return load_model(base, dtype="bfloat16", device=device)

    monkeypatch.setattr(module, "load_model", refuse)
    found = writer(context_of(release, llama)).measure()
    assert set(found.record.tolerances) == {"float32", "bfloat16"}
    assert "kv.tolerance.float16" not in found.arrays
    (release / VECTORS_NAME).write_bytes(dump(found))
    read(release / VECTORS_NAME)


def test_weights_that_are_not_finite_make_no_vectors(release: Path, llama: BaseModel) -> None:
    spoil(release)
    with pytest.raises(UndecidedError, match="not finite"):
        writer(context_of(release, llama)).measure()


def spoil(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, path)


def test_prompts_are_few_and_short() -> None:
    def prompt(length: int, salt: int = 0) -> Prompt:
        return Prompt(text="", ids=(salt, *range(length - 1)), start=1)

    found = choose([prompt(LONGEST), prompt(90), prompt(90), prompt(80), prompt(70), prompt(20), prompt(30)])
    assert [len(one.ids) for one in found] == [90, 80, 20]
    assert [len(one.ids) for one in choose([prompt(SHORT + 1), prompt(LONGEST + 1)])] == [SHORT + 1]
    with pytest.raises(UndecidedError):
        choose([prompt(LONGEST + 1)])


# ---------------------------------------------------------------- projections


def test_a_projection_sees_any_change_and_not_another_machines_noise() -> None:
    import torch

    generator = torch.Generator().manual_seed(0)
    layers = [(torch.randn(1, 2, 50, 8, generator=generator), torch.randn(1, 2, 50, 8, generator=generator))]
    before = project(layers)
    assert before.shape == (1, 2, 2, 4)
    assert np.abs(before).max() < 6  # about the size of one number
    noisy = project([(keys * (1 + 1e-7), values) for keys, values in layers])
    assert 0 < np.abs(noisy - before).max() < 1e-6
    for position, scopes in ((10, [True, False]), (49, [True, True])):
        changed = layers[0][1].clone()
        changed[0, 1, position] += 0.1
        gap = np.abs(project([(layers[0][0], changed)]) - before)[0].max(axis=-1)
        assert not gap[0].any()
        assert (gap[1] > 1e-3).tolist() == scopes


def test_the_signs_are_the_stated_ones() -> None:
    import torch

    values = torch.arange(70.0).reshape(1, 1, 70, 1)
    found = project([(values, values)], seed=5, count=2)
    for row in range(2):
        words = [int(word) for word in np.random.Philox(key=5 + row).random_raw(2)]
        signs = [1 if words[i // 64] >> (i % 64) & 1 else -1 for i in range(70)]
        assert found[0, 0, 0, row] == pytest.approx(sum(s * i for i, s in enumerate(signs)) / 70**0.5)


# ---------------------------------------------------------------- into a release


def test_recording_writes_them_once_and_names_them_in_the_lock(release: Path, llama: BaseModel) -> None:
    assert prepared(release, llama) == ""
    first = (release / VECTORS_NAME).read_bytes()
    assert Lock.model_validate_json((release / "zoo.lock.json").read_text()).files == payload_digests(release)
    rewritten(release, record=lambda doc: doc["versions"].update(torch="another"))  # measured elsewhere
    relock(release)
    kept = (release / VECTORS_NAME).read_bytes()
    assert kept != first
    assert prepared(release, llama) == ""
    assert (release / VECTORS_NAME).read_bytes() == kept


def relock(folder: Path) -> None:
    path = folder / "zoo.lock.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"files": payload_digests(folder)}))


def stale(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    save_file({name: 2 * tensor for name, tensor in load_file(path).items()}, path)
    relock(folder)


def unrecorded(folder: Path) -> None:
    rewritten(folder, lambda arrays: arrays["expected.rule"].__setitem__((0, 0), -1.0))


def of_another_format(folder: Path) -> None:
    rewritten(folder, record=lambda doc: doc.update(format=2))
    relock(folder)


def of_another_base(folder: Path) -> None:
    rewritten(folder, record=lambda doc: doc["base"].update(tokenizer_sha256="0" * 64))
    relock(folder)


@pytest.mark.parametrize("change", [stale, unrecorded, of_another_format, of_another_base])
def test_those_that_do_not_fit_are_written_anew(
    made: Path, llama: BaseModel, tmp_path: Path, change: Any
) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "release"))
    relock(folder)
    repo = Validation.open(folder, Settings(base=str(llama.folder))).context.repo
    assert vectors_fit(repo)
    change(folder)
    before = sha256_file(folder / VECTORS_NAME)
    assert prepared(folder, llama) == ""
    assert sha256_file(folder / VECTORS_NAME) != before
    assert Lock.model_validate_json((folder / "zoo.lock.json").read_text()).files == payload_digests(folder)


def test_a_file_that_is_no_safetensors_is_the_users_to_remove(release: Path, llama: BaseModel) -> None:
    (release / VECTORS_NAME).write_bytes(b"x")
    relock(release)
    assert "ZF003 failed: conformance.safetensors is too short" in prepared(release, llama)
    assert (release / VECTORS_NAME).read_bytes() == b"x"
    (release / VECTORS_NAME).unlink()
    assert prepared(release, llama) == ""


def test_what_fails_a_static_check_is_not_loaded(
    release: Path, llama: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.validators.conformance import rig

    def broken(*_: object, **__: object) -> None:
        raise AssertionError("the base was loaded")

    monkeypatch.setattr(rig, "load_model", broken)
    config = json.loads((release / "adapter_config.json").read_text()) | {"r": 10**9}
    (release / "adapter_config.json").write_text(json.dumps(config))
    assert "failed:" in prepared(release, llama)
    assert not (release / VECTORS_NAME).exists()


def test_without_a_base_or_with_static_nothing_is_written(release: Path, tmp_path: Path) -> None:
    before = payload_digests(release)
    spec = (release / "zoo.yaml").read_text().replace("tests/tiny-llama", "no-such-folder")
    (release / "zoo.yaml").write_text(spec)
    opened = Validation.open(release, Settings())
    assert "no conformance.safetensors was written" in prepare(opened.context)
    assert payload_digests(release).keys() == before.keys()
    opened = Validation.open(release, Settings(static=True))
    with pytest.raises(UsageError, match="--static"):
        prepare(opened.context)
    opened = Validation.open(release, Settings())
    opened.context.replay = True
    with pytest.raises(UsageError, match="--replay"):
        prepare(opened.context)


# ---------------------------------------------------------------- two measurements of one adapter


def test_two_measurements_say_the_same_and_others_do_not(made: Path, tmp_path: Path) -> None:
    mine = read(made / VECTORS_NAME)

    def other(**changes: Any) -> bool:
        folder = Path(shutil.copytree(made, tmp_path / str(len(list(tmp_path.iterdir())))))
        rewritten(folder, **changes)
        return same_numbers(mine, read(folder / VECTORS_NAME))

    def add(name: str, amount: float) -> Any:
        return lambda arrays: arrays.update({name: (arrays[name] + amount).astype(np.float32)})

    assert other()
    assert other(arrays=add("expected.rule", 1e-5), record=lambda doc: doc["versions"].update(torch="9"))
    assert other(record=lambda doc: doc["tolerances"]["float32"].update(log_prob=2e-4))
    assert not other(arrays=add("expected.late", 1e-3))
    assert not other(arrays=add("kv.expected", 1e-3))
    assert not other(arrays=add("kv.tolerance.float32", 1.0))
    assert not other(arrays=lambda arrays: arrays["token.ids"].__setitem__((0, 0), 7))
    assert not other(record=lambda doc: doc["tolerances"]["float32"].update(log_prob=1.0))
    assert not other(record=lambda doc: doc["adapter"].update(weights_sha256="0" * 64))
    assert not other(
        arrays=lambda arrays: arrays.pop("kv.tolerance.float16"),
        record=lambda doc: doc["tolerances"].pop("float16"),
    )


def test_another_base_makes_other_numbers(made: Path, llama: BaseModel, tmp_path: Path) -> None:
    base = build_base(tmp_path / "other", "llama", seed=7)
    other = writer(context_of(made, base)).measure()
    assert not same_numbers(read(made / VECTORS_NAME), other)
