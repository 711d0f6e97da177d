"""Figures convert-1, convert-2, convert-5, convert-6: what folds compute, against PEFT and trainers.

.venv/bin/python -m tests.benchmarks.convert_folds [ID …]
"""

import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.convert_damage import damaged
from tests.benchmarks.evidence import record
from tests.conftest import build_tiny_base
from tests.converters import oracle
from tests.converters.layouts import LAYOUTS
from tests.converters.peft_methods import EXACT, build
from zoo.converters.checkpoint import ReadOptions
from zoo.converters.fold import Folded, fold
from zoo.converters.readers import read_checkpoint
from zoo.converters.source import Source
from zoo.errors import RefusedError, ZooError
from zoo.models import BaseModel, load_model, resolve

Tensor = torch.Tensor
COMMAND = ".venv/bin/python -m tests.benchmarks.convert_folds"
BAR = 1e-6
CASES = 128
SIZE, RANK = 4096, 8


def folded(path: Path, base: BaseModel, **options: Any) -> Folded:
    return fold(read_checkpoint(Source.open(path), base, ReadOptions(**options)), base.linears)


def updates(result: Folded) -> dict[str, Tensor]:
    return {
        name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): result.weights[
            name.replace("lora_A", "lora_B")
        ].double()
        @ tensor.double()
        for name, tensor in result.weights.items()
        if ".lora_A." in name
    }


