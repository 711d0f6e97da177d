"""What a breakage does to a release folder: edits of its config, weights, files, base and lock."""

import json
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file

from zoo.models import BaseModel, resolve
from zoo.prompts import Prompter
from zoo.provenance import payload_digests
from zoo.report import Severity

WEIGHTS = "adapter_model.safetensors"
Mutation = Callable[[Path, BaseModel], BaseModel | None]
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Breakage:
    """One fault: what makes it, what flags it, and what else it makes wrong."""

    mutate: Mutation
    code: str
    severity: Severity = Severity.ERROR
    also: frozenset[str] = field(default_factory=frozenset)
    locks: bool = True  # write the lock again, as the author of such a release would have
    environment: str = ""  # the name, beside the release, of another environment's interpreter


def break_release(folder: Path, base: BaseModel, breakage: Breakage) -> BaseModel:
    """Applies a breakage in place; returns the base to validate with."""
    changed = breakage.mutate(folder, base) or base
    if breakage.locks:
        relock(folder, changed)
    return changed


def relock(folder: Path, base: BaseModel) -> None:
    path = folder / "zoo.lock.json"
    lock = json.loads(path.read_text())
    lock["files"] = payload_digests(folder)
    lock["base"] = base.lock().model_dump(mode="json")
    path.write_text(json.dumps(lock))


def config(**changes: Any) -> Mutation:
    def mutate(folder: Path, base: BaseModel) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes, indent=2))

    return mutate


def config_text(old: str, new: str) -> Mutation:
    def mutate(folder: Path, base: BaseModel) -> None:
        path = folder / "adapter_config.json"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return mutate


def spec(**changes: Any) -> Mutation:
    def mutate(folder: Path, base: BaseModel) -> None:
        path = folder / "zoo.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes, sort_keys=False))

    return mutate


def lock(change: Callable[[dict[str, Any]], None]) -> Mutation:
    def mutate(folder: Path, base: BaseModel) -> None:
        path = folder / "zoo.lock.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return mutate


def file(name: str, content: bytes) -> Mutation:
    def mutate(folder: Path, base: BaseModel) -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)

    return mutate


def weights(change: Callable[[Tensors], Tensors | None]) -> Mutation:
    def mutate(folder: Path, base: BaseModel) -> None:
        tensors = load_file(folder / WEIGHTS)
        changed = change(tensors)
        save_file(tensors if changed is None else changed, folder / WEIGHTS)

    return mutate


def both(*mutations: Mutation) -> Mutation:
    def mutate(folder: Path, base: BaseModel) -> BaseModel | None:
        changed = None
        for mutation in mutations:
            changed = mutation(folder, changed or base) or changed
        return changed

    return mutate


def invocation(text: str, position: str = "after_prompt") -> Mutation:
    """An adapter with another invocation: text and ids belong together."""

    def mutate(folder: Path, base: BaseModel) -> None:
        ids = list(Prompter(base).encode(text))
        config(alora_invocation_tokens=ids)(folder, base)
        spec(invocation={"text": text, "position": position})(folder, base)

    return mutate


def merged(folder: Path, base: BaseModel) -> None:
    """Ids that no prompt contains, because their text merges with what the template writes before it."""
    prompter, text = Prompter(base), "\n<|im_start|>check\n"
    if prompter.encode("\n" + text)[1:] != prompter.encode(text):
        invocation(text)(folder, base)
    else:
        invocation("ssistant\n", "generation_prompt")(folder, base)


def template(source: str) -> Mutation:
    """The same base with another chat template."""

    def mutate(folder: Path, base: BaseModel) -> BaseModel:
        copy = _copied(folder, base)
        (copy / "chat_template.jinja").write_text(source)
        return resolve(str(copy))

    return mutate


def _copied(folder: Path, base: BaseModel) -> Path:
    return Path(shutil.copytree(base.folder, folder.parent / "other-base"))


def tokenizer_that_cuts(folder: Path, base: BaseModel) -> BaseModel:
    """The same base with a tokenizer file that truncates, as one saved after training often does."""
    copy = _copied(folder, base)
    path = copy / "tokenizer.json"
    cut = {"max_length": 16, "direction": "Right", "strategy": "LongestFirst", "stride": 0}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"truncation": cut}))
    return resolve(str(copy))


def samples(*contents: str) -> Mutation:
    return spec(samples=[[{"role": "user", "content": content}] for content in contents])


