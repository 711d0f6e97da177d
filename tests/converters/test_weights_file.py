"""The streaming writer against the library's own, and what it keeps in memory."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from zoo.converters.folded_weights import FoldedWeights
from zoo.converters.weights_file import write_weights

PREFIX = "base_model.model."


def tensors(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    names = [f"{PREFIX}model.layers.{n}.q_proj.lora_{p}.weight" for n in (0, 10, 2) for p in "BA"]
    return {name: torch.randn(3, 5, generator=generator).to(dtype) for name in names}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_the_bytes_are_the_librarys(dtype: torch.dtype, tmp_path: Path) -> None:
    weights = tensors(dtype)
    save_file(weights, tmp_path / "theirs", metadata={"format": "pt"})
    digest = write_weights(tmp_path / "ours", weights)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert digest == hashlib.sha256((tmp_path / "ours").read_bytes()).hexdigest()


def test_mixed_dtypes_and_strides_are_the_librarys_too(tmp_path: Path) -> None:
    weights = {
        **tensors(torch.float32),
        "z": torch.ones(2, dtype=torch.float16),
        "a": torch.ones(4).bfloat16(),
    }
    save_file(weights, tmp_path / "theirs", metadata={"format": "pt"})
    write_weights(tmp_path / "ours", weights)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    turned = {name: tensor.T.contiguous().T for name, tensor in tensors(torch.float32).items()}
    write_weights(tmp_path / "turned", turned)
    found = load_file(tmp_path / "turned")
    assert all(torch.equal(found[name], tensor) for name, tensor in turned.items())


def lazy(calls: list[str]) -> FoldedWeights:
    def maker(path: str) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
        def make() -> tuple[torch.Tensor, torch.Tensor]:
            calls.append(path)
            return torch.ones(2, 5), torch.zeros(7, 2)

        return make

    paths = ["model.layers.0.q_proj", "model.layers.1.q_proj"]
    pairs = {path: maker(path) for path in paths}
    return FoldedWeights(pairs=pairs, sizes=dict.fromkeys(paths, (7, 5)), rank=2, dtype="float32")


def test_lazy_weights_are_made_once_a_module_and_describe_themselves(tmp_path: Path) -> None:
    calls: list[str] = []
    weights = lazy(calls)
    assert len(weights) == len(list(weights)) == 4
    assert weights.shape(f"{PREFIX}model.layers.1.q_proj.lora_B.weight") == (7, 2)
    assert calls == []
    write_weights(tmp_path / "ours", weights)
    assert calls == ["model.layers.0.q_proj", "model.layers.1.q_proj"]
    save_file(dict(weights.items()), tmp_path / "theirs", metadata={"format": "pt"})
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    for name in ("model.layers.0.q_proj.lora_A.weight", f"{PREFIX}model.layers.0.q_proj.lora_C.weight", "x"):
        assert name not in weights


FOLD = """
import resource, sys
from pathlib import Path
from zoo.conversion import convert
from zoo.models import resolve
base = resolve(sys.argv[1])
convert(sys.argv[2], sys.argv[3] + "-first", base=base, invocation_text="<|im_start|>check\\n")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert(sys.argv[4], sys.argv[3], base=base, invocation_text="<|im_start|>check\\n")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_a_conversion_keeps_a_few_modules_in_memory_and_not_the_adapter(tmp_path: Path) -> None:
    """64 MiB of factors in 16 layers; what is added to a small conversion is a few modules of 4 MiB."""
    import json

    from tests.conftest import build_tiny_base

    base = build_tiny_base(tmp_path / "base")
    wide = 16384
    linears = {f"model.layers.{n}.up.weight": torch.zeros(wide, 32).bfloat16() for n in range(16)}
    save_file(linears, base / "model-2.safetensors")
    for name, layers in (("small", 1), ("large", 16)):
        folder = tmp_path / name
        folder.mkdir()
        weights = {}
        for n in range(layers):
            head = f"{PREFIX}model.layers.{n}.up.lora"
            weights[f"{head}_A.weight"] = torch.ones(128, 32).bfloat16()
            weights[f"{head}_B.weight"] = torch.ones(wide, 128).bfloat16()
        save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        config = {"peft_type": "LORA", "r": 128, "lora_alpha": 256, "target_modules": ["up"]}
        (folder / "adapter_config.json").write_text(json.dumps(config))
    arguments = [str(base), str(tmp_path / "small"), str(tmp_path / "out"), str(tmp_path / "large")]
    done = subprocess.run([sys.executable, "-c", FOLD, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 32
