"""Ways to break a release, each with the code that has to flag it.

Every mutation leaves a release that is otherwise in order (its lock is written again), so that the code that
flags it is the one for that fault, and not the digest check.
"""

import json
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


TOKEN = "hf_" + "aB3" * 11  # the shape of a Hub token, and nobody's
WARNING, INFO = Severity.WARNING, Severity.INFO

BREAKAGES: Mapping[str, Breakage] = {
    "python file": Breakage(mutate=file("modeling.py", b"print()"), code="ZF001"),
    "pickle of weights": Breakage(
        mutate=file("adapter_model.bin", b"\x80\x02."), code="ZF001", also=frozenset({"ZF003"})
    ),
    "training debris": Breakage(mutate=file("trainer_state.json", b"{}"), code="ZF001"),
    "unknown file": Breakage(mutate=file("data.csv", b"a,b\n"), code="ZF001"),
    "unknown folder": Breakage(mutate=file("checkpoint-10/README.md", b"x"), code="ZF001"),
    "symbolic link": Breakage(mutate=link, code="ZF002"),
    "backslash in a name": Breakage(mutate=file("a\\..\\b.md", b"x"), code="ZF002"),
    "names that differ in case": Breakage(
        mutate=both(file("Notes.md", b"x"), file("NOTES.md", b"x")), code="ZF002"
    ),
    "pickle renamed": Breakage(mutate=renamed_pickle, code="ZF003"),
    "torch file renamed": Breakage(mutate=renamed_torch_file, code="ZF003"),
    "truncated weights": Breakage(mutate=truncated, code="ZF003"),
    "no weights": Breakage(mutate=_remove(WEIGHTS), code="ZF003"),
    "text that is none": Breakage(mutate=file("NOTES.md", b"\xff\xfe\x00\x00"), code="ZF003"),
    "picture that is none": Breakage(mutate=file("images/plot.png", b"<svg>"), code="ZF003"),
    "huge document": Breakage(mutate=file("NOTES.md", b"x" * 4_100_000), code="ZF004"),
    "secret": Breakage(mutate=file("NOTES.md", f"login with\n{TOKEN}\n".encode()), code="ZF005"),
    "huge r": Breakage(mutate=config(r=10_000_000), code="ZC001"),
    "huge r for one module": Breakage(mutate=config(rank_pattern={"q_proj": 5_000_000}), code="ZC001"),
    "a key twice": Breakage(mutate=config_text('"r": 4', '"r": 4, "r": 4'), code="ZC001"),
    "alpha is no number": Breakage(mutate=config(lora_alpha=float("nan")), code="ZC001"),
    "negative ids": Breakage(mutate=config(alora_invocation_tokens=[-1]), code="ZC001"),
    "no task type": Breakage(mutate=config(task_type=None), code="ZC002"),
    "another PEFT type": Breakage(mutate=config(peft_type="IA3"), code="ZC002"),
    "bias": Breakage(mutate=config(bias="all"), code="ZC003"),
    "modules to save": Breakage(mutate=config(modules_to_save=["lm_head"]), code="ZC004"),
    "trained tokens": Breakage(mutate=config(trainable_token_indices=[5]), code="ZC004"),
    "DoRA": Breakage(mutate=config(use_dora=True), code="ZC005"),
    "KaSA": Breakage(mutate=config(kasa_config={"beta": 1}), code="ZC005"),
    "PiSSA": Breakage(mutate=config(init_lora_weights="pissa_niter_4"), code="ZC006"),
    "replicated layers": Breakage(mutate=config(layer_replication=[[0, 2]] * 2000), code="ZC006"),
    "alpha is not r": Breakage(mutate=config(lora_alpha=8), code="ZC007", severity=WARNING),
    "rsLoRA": Breakage(mutate=config(use_rslora=True), code="ZC007", severity=WARNING),
    "hostile expression": Breakage(mutate=_regex, code="ZC008"),
    "hostile pattern": Breakage(
        mutate=config(rank_pattern={"(.*)*x": 4}), code="ZC008", also=frozenset({"ZC007"})
    ),
    "no targets": Breakage(mutate=config(target_modules=None), code="ZC008"),
    "unknown key": Breakage(mutate=config(alora_mode="late"), code="ZC009", severity=INFO),
    "another base": Breakage(
        mutate=config(base_model_name_or_path="org/other"), code="ZC010", also=frozenset({"ZM002"})
    ),
    "base is a path": Breakage(
        mutate=config(base_model_name_or_path="../../etc"),
        code="ZC010",
        severity=WARNING,
        also=frozenset({"ZM002"}),
    ),
    "class to import": Breakage(
        mutate=config(auto_mapping={"base_model_class": "X", "parent_library": "evil"}), code="ZC011"
    ),
    "module to import": Breakage(mutate=config(megatron_core="evil"), code="ZC011"),
    "bad YAML": Breakage(mutate=file("zoo.yaml", b"name: [unclosed"), code="ZM001"),
    "misspelt key": Breakage(mutate=spec(licence="mit"), code="ZM001"),
    "no zoo.yaml": Breakage(mutate=_remove("zoo.yaml"), code="ZM001"),
    "two bases": Breakage(mutate=spec(base={"id": "org/other"}), code="ZM002"),
    "skip of no check": Breakage(
        mutate=spec(gate={"allowed_skips": {"ZX999": "because"}}), code="ZM002", severity=WARNING
    ),
    "no lock": Breakage(mutate=_remove("zoo.lock.json"), code="ZL001", locks=False),
    "damaged lock": Breakage(mutate=file("zoo.lock.json", b'{"format": 1}'), code="ZL001", locks=False),
    "changed weights": Breakage(
        mutate=weights(infinite_half), code="ZL002", also=frozenset({"ZW001"}), locks=False
    ),
    "author's file that is not recorded": Breakage(
        mutate=file("NOTES.md", b"x"), code="ZL002", locks=False, severity=INFO
    ),
    "file that is gone": Breakage(
        mutate=lock(lambda content: content["files"].update({"conformance.safetensors": "0" * 64})),
        code="ZL002",
        locks=False,
    ),
    "another tokenizer config": Breakage(mutate=lock(_other_tokenizer_config), code="ZL003", locks=False),
    "another tokenizer": Breakage(mutate=lock(_no_tokenizer), code="ZL003", locks=False),
    "another template": Breakage(
        mutate=template("{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"),
        code="ZL003",
        locks=False,
    ),
    "NaN": Breakage(mutate=weights(not_a_number), code="ZW001"),
    "infinite bfloat16": Breakage(mutate=weights(infinite_half), code="ZW001"),
    "integer weights": Breakage(mutate=weights(integers), code="ZW001"),
    "missing tensor": Breakage(mutate=weights(without("B")), code="ZW002"),
    "missing A": Breakage(mutate=weights(without("A")), code="ZW002"),
    "target without tensors": Breakage(
        mutate=config(target_modules=["q_proj", "k_proj", "v_proj", "x_proj"]), code="ZW002"
    ),
    "wrong rank": Breakage(mutate=config(r=8, lora_alpha=8), code="ZW003"),
    "embedding": Breakage(mutate=weights(with_embedding), code="ZW004"),
    "old spelling": Breakage(mutate=weights(old_spelling), code="ZW004"),
    "tensors without target": Breakage(mutate=config(target_modules=["q_proj", "k_proj"]), code="ZW004"),
    "untrained": Breakage(mutate=weights(silent), code="ZW005"),
    "missing module": Breakage(mutate=weights(without_module), code="ZW006"),
    "wrong shape": Breakage(mutate=weights(wider), code="ZW007"),
    "plain LoRA without ids": Breakage(mutate=config(alora_invocation_tokens=None), code="ZI001"),
    "empty ids": Breakage(mutate=config(alora_invocation_tokens=[]), code="ZI001"),
    "ids of another tokenizer": Breakage(mutate=config(alora_invocation_tokens=[1, 10**9]), code="ZI002"),
    "wrong ids": Breakage(mutate=config(alora_invocation_tokens=[1, 40, 41]), code="ZI003"),
    "ids that only occur merged": Breakage(mutate=merged, code="ZI004"),
    "wrong position": Breakage(
        mutate=spec(invocation={"text": "<|im_start|>check\n", "position": "generation_prompt"}), code="ZI004"
    ),
    "tokens at a boundary": Breakage(
        mutate=invocation("<check>", "in_message"), code="ZI005", also=frozenset({"ZI008"})
    ),
    "ends in padding": Breakage(mutate=invocation("<|im_start|>check<|endoftext|>"), code="ZI006"),
    "last id twice": Breakage(
        mutate=invocation("<|im_start|>check<|im_start|>"), code="ZI007", severity=WARNING
    ),
    "inside a message": Breakage(
        mutate=invocation("<|im_start|>check<|im_end|>", "in_message"), code="ZI008", severity=WARNING
    ),
    "published requirement": Breakage(
        mutate=both(invocation("<requirements>", "in_message"), samples("Is it polite?\n<requirements>: X")),
        code="ZI004",
        also=frozenset({"ZI005"}),
    ),
    "sample that writes it twice": Breakage(
        mutate=samples("What does <|im_start|>check\n do?"), code="ZI004", severity=WARNING
    ),
    "sample longer than the context": Breakage(mutate=samples("yes no " * 2000), code="ZI009"),
    "sample that pushes it out of the context": Breakage(
        mutate=both(
            invocation("<|im_start|>check<|im_end|>", "in_message"),
            samples("<|im_start|>check<|im_end|>" + "yes no " * 2000),
        ),
        code="ZI009",
        also=frozenset({"ZI008"}),
    ),
    "sample with text behind it": Breakage(
        mutate=both(
            invocation("<|im_start|>check<|im_end|>", "in_message"),
            samples("<|im_start|>check<|im_end|>" + "yes no " * 20),
        ),
        code="ZI009",
        severity=WARNING,
        also=frozenset({"ZI008"}),
    ),
    "tokenizer that cuts": Breakage(mutate=tokenizer_that_cuts, code="ZI009", severity=WARNING),
    "everyday words": Breakage(mutate=invocation("Answer:"), code="ZI010"),
    "a line break": Breakage(
        mutate=invocation("\n", "generation_prompt"), code="ZI010", also=frozenset({"ZI004"})
    ),
    "an article": Breakage(mutate=invocation(" the"), code="ZI010", also=frozenset({"ZI004"})),
    "letters of everyday words": Breakage(
        mutate=invocation("elevant"), code="ZI010", severity=WARNING
    ),
    "another environment": Breakage(
        mutate=other_environment, code="ZT003", environment="other-python"
    ),
    "template that raises": Breakage(mutate=template("{{ raise_exception('no') }}"), code="ZT001"),
    "no template": Breakage(mutate=template(""), code="ZT001"),
    "template of its own": Breakage(
        mutate=file("chat_template.jinja", b"{{ messages }}"), code="ZT002", severity=WARNING
    ),
    "tokenizer with code": Breakage(
        mutate=file("tokenizer_config.json", b'{"auto_map": {"AutoTokenizer": "evil.X"}}'), code="ZT002"
    ),
}  # fmt: skip

# The ten of issue 2, on which main-3 is measured.
TEN = (
    "bias", "wrong ids", "ids that only occur merged", "tokens at a boundary", "NaN", "wrong rank",
    "plain LoRA without ids", "missing tensor", "pickle renamed", "huge r",
)  # fmt: skip
