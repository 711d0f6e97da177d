"""Adapters as GGUF, read back with the format's own reader; whether a server computes the right thing with
them is tested in tests/validators/conformance/engines."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.validators.conformance.bench import build_base
from zoo.adapter import AdapterRepo
from zoo.converters.exporters.architectures import architecture, paired_rows
from zoo.converters.exporters.gguf_adapter import INVOCATION_KEY, export_gguf
from zoo.errors import EngineError, RefusedError
from zoo.models import BaseModel

Make = Callable[..., Path]
IDS = [1, 300, 2]


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    import gguf

    reader = gguf.GGUFReader(path)
    keys = {name: field.contents() for name, field in reader.fields.items()}
    return keys, {tensor.name: np.array(tensor.data) for tensor in reader.tensors}


def test_what_is_written(make_adapter: Make, tiny_base: BaseModel, tmp_path: Path) -> None:
    folder = make_adapter(alora_invocation_tokens=IDS)
    target = tmp_path / "a.gguf"
    target.write_bytes(b"old")
    assert export_gguf(AdapterRepo.open(folder), tiny_base, target) == target
    keys, tensors = read(target)
    assert (keys["general.type"], keys["adapter.type"], keys["general.architecture"]) == (
        "adapter",
        "lora",
        "llama",
    )
    assert keys["adapter.lora.alpha"] == 8.0
    assert keys[INVOCATION_KEY] == IDS
    weights = load_file(folder / "adapter_model.safetensors")
    head = "base_model.model.model.layers.1.self_attn."
    assert len(tensors) == len(weights) == 12
    assert np.array_equal(tensors["blk.1.attn_q.weight.lora_a"], weights[head + "q_proj.lora_A.weight"])
    assert np.array_equal(tensors["blk.1.attn_v.weight.lora_b"], weights[head + "v_proj.lora_B.weight"])
    written, ours = tensors["blk.1.attn_k.weight.lora_b"], weights[head + "k_proj.lora_B.weight"]
    assert not np.array_equal(written, ours)
    assert np.array_equal(written, paired_rows(ours, 2))
    assert sorted(tmp_path.glob(".*")) == []


def test_the_order_of_paired_rows() -> None:
    rows = np.arange(16, dtype=np.float32).reshape(16, 1)
    assert paired_rows(rows, 2)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]
    assert paired_rows(rows[:, 0], 2).tolist() == paired_rows(rows, 2)[:, 0].tolist()


def test_rows_that_are_no_pairs() -> None:
    with pytest.raises(EngineError) as caught:
        paired_rows(np.zeros((6, 1), dtype=np.float32), 2)
    assert caught.value.code == "ZX002"


@pytest.mark.parametrize("layers", [None, "2", -1, 10**9, 5000])
def test_a_base_whose_layers_cannot_be_counted(
    layers: object, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    strange = BaseModel(id="strange", revision="", folder=tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**tiny_base.config, "num_hidden_layers": layers}))
    with pytest.raises(EngineError) as caught:
        export_gguf(AdapterRepo.open(make_adapter()), strange, tmp_path / "a.gguf")
    assert caught.value.code == "ZX002"


def test_rows_stay_where_the_architecture_keeps_halves(tmp_path: Path) -> None:
    from tests.conftest import build_adapter

    base = build_base(tmp_path / "base", "qwen2")
    folder = build_adapter(base, tmp_path / "a", alora_invocation_tokens=IDS)
    _, tensors = read(export_gguf(AdapterRepo.open(folder), base, tmp_path / "a.gguf"))
    weights = load_file(folder / "adapter_model.safetensors")
    ours = weights["base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"]
    assert np.array_equal(tensors["blk.0.attn_q.weight.lora_b"], ours)


def test_half_precision(make_adapter: Make, tiny_base: BaseModel, tmp_path: Path) -> None:
    _, tensors = read(
        export_gguf(AdapterRepo.open(make_adapter()), tiny_base, tmp_path / "a.gguf", kind="f16")
    )
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float16)}


def test_a_plain_lora_has_no_invocation(make_adapter: Make, tiny_base: BaseModel, tmp_path: Path) -> None:
    keys, _ = read(export_gguf(AdapterRepo.open(make_adapter()), tiny_base, tmp_path / "a.gguf"))
    assert INVOCATION_KEY not in keys


@pytest.mark.parametrize(
    "change",
    [
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2}},
        {"alpha_pattern": {"q_proj": 2}},
        {"use_dora": True},
        {"lora_bias": True},
        {"bias": "all"},
        {"modules_to_save": ["lm_head"]},
        {"layer_replication": [[0, 2]]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_gguf_cannot_say_is_refused(
    change: dict[str, Any], make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    folder = make_adapter()
    config = json.loads((folder / "adapter_config.json").read_text()) | change
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(RefusedError, match=next(iter(change))) as caught:
        export_gguf(AdapterRepo.open(folder), tiny_base, tmp_path / "a.gguf")
    assert caught.value.code == "ZX001"
    assert not (tmp_path / "a.gguf").exists()


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.model.layers.0.self_attn.other_proj.lora_A.weight",
        "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight",
        "base_model.model.model.embed_tokens.lora_embedding_A",
        "base_model.model.lm_head.weight",
    ],
)
def test_a_tensor_without_a_counterpart(
    name: str, make_adapter: Make, tiny_base: BaseModel, tmp_path: Path
) -> None:
    folder = make_adapter()
    path = folder / "adapter_model.safetensors"
    save_file({**load_file(path), name: np.zeros((4, 32), dtype=np.float32)}, path)
    with pytest.raises(RefusedError) as caught:
        export_gguf(AdapterRepo.open(folder), tiny_base, tmp_path / "a.gguf")
    assert caught.value.code == "ZX003"
    assert list(tmp_path.glob("*.gguf")) + list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("config", [{"model_type": "gpt2"}, {}, {"model_type": ["llama"]}])
def test_an_architecture_without_a_layout(config: dict[str, Any]) -> None:
    with pytest.raises(EngineError) as caught:
        architecture(config)
    assert caught.value.code == "ZX002"
