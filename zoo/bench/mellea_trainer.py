"""mellea's own trainer as a script, run by the Python of an environment with `mellea[hf]`: it imports no zoo.

`python mellea_trainer.py SAMPLES SETTINGS FOLDER`. Its function `train_model` is called as `m alora train`
calls it; two things are given instead of its own: the prompts (its frame around an item would be another
task) and rank and modules. The rest is its way: alpha, dropout, split, order, schedule, dtype.
Source: mellea 0.8.0, cli/alora/train.py.
"""

import json
import resource
import sys
import time
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "peft", "accelerate", "trl", "mellea")


def main(samples: Path, settings_file: Path, folder: Path) -> None:
    """Trains on samples, lines of `input` and `target`, and writes what `zoo.bench.outcome` reads."""
    import torch

    upstream: Any = import_module("cli.alora.train")
    settings = json.loads(settings_file.read_text(encoding="utf-8"))
    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    kept = _given(upstream, samples, settings)
    prompt = folder / "prompt.json"
    prompt.write_text(json.dumps({"invocation_prompt": settings["invocation"]}), encoding="utf-8")
    begin, cpu = time.perf_counter(), time.process_time()
    upstream.train_model(
        str(samples),
        settings["base"],
        str(folder / "adapter" / "out"),
        prompt_file=str(prompt),
        device=settings["device"],
        epochs=settings["epochs"],
        learning_rate=settings["learning_rate"],
        batch_size=settings["micro_batch"],
        max_length=settings["max_tokens"],
        grad_accum=settings["accumulation"],
    )
    state, cuda = kept[0].state, settings["device"] != "cpu"
    outcome = {
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "cuda_peak_mib": torch.cuda.max_memory_allocated() / 2**20 if cuda else None,
        "steps": state.global_step,
        "losses": [line["loss"] for line in state.log_history if "loss" in line],
        "start": "",
        "versions": {name: _version(name) for name in PACKAGES},
    }
    (folder / "outcome.json").write_text(json.dumps(outcome), encoding="utf-8")
    _write_weights(folder, settings)


def _given(upstream: Any, samples: Path, settings: dict[str, Any]) -> list[Any]:
    """Puts what is given in place of mellea's own; the list takes the trainer that it makes."""
    from transformers import TrainerCallback

    class Tell(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            sys.stdout.write(
                json.dumps({"done": state.global_step, "total": state.max_steps, "note": ""}) + "\n"
            )
            sys.stdout.flush()

    kept: list[Any] = []
    made, config, arguments = upstream.SafeSaveTrainer, upstream.LoraConfig, upstream.SFTConfig

    def trainer(*positional: Any, **options: Any) -> Any:
        options["args"].logging_steps = 1
        options["args"].report_to = []
        kept.append(made(*positional, **{**options, "callbacks": [*options.get("callbacks", ()), Tell()]}))
        return kept[0]

    upstream.SafeSaveTrainer = trainer
    upstream.LoraConfig = lambda **given: config(
        **{**given, "r": settings["rank"], "target_modules": settings["targets"]}
    )
    if settings["device"] == "cpu":  # trl 0.19.1 asks for bfloat16 there, which transformers 5 refuses
        upstream.SFTConfig = lambda **given: arguments(**given, bf16=False, use_cpu=True)
    lines = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    columns = {name: [line[name] for line in lines] for name in ("input", "target")}
    dataset: Any = import_module("datasets").Dataset
    upstream.load_dataset_from_json = lambda *_: dataset.from_dict(columns)
    return kept


def _write_weights(folder: Path, settings: dict[str, Any]) -> None:
    """Its weights with its scale of 32 / rank in B, as if they had been trained with ours."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "adapter" / "out" / "adapter_model.safetensors")
    change = 32 / settings["alpha"]
    scaled = {k: (v.float() * change if "lora_B" in k else v.float()) for k, v in weights.items()}
    save_file(scaled, folder / "weights.safetensors")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
