"""Figure convert-4: folds that need base weights, on an 8B-class base in shards, against reading the shards.

Run it with `.venv/bin/python -m tests.benchmarks.convert_bases`. The base is made in a temporary folder: one
shard a layer, of which the adapted layers are whole (random bfloat16, 436 MB each) and the others holes in
files. Nothing that is measured is in memory before: the shards are put out of the page cache first, for the
fold and for the reading it is held against. Every measurement is a process of its own.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.benchmarks.convert_large import CLOCK, IMPORTS, LAYERS, LINEARS, NAME, TAIL, Cost, child
from tests.benchmarks.evidence import record
from tests.conftest import build_tiny_base

if TYPE_CHECKING:
    import torch

WHOLE, RANK, BAR_MIB, BLOCK, ROUNDS = 2, 16, 1536, 1 << 20, 12
ALL = tuple(LINEARS)
SOME = ("self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj")  # one of each shape: each takes many seconds
SIZES = {"hidden_size": 4096, "intermediate_size": 14336, "head_dim": 128, "num_attention_heads": 32}

CONVERT = (
    IMPORTS
    + """
from pathlib import Path
from zoo.conversion import convert
from zoo.models import BaseModel
base = BaseModel(id="big/base", revision=sys.argv[3], folder=Path(sys.argv[1]))
initial = Path(sys.argv[2]).with_name("initial")
"""
    + CLOCK
    + """
convert(sys.argv[2], sys.argv[4], base=base, invocation_text="<|im_start|>check\\n",
        initial=initial if Path(sys.argv[2]).name == "PiSSA" else None)
"""
    + TAIL
)


def build_base(folder: Path) -> Path:
    """A Llama of 8B size in a shard a layer."""
    build_tiny_base(folder)
    (folder / "model.safetensors").unlink()
    config = json.loads((folder / "config.json").read_text())
    config |= SIZES | {"num_hidden_layers": LAYERS, "num_key_value_heads": 8}
    (folder / "config.json").write_text(json.dumps(config))
    for layer in range(LAYERS):
        shapes = {f"model.layers.{layer}.{name}.weight": shape for name, shape in LINEARS.items()}
        write_shard(folder / f"model-{layer:05d}.safetensors", shapes, whole=layer < WHOLE)
    return folder


def write_shard(path: Path, shapes: dict[str, tuple[int, int]], *, whole: bool) -> None:
    import torch

    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * shape[1]
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    raw = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(len(raw).to_bytes(8, "little") + raw)
        for number, shape in enumerate(shapes.values() if whole else ()):
            generator = torch.Generator().manual_seed(number)
            values = torch.randn(shape, generator=generator).mul_(0.02).bfloat16()
            stream.write(memoryview(values.view(torch.uint8).numpy()))  # type: ignore[arg-type]
        stream.truncate(8 + len(raw) + end)
        stream.flush()
        os.fsync(stream.fileno())


def modules(names: Sequence[str], layers: int) -> Iterator[tuple[str, tuple[int, int]]]:
    for layer in range(layers):
        yield from ((f"model.layers.{layer}.{name}", LINEARS[name]) for name in names)


def build(folder: Path, names: Sequence[str], layers: int, parts: Any, config: dict[str, Any]) -> Path:
    """An adapter folder of the modules, each with the tensors that `parts` makes."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir()
    generator = torch.Generator().manual_seed(len(folder.name))  # the trained one and the initial one differ
    weights = {
        f"base_model.model.{path}.{part}": tensor
        for path, shape in modules(names, layers)
        for part, tensor in parts(shape, generator).items()
    }
    save_file(weights, folder / NAME, metadata={"format": "pt"})
    config |= {
        "task_type": "CAUSAL_LM", "bias": "none", "r": RANK, "base_model_name_or_path": "big/base",
        "target_modules": sorted({name.rpartition(".")[2] for name in names}), "inference_mode": True,
    }  # fmt: skip
    if layers < LAYERS:
        config["layers_to_transform"] = list(range(layers))
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def lora(shape: tuple[int, int], generator: "torch.Generator", *, kasa: bool = False) -> dict[str, Any]:
    import torch

    made = {
        "lora_A.weight": torch.randn(RANK, shape[1], generator=generator) / 64,
        "lora_B.weight": torch.randn(shape[0], RANK, generator=generator) / 64,
    }
    return made | ({"lora_diag": torch.rand(RANK, generator=generator)} if kasa else {})


def kasa(shape: tuple[int, int], generator: "torch.Generator") -> dict[str, Any]:
    return lora(shape, generator, kasa=True)


