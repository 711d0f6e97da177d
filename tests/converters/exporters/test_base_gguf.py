"""Base models as GGUF; that llama.cpp computes our numbers with them is tested with the engines."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.converters.exporters.test_gguf_adapter import read
from tests.validators.conformance.bench import build_base
from zoo import embedded
from zoo.converters.exporters import base_gguf as module
from zoo.converters.exporters.architectures import paired_rows
from zoo.converters.exporters.base_gguf import base_gguf
from zoo.errors import EngineError, MissingExtraError
from zoo.models import BaseModel, resolve


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_folder(tiny_base: BaseModel) -> None:
    path = base_gguf(tiny_base)
    keys, tensors = read(path)
    weights = load_file(tiny_base.folder / "model.safetensors")
    assert keys["llama.block_count"] == 2
    assert keys["llama.attention.head_count_kv"] == 2
    assert len(keys["tokenizer.ggml.tokens"]) == keys["llama.vocab_size"] == tiny_base.vocabulary
    assert keys["tokenizer.ggml.tokens"][1] == "<|im_start|>"
    ours = weights["model.layers.0.self_attn.q_proj.weight"]
    assert np.array_equal(tensors["blk.0.attn_q.weight"], paired_rows(ours, 4))
    assert np.array_equal(tensors["token_embd.weight"], weights["model.embed_tokens.weight"])
    _, halves = read(base_gguf(tiny_base, kind="f16"))
    assert halves["blk.0.attn_q.weight"].dtype == np.float16
    assert halves["blk.0.attn_norm.weight"].dtype == np.float32


def test_it_is_made_once_and_again_for_other_content(tiny_base: BaseModel, tmp_path: Path) -> None:
    path = base_gguf(tiny_base)
    made = path.stat().st_mtime_ns
    assert base_gguf(resolve(str(tiny_base.folder))) == path
    assert path.stat().st_mtime_ns == made
    other = shutil.copytree(tiny_base.folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text()) | {"rms_norm_eps": 1e-3}
    (other / "config.json").write_text(json.dumps(config))
    assert base_gguf(resolve(str(other))) != path  # the same weights, not the same model


def test_a_failure_leaves_nothing(
    tiny_base: BaseModel, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(writer: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_finish", full)
    with pytest.raises(OSError, match="No space"):
        base_gguf(tiny_base)
    assert [path.suffix for path in (own_cache / "gguf").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "gpt2"}, "the architecture 'gpt2'"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "scaled rotary"),
        ({"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}}, "partial rotary"),
        ({"sliding_window": 4}, "sliding window"),
    ],
    ids=str,
)
def test_what_it_does_not_write(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    base = build_base(tmp_path / "base")
    document = json.loads((base.folder / "config.json").read_text()) | change
    (base.folder / "config.json").write_text(json.dumps(document))
    with pytest.raises(EngineError, match=words) as caught:
        base_gguf(resolve(str(base.folder)))
    assert caught.value.code == "ZX004"
    assert "--gguf" in caught.value.hint


def test_a_tensor_that_gguf_has_no_name_for(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    base = build_base(tmp_path / "base")
    path = base.folder / "model.safetensors"
    save_file({**load_file(path), "model.strange.weight": np.zeros(3, np.float32)}, path)
    with pytest.raises(EngineError, match=r"model\.strange\.weight"):
        base_gguf(base)


def test_without_the_package(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError):
        base_gguf(tiny_base)


def test_only_the_embedded_base_is_shipped_as_gguf(tiny_base: BaseModel) -> None:
    with pytest.raises(EngineError):
        base_gguf(tiny_base, kind="shipped")


def test_a_gguf_file_is_rewritten_without_its_quantisation(tmp_path: Path) -> None:
    import gguf
    from gguf.quants import quantize

    source, target = tmp_path / "q.gguf", tmp_path / "f.gguf"
    rows = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    packed = quantize(rows, gguf.GGMLQuantizationType.Q4_1)
    writer = gguf.GGUFWriter(source, arch="llama")
    writer.add_token_list(["a", "b"])
    writer.add_array("general.languages", ["en"])
    writer.add_bool("tokenizer.ggml.add_bos_token", False)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1)
    writer.add_tensor("token_embd.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    writer.add_tensor("output_norm.weight", rows[0])
    module._finish(writer)
    module._rewrite(source, target, "f32")
    before, (keys, tensors) = read(source)[0], read(target)
    same = before.keys() - {"general.file_type"}
    assert {key: keys[key] for key in same} == {key: before[key] for key in same}
    assert keys["general.file_type"] == 0
    unpacked = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q4_1)
    assert np.array_equal(tensors["token_embd.weight"], unpacked)
    assert 0 < np.abs(unpacked - rows).max() < 0.5
    assert np.array_equal(tensors["output_norm.weight"], rows[0])


@pytest.mark.slow
def test_the_embedded_base_is_its_own_file_dequantised(embedded_base: BaseModel, own_cache: Path) -> None:
    keys, tensors = read(base_gguf(embedded_base))
    assert keys["general.file_type"] == 0
    weights = load_file(embedded_base.folder / "model.safetensors")
    assert np.array_equal(tensors["blk.3.ffn_up.weight"], weights["model.layers.3.mlp.up_proj.weight"])
    ours = weights["model.layers.3.self_attn.q_proj.weight"]
    assert np.array_equal(tensors["blk.3.attn_q.weight"], paired_rows(ours, 9))
    assert base_gguf(embedded_base, kind="shipped") == embedded.gguf_path()
    assert os.listdir(own_cache / "gguf")
