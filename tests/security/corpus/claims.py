"""A release that is not what it says: another base behind the name, a licence that the base rules out."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.security.corpus.pickles import WEIGHTS
from tests.security.hostile import Change, Door, Hostile
from tests.validators.changes import both, config, lock, spec, template
from zoo.models import BaseModel, resolve


def base_with(edit: Callable[[Path], None]) -> Change:
    """The same name over another base: a copy of it, edited."""

    def change(folder: Path, base: BaseModel) -> BaseModel:
        copy = Path(shutil.copytree(base.folder, folder.parent / "another-base"))
        edit(copy)
        return resolve(str(copy))

    return change


def other_weights(copy: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = copy / "model.safetensors"
    tensors = {name: tensor * 1.5 for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def one_bit(copy: Path) -> None:
    path = copy / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


def other_words(copy: Path) -> None:
    path = copy / "tokenizer.json"
    document = json.loads(path.read_text())
    vocabulary = document["model"]["vocab"]
    one, two = sorted(vocabulary)[-2:]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    path.write_text(json.dumps(document))


def other_ending(copy: Path) -> None:
    path = copy / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token": "<|endoftext|>"}))


def under(licence: str) -> Change:
    """The base's own card states a licence."""

    def edit(copy: Path) -> None:
        (copy / "README.md").write_text(f"---\nlicense: {licence}\n---\n# A model\n")

    return base_with(edit)


def named(name: str) -> Change:
    """An adapter that says it was made for another model, everywhere it says so."""

    def relocked(content: dict[str, Any]) -> None:
        content["base"]["id"] = name

    return both(config(base_model_name_or_path=name), spec(base={"id": name}), lock(relocked))


def other_numbers(folder: Path, base: BaseModel) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-7] ^= 1
    (folder / WEIGHTS).write_bytes(content)


def _base(name: str, change: Change, code: str, door: Door = Door.VALIDATE) -> Hostile:
    return Hostile(family="base", name=name, code=code, change=change, door=door, relock=False)


def _licence(base: str, adapter: str) -> Hostile:
    return Hostile(
        family="licence",
        name=f"{adapter} on {base}",
        code="ZM003",
        change=both(under(base), spec(license=adapter)),
    )


CLAIMS = (
    _base("other weights under its name", base_with(other_weights), "ZL004", Door.VALIDATE_ALL),
    _base("one bit of its weights", base_with(one_bit), "ZL004", Door.VALIDATE_ALL),
    _base("other weights, published", base_with(other_weights), "ZL004", Door.PUBLISH),
    _base("another tokenizer", base_with(other_words), "ZL003"),
    _base("another end of text", base_with(other_ending), "ZL003"),
    _base("another template", template("{% for m in messages %}{{ m.content }}{% endfor %}"), "ZL003"),
    _base("another name in the config", config(base_model_name_or_path="org/other"), "ZC010"),
    _base("another name in zoo.yaml", spec(base={"id": "org/other"}), "ZM002"),
    _base("another name everywhere", named("org/other"), "ZL003"),
    _base("a name that differs by a look-alike", named("tests/tiny-ll\u0430ma"), "ZC012"),
    _base("weights changed after the check", other_numbers, "ZL002"),
    _base("weights changed after the check, verified", other_numbers, "ZA002", Door.VERIFY),
    _licence("llama3.1", "apache-2.0"),
    _licence("gemma", "mit"),
    _licence("cc-by-nc-4.0", "apache-2.0"),
    _licence("cc-by-nc-sa-4.0", "cc-by-4.0"),
    _licence("cc-by-nd-4.0", "cc-by-nd-4.0"),
    _licence("cc-by-sa-4.0", "apache-2.0"),
    _licence("agpl-3.0", "mit"),
    _licence("openrail", "bsd-3-clause"),
    _licence("llama2", "llama3.1"),
)
