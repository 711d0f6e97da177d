"""Damaged and hostile checkpoints: every layout that zoo reads, broken in every way that can be seen."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.conftest import build_adapter
from tests.converters import oracle
from tests.converters.layouts import LAYOUTS
from tests.converters.peft_methods import EXACT, build
from zoo.models import BaseModel

# another spelling of a layout that is damaged already, or a pickle, each of which costs a process
ALIKE = (
    "mlx with alpha", "torchtune with config", "kohya without alpha", "litgpt q v", "litgpt all",
    "megatron canonical", "reslora", "reslora without paths",
)  # fmt: skip
METHODS = (
    "adalora", "loha", "lokr", "vera", "delora", "hra", "tinylora", "unilora", "psoft not orthogonal", "osf",
    "peanut",
)  # fmt: skip
Tensors = dict[str, torch.Tensor]
Case = tuple[str, Path, dict[str, torch.Tensor] | None, dict[str, Any]]


def layouts(
    base: BaseModel, folder: Path
) -> Iterator[tuple[str, Path, dict[str, torch.Tensor], dict[str, Any]]]:
    """Undamaged checkpoints: name, path, truth, options."""
    folder.mkdir()
    for name, (_, make, said) in LAYOUTS.items():
        if name in ALIKE:
            continue
        made = make(base, folder / name.replace(" ", "-"))
        yield name, made.path, made.updates, said
    plain = build_adapter(base, folder / "peft")
    yield "peft", plain, oracle.deltas(base, plain), {}
    for name in METHODS:
        source = build(base, folder / name, *EXACT[name])
        yield name, source, oracle.deltas(base, source), {}


def weights_of(path: Path) -> Path:
    """The file of weights of a checkpoint."""
    if path.is_file():
        return path
    return next(
        file
        for file in sorted(path.iterdir())
        if file.suffix in (".safetensors", ".npz", ".pt", ".lora", ".bin", ".nemo")
    )


def rewrite(file: Path, change: Callable[[Tensors], Tensors]) -> bool:
    """Changes the tensors of a safetensors file or a pickle; False for other kinds."""
    if file.suffix == ".safetensors":
        save_file({n: t.contiguous() for n, t in change(load_file(file)).items()}, file)
    elif file.suffix in (".pt", ".lora", ".bin"):
        content = torch.load(file, weights_only=True)
        nested = "model" in content
        found = change(content["model"] if nested else content)
        torch.save({"model": found} if nested else found, file)
    else:
        return False
    return True


def _first(weights: Tensors, rank: int = 2) -> str:
    return next(name for name in sorted(weights) if weights[name].dim() == rank)


def _replaced(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Tensors], Tensors]:
    return lambda w: {n: change(t) if n == _first(w) else t for n, t in w.items()}


CHANGES: dict[str, Callable[[Tensors], Tensors]] = {
    "a tensor missing": lambda w: {n: t for n, t in w.items() if n != _first(w)},
    "a tensor turned": _replaced(lambda t: t.T if t.shape[0] != t.shape[1] else t[:, :-1]),
    "a nan": _replaced(lambda t: torch.where(torch.arange(t.numel()).view(t.shape) == 0, torch.nan, t)),
    "an infinity": _replaced(lambda t: torch.where(torch.arange(t.numel()).view(t.shape) == 0, torch.inf, t)),
    "integers": _replaced(lambda t: t.to(torch.int32)),
    "a column short": _replaced(lambda t: t[:, :-1]),
    "a row short": _replaced(lambda t: t[:-1]),
    "three dimensions": _replaced(lambda t: t[None]),
    "a stray tensor": lambda w: {**w, "model.norm.weight": torch.full((32,), 2.0)},
    "a layer too many": lambda w: {
        **w,
        **{n.replace("0", "7", 1): t.clone() for n, t in w.items() if "0" in n},
    },
    "no tensors": lambda w: {},
    "names of nothing": lambda w: {f"x{i}": t for i, t in enumerate(w.values())},
}
BYTES: dict[str, Callable[[bytes], bytes]] = {
    "cut in half": lambda b: b[: len(b) // 2],
    "cut at the head": lambda b: b[:20],
    "empty": lambda b: b"",
    "noise": lambda b: bytes(range(256)) * 8,
    "a header of a terabyte": lambda b: (1 << 40).to_bytes(8, "little") + b[8:],
    "bytes behind the end": lambda b: b + b"\0" * 7,
}


def damaged(base: BaseModel, folder: Path) -> Iterator[Case]:
    """Every damaged checkpoint: name, path, the undamaged update where it may survive, options."""
    for name, path, truth, said in layouts(base, folder / "whole"):
        root = path if path.is_dir() else path.parent
        for kind, change in CHANGES.items():
            copy = _copy(root, folder / f"{name}-{kind}".replace(" ", "-"))
            file = copy / weights_of(path).name
            if rewrite(file, change):
                yield f"{name}: {kind}", copy if path.is_dir() else copy / path.name, truth, said
        for kind, broken in BYTES.items():
            copy = _copy(root, folder / f"{name}-{kind}".replace(" ", "-"))
            file = copy / weights_of(path).name
            file.write_bytes(broken(file.read_bytes()))
            yield f"{name}: {kind}", copy if path.is_dir() else copy / path.name, truth, said
    yield from _configs(base, folder)


def _configs(base: BaseModel, folder: Path) -> Iterator[Case]:
    source = build_adapter(base, folder / "config-source")
    changes: dict[str, dict[str, Any]] = {
        "rank of text": {"r": "four"},
        "rank of another": {"r": 5},
        "rank of ten million": {"r": 10_000_000},
        "alpha of nothing": {"lora_alpha": None},
        "alpha without end": {"lora_alpha": 1e300},
        "a pattern without end": {"rank_pattern": {"(.*)*Z(.*)*Y(.*)*X": 4}},
        "a peft type of numbers": {"peft_type": 7},
        "an unknown peft type": {"peft_type": "WONDER"},
        "a residual": {"base_model_name_or_path": "someone/pissa-res"},
    }
    for name, change in changes.items():
        copy = _copy(source, folder / f"config-{name}".replace(" ", "-"))
        path = copy / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        yield f"config: {name}", copy, None, {}
    for name, text in {"cut": '{"peft_type": "LO', "deep": "[" * 100_000, "a list": "[]"}.items():
        copy = _copy(source, folder / f"config-{name}".replace(" ", "-"))
        (copy / "adapter_config.json").write_text(text)
        yield f"config: {name}", copy, None, {}


def _copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target