def error(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    if set(found) != set(wanted):
        return float("inf")
    return max(float((found[path] - wanted[path]).norm() / wanted[path].norm()) for path in wanted)


def gpt2(folder: Path) -> BaseModel:
    """A base whose linear layers are stored transposed (fan in, fan out)."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).save_pretrained(folder)
    return resolve(str(folder))


def drawn(rng: random.Random) -> Iterator[tuple[str, dict[str, Any], bool, bool]]:
    """Random configurations: PEFT class, settings, whether saved in bfloat16, whether over the GPT-2."""
    patterned = ("Lora", "LoHa", "LoKr")
    kinds = [*sorted({kind for kind, _ in EXACT.values()}), "Lora", "Lora", "Lora"]
    for index in range(CASES):
        kind = kinds[index % len(kinds)]
        settings = dict(rng.choice([found for name, found in EXACT.values() if name == kind] or [{}]))
        rank = rng.choice([1, 2, 3, 4])
        wide = kind in ("Lora", "AdaLora") and rng.random() < 0.4
        if kind == "AdaLora":
            settings |= {"init_r": rank, "target_r": rank, "lora_alpha": rng.choice([1, 3, 16])}
        elif kind in patterned:
            alpha = "lora_alpha" if kind == "Lora" else "alpha"
            settings |= {"r": rank, alpha: rng.choice([1, 3, 16])}
            if rng.random() < 0.5:
                module = "c_fc" if wide else "k_proj"
                settings |= {"rank_pattern": {module: rank + 1}, "alpha_pattern": {module: 5}}
            if kind == "Lora":
                settings["use_rslora"] = rng.random() < 0.5
        if wide:
            settings |= {"fan_in_fan_out": True, "target_modules": ["c_attn", "c_fc"]}
        yield kind, settings, kind != "VBLoRA" and rng.random() < 0.3, wide  # PEFT cannot load that in half


def measure_folds(folder: Path) -> None:
    """convert-1."""
    llama, turned = resolve(str(build_tiny_base(folder / "llama"))), gpt2(folder / "gpt2")
    worst: dict[str, float] = {}
    wrong = refused = 0
    for index, (kind, settings, half, wide) in enumerate(drawn(random.Random(6))):
        base = turned if wide else llama
        source = build(base, folder / f"source-{index}", kind, settings)
        if half:
            oracle.edit_weights(
                source, lambda w: {n: t.bfloat16() if t.is_floating_point() else t for n, t in w.items()}
            )
        try:
            found = error(updates(folded(source, base)), oracle.deltas(base, source))
        except RefusedError:
            refused += 1
            continue
        worst[kind] = max(worst.get(kind, 0.0), found)
        wrong += not found <= BAR
    for name, (_, make, said) in LAYOUTS.items():
        made = make(llama, folder / name.replace(" ", "-"))
        worst[name] = error(updates(folded(made.path, llama, **said)), made.updates)
        wrong += not worst[name] <= BAR
    record(
        "convert",
        "convert-1",
        f"Largest relative error of a folded module over {CASES} random PEFT configurations and "
        f"{len(LAYOUTS)} layouts of other trainers, by method; cases that were wrong or refused.",
        {"worst": max(worst.values()), "wrong": wrong, "refused": refused, **dict(sorted(worst.items()))},
        f"every error <= {BAR:g}, none wrong, none refused",
        not wrong and not refused,
        "PEFT's own forward in float64; for other trainers their formula on their layout in float64",
        f"{COMMAND} convert-1",
    )


def by_peft(base: BaseModel, source: Path, wanted: dict[str, Tensor]) -> float | str:
    """The error of PEFT's own conversion at full rank, or that it refuses."""
    from peft import PeftModel, convert_to_lora

    model: Any = PeftModel.from_pretrained(load_model(base), source).eval()
    try:
        _, weights = convert_to_lora(model, rank=1.0)
    except (TypeError, ValueError) as refusal:
        return f"refused: {str(refusal)[:60]}"
    except RuntimeError as failure:
        return f"fails: {str(failure)[:60]}"
    found = {}
    for path in wanted:
        key = next(name for name in weights if name.endswith(f"{path}.lora_A.weight"))
        found[path] = weights[key.replace("lora_A", "lora_B")].double() @ weights[key].double()
    return error(found, wanted)


def measure_known_traps(folder: Path) -> None:
    """convert-2."""
    from peft.tuners.lora.config import BdLoraConfig, KasaConfig

    base = resolve(str(build_tiny_base(folder / "base")))
    blocks = BdLoraConfig(target_modules_bd_a=["o_proj"], target_modules_bd_b=["q_proj"], nblocks=2)
    cases: dict[str, tuple[str, dict[str, Any]]] = {
        "DoRA": ("Lora", {"r": 4, "use_dora": True}),
        "lora_bias": ("Lora", {"r": 4, "lora_bias": True}),
        "AdaLoRA": EXACT["adalora"],
        "HRA": EXACT["hra"],
        "KaSA": ("Lora", {"r": 4, "kasa_config": KasaConfig()}),
        "BD-LoRA": ("Lora", {"r": 4, "use_bdlora": blocks, "target_modules": ["q_proj", "o_proj"]}),
        "PiSSA": ("Lora", {"r": 4, "init_lora_weights": "pissa"}),
        "OLoRA": ("Lora", {"r": 4, "init_lora_weights": "olora"}),
    }
    value: dict[str, dict[str, float | str]] = {}
    for name, (kind, settings) in cases.items():
        options: dict[str, Any] = {}
        source = build(base, folder / name, kind, settings)
        if name in ("PiSSA", "OLoRA"):
            options["initial"] = initial(base, folder / f"{name}-before", settings)
        wanted = over_the_whole_base(base, source)
        try:
            ours: float | str = error(updates(folded(source, base, **options)), wanted)
        except RefusedError as refusal:
            ours = f"refused: {refusal.code}"
        value[name] = {"zoo": ours, "peft": by_peft(base, source, wanted)}
    fine = all(isinstance(found["zoo"], str) or found["zoo"] <= BAR for found in value.values())
    record(
        "convert",
        "convert-2",
        "Relative error of the worst module over the original base weights, or the refusal, for cases that "
        "peft.convert_to_lora gets wrong silently and those it refuses though they are of low rank.",
        value,
        f"zoo: every error <= {BAR:g}, or refused",
        fine,
        "peft.convert_to_lora with all of the energy of the same checkpoint in the same run",
        f"{COMMAND} convert-2",
    )


def initial(base: BaseModel, folder: Path, settings: dict[str, Any]) -> Path:
    """The factors before training, saved as a plain LoRA: the inits are deterministic."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "k_proj", "down_proj"], **settings)
    model: Any = get_peft_model(load_model(base), config)
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def over_the_whole_base(base: BaseModel, source: Path) -> dict[str, Tensor]:
    """What adapted layers compute by PEFT, less the original weights, which some variants change."""
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    model: Any = PeftModel.from_pretrained(load_model(base), source).eval()
    original = load_model(base)
    found = {}
    layers: list[tuple[str, Any]] = [
        (name.removeprefix("base_model.model."), module)
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
    ]
    for path, module in layers:
        with torch.no_grad():
            unit = torch.eye(module.in_features)
            weight = original.get_submodule(path).get_parameter("weight")
            found[path] = module(unit).T.double() - weight.double()
    return found


def measure_speed(folder: Path) -> None:
    """convert-5."""
    from peft import LoHaConfig, VeraConfig, get_peft_model
    from peft.tuners.lora.conversion import _convert_module_to_lora
    from safetensors.torch import save_file

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q_proj = torch.nn.Linear(SIZE, SIZE, bias=False)

    torch.manual_seed(0)
    (folder / "base").mkdir()
    save_file({"q_proj.weight": torch.zeros(SIZE, SIZE)}, folder / "base" / "model.safetensors")
    (folder / "base" / "config.json").write_text('{"model_type": "llama", "vocab_size": 8}')
    base = BaseModel(id="one-layer", revision="", folder=folder / "base")
    value: dict[str, dict[str, float]] = {}
    makes: dict[str, tuple[Any, int]] = {
        "LoHa r 8": (LoHaConfig(r=8, target_modules=["q_proj"], init_weights=False), 64),
        "VeRA r 256": (VeraConfig(r=256, target_modules=["q_proj"], init_weights=False), 256),
    }
    for name, (config, rank) in makes.items():
        model: Any = get_peft_model(Layer(), config)
        model.save_pretrained(str(folder / name))
        folded(folder / name, base)  # imports
        begin = time.perf_counter()
        folded(folder / name, base)
        ours = time.perf_counter() - begin
        layer = model.base_model.model.q_proj
        begin = time.perf_counter()
        _convert_module_to_lora(layer, rank=rank)
        theirs = time.perf_counter() - begin
        value[name] = {"zoo_s": ours, "peft_s": theirs, "ratio": theirs / ours}
    record(
        "convert",
        "convert-5",
        f"Seconds to fold one {SIZE}×{SIZE} layer, with its check, and PEFT's converter on the same layer.",
        value,
        "ratio >= 50",
        all(found["ratio"] >= 50 for found in value.values()),
        "peft's _convert_module_to_lora (a full SVD) in the same process",
        f"{COMMAND} convert-5",
    )


def measure_damage(folder: Path) -> None:
    """convert-6."""
    base = resolve(str(build_tiny_base(folder / "base")))
    counts = {"refused": 0, "right": 0, "warned": 0, "wrong": 0, "crashed": 0}
    slowest, bad = 0.0, []
    for name, path, truth, said in damaged(base, folder):
        begin = time.perf_counter()
        try:
            checkpoint = read_checkpoint(Source.open(path), base, ReadOptions(**said))
            found = updates(fold(checkpoint, base.linears))
            warned = any("holds nothing for" in warning for warning in checkpoint.warnings)
            right = truth is not None and error(found, truth) <= 1e-5
            outcome = "right" if right else "warned" if warned else "wrong"
        except ZooError:
            outcome = "refused"
        except Exception as crash:
            outcome = "crashed"
            print(f"{name}: {type(crash).__name__}: {crash}", file=sys.stderr)
        slowest = max(slowest, time.perf_counter() - begin)
        counts[outcome] += 1
        if outcome in ("wrong", "crashed"):
            bad.append(f"{name} {outcome}")
            print(bad[-1], file=sys.stderr, flush=True)
    record(
        "convert",
        "convert-6",
        "Damaged or hostile inputs by what came of them, and the slowest one's seconds.",
        {"inputs": sum(counts.values()), **counts, "slowest_s": round(slowest, 1), "bad": bad},
        ">= 200 inputs, none wrong without a refusal or a warning, no crash, none over 60 s",
        sum(counts.values()) >= 200 and not bad and slowest < 60,
        "the undamaged checkpoint's update, which harmless damage must leave",
        f"{COMMAND} convert-6",
    )


MEASURES: dict[str, Callable[[Path], None]] = {
    "convert-1": measure_folds,
    "convert-2": measure_known_traps,
    "convert-5": measure_speed,
    "convert-6": measure_damage,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for wanted in sys.argv[1:] or MEASURES:
        with tempfile.TemporaryDirectory(prefix="zoo-folds-") as scratch:
            MEASURES[wanted](Path(scratch))