FAKE_TOKENIZERS = """
__version__ = "0.0.1"
class Tokenizer:
    @staticmethod
    def from_file(path):
        return Tokenizer()
    def no_truncation(self): ...
    no_padding = no_truncation
    def encode(self, text, add_special_tokens):
        self.ids = [ord(character) for character in text]
        return self
"""


def shim(path: Path, modules: Mapping[str, str]) -> None:
    """An interpreter that is ours, with made-up modules in front of what is installed."""
    site = path.with_name(f"{path.name}-site")
    site.mkdir()
    for name, source in modules.items():
        (site / f"{name}.py").write_text(source)
    code = (
        f"import sys, runpy; sys.path.insert(0, {str(site)!r}); "
        "runpy.run_path(sys.argv[-1], run_name='__main__')"
    )
    path.write_text(f'#!/bin/sh\nexec {sys.executable} -I -c "{code}" "$@"\n')
    path.chmod(0o755)


NO_TRANSFORMERS = {"transformers": "raise ImportError"}


def other_environment(folder: Path, base: BaseModel) -> None:
    shim(folder.parent / "other-python", {"tokenizers": FAKE_TOKENIZERS, **NO_TRANSFORMERS})


def link(folder: Path, base: BaseModel) -> None:
    (folder.parent / "outside.md").write_text("elsewhere")
    (folder / "NOTES.md").symlink_to(folder.parent / "outside.md")


def second_name(folder: Path, base: BaseModel) -> None:
    (folder.parent / "outside.md").write_text("elsewhere")
    os.link(folder.parent / "outside.md", folder / "NOTES.md")


def licensed(licence: str) -> Mutation:
    """The same base, whose card states a licence."""

    def mutate(folder: Path, base: BaseModel) -> BaseModel:
        copy = _copied(folder, base)
        (copy / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
        return resolve(str(copy))

    return mutate


def renamed_pickle(folder: Path, base: BaseModel) -> None:
    with (folder / WEIGHTS).open("wb") as stream:
        pickle.dump({"a": list(range(1000))}, stream)


def renamed_torch_file(folder: Path, base: BaseModel) -> None:
    torch.save({"a": torch.ones(3)}, folder / WEIGHTS)


def truncated(folder: Path, base: BaseModel) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:-100])


def _first(tensors: Tensors, part: str) -> str:
    return next(name for name in sorted(tensors) if f"lora_{part}" in name)


def not_a_number(tensors: Tensors) -> None:
    name = _first(tensors, "B")
    tensors[name].view(-1)[7] = float("nan")


def infinite_half(tensors: Tensors) -> Tensors:
    halves = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
    halves[_first(tensors, "A")].view(-1)[-1] = float("-inf")
    return halves


def integers(tensors: Tensors) -> Tensors:
    return {name: tensor.to(torch.int32) for name, tensor in tensors.items()}


def without(part: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        del tensors[_first(tensors, part)]

    return change


def without_module(tensors: Tensors) -> None:
    module = _first(tensors, "A").removesuffix(".lora_A.weight")
    for part in "AB":
        del tensors[f"{module}.lora_{part}.weight"]


def wider(tensors: Tensors) -> None:
    name = _first(tensors, "A")
    tensors[name] = torch.cat([tensors[name], tensors[name]], dim=1)


def silent(tensors: Tensors) -> Tensors:
    return {name: torch.zeros_like(t) if "lora_B" in name else t for name, t in tensors.items()}


def old_spelling(tensors: Tensors) -> Tensors:
    return {name.replace(".weight", ".default.weight"): tensor for name, tensor in tensors.items()}


def with_embedding(tensors: Tensors) -> None:
    tensors["base_model.model.model.embed_tokens.lora_embedding_A"] = torch.ones(4, 400)


def _other_tokenizer_config(content: dict[str, Any]) -> None:
    content["base"]["tokenizer_config_sha256"] = "0" * 64


def _no_tokenizer(content: dict[str, Any]) -> None:
    content["base"]["tokenizer_sha256"] = "0" * 64


def _regex(folder: Path, base: BaseModel) -> None:
    config(target_modules="(.*)*Z(.*)*Y(.*)*X")(folder, base)


def _remove(name: str) -> Mutation:
    def mutate(folder: Path, base: BaseModel) -> None:
        (folder / name).unlink()

    return mutate