def hra(shape: tuple[int, int], generator: "torch.Generator") -> dict[str, Any]:
    import torch

    return {"hra_u": torch.randn(shape[1], RANK, generator=generator)}


def build_adapters(root: Path) -> None:
    plain = {"peft_type": "LORA", "lora_alpha": RANK}
    build(root / "HRA", ALL, WHOLE, hra, {"peft_type": "HRA", "apply_GS": False})
    build(root / "KaSA", SOME, 1, kasa, {**plain, "kasa_config": {}})
    build(root / "PiSSA", ALL, WHOLE, lora, {**plain, "init_lora_weights": "pissa"})
    build(root / "initial", ALL, WHOLE, lora, {**plain, "init_lora_weights": "pissa"})


def needed(root: Path) -> dict[str, list[tuple[Path, Callable[[str], bool]]]]:
    """The shards whose weights each method's fold is held against, and which tensors of them."""
    shards = [root / "base" / f"model-{layer:05d}.safetensors" for layer in range(WHOLE)]
    every = [(shard, lambda _: True) for shard in shards]
    some = [(shards[0], lambda name: name.partition(".0.")[2].removesuffix(".weight") in SOME)]
    return {"HRA": every, "KaSA": some, "PiSSA": every}


def read(places: list[tuple[Path, Callable[[str], bool]]]) -> Cost:
    """Reads tensors once and keeps nothing."""
    from zoo.safetensors_header import read_header

    room = bytearray(BLOCK)
    begin, spent = time.perf_counter(), time.process_time()
    for path, wanted in places:
        with path.open("rb", buffering=0) as stream:
            for info in read_header(path).tensors.values():
                if not wanted(info.name):
                    continue
                stream.seek(info.begin)
                left = info.size_bytes
                while left:
                    left -= stream.readinto(memoryview(room)[: min(left, BLOCK)])
    return Cost(wall=time.perf_counter() - begin, cpu=time.process_time() - spent)


def forget(places: list[tuple[Path, Callable[[str], bool]]]) -> None:
    """Puts files out of the page cache."""
    for path, _ in places:
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(root: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for method, places in needed(root).items():
        readings, mades = [], []
        for _ in range(1 if method == "KaSA" else ROUNDS):
            forget(places)
            readings.append(read(places))
            forget(places)
            mades.append(child(CONVERT, root / "base", root / method, root / "out"))
        # a disk and a machine are now faster, now slower: each fold is held against the reading beside it
        over = [made.wall / reading.wall for made, reading in zip(mades, readings, strict=True)]
        found[method] = {
            "modules": len(
                list(modules(SOME if method == "KaSA" else ALL, 1 if method == "KaSA" else WHOLE))
            ),
            "seconds": round(median(one.wall for one in mades), 2),
            "cpu_seconds": round(median(one.cpu for one in mades), 2),
            "read_seconds": round(median(one.wall for one in readings), 2),
            "read_cpu_seconds": round(median(one.cpu for one in readings), 2),
            "over_reading": round(median(over), 2),
            "over_reading_by_round": [round(one, 2) for one in over],
            "peak_mib": round(max(one.peak for one in mades)),
        }
    return found


def value(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What is held against the bar, by method, and all the rest behind it."""
    headlines = ("over_reading", "peak_mib")
    shown = {name: {method: one[name] for method, one in found.items()} for name in headlines}
    return {**shown, "measured": [{"method": method, **one} for method, one in found.items()]}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="zoo-convert-4-") as name:
        root = Path(name)
        build_base(root / "base")
        build_adapters(root)
        found = measure(root)
    record(
        "convert",
        "convert-4",
        f"rank-{RANK} adapters folded that need base weights or a second adapter, 8B-class base in shards",
        value(found),
        f"<= 2 times reading the needed weights once; peak <= {BAR_MIB} MiB",
        all(one["over_reading"] <= 2 and one["peak_mib"] <= BAR_MIB for one in found.values()),
        "reading the needed weights once in the same run, out of the page cache as the fold finds them",
        ".venv/bin/python -m tests.benchmarks.convert_bases",
        note=f"medians of {ROUNDS} rounds in turn, of KaSA one; each fold against the reading "
        "just before it; HRA and "
        f"PiSSA on all modules of {WHOLE} layers, KaSA on one module of each shape; PiSSA's "
        "needs the adapter before training and no base weights: held against the shards of its modules; "
        "KaSA's needs the smallest singular vectors of each weight, for which half of out x in x min(out, in)"
        " multiplications in float64 are the beginning: 120 thousand million for a feed-forward module",
    )


if __name__ == "__main__":
    main()
