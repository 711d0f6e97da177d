"""A base model as a GGUF file, made once into zoo's cache, so that llama.cpp can run the very same weights.

Two ways: the embedded base comes as GGUF and is rewritten with every tensor dequantised; a folder of a few
architectures is written from its weights. Anything else is the user's own GGUF file.

The token table is written only so that ids have a text: zoo sends ids, never text, to an engine.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo import embedded
from zoo.cache import cache_root
from zoo.converters.exporters.architectures import (
    architecture,
    counted,
    heads_of,
    paired_rows,
    tensor_names,
)
from zoo.errors import EngineError, MissingExtraError
from zoo.models import BaseModel
from zoo.provenance import sha256_file

if TYPE_CHECKING:
    from gguf import GGUFWriter

BaseKind = Literal["f32", "f16", "shipped"]
FORMAT = 1  # of what is written: part of the file's name in the cache
WRITABLE = frozenset({"llama", "mistral", "qwen2", "granite"})


def base_gguf(base: BaseModel, *, kind: BaseKind = "f32") -> Path:
    """The base model's GGUF file; made on the first call, which for the embedded base takes 10 s.

    Args:
        base: the base model.
        kind: dtype of the matrices; `shipped` is the embedded base's own 4-bit file.

    Raises:
        EngineError: ZX004, zoo cannot write this base as GGUF.
        MissingExtraError: the `gguf` package is not installed.
        BaseMissingError: the embedded base's package is not installed.
    """
    if kind == "shipped":
        if not base.embedded:
            raise EngineError(f"{base.id} does not come as GGUF", code="ZX004", hint="give --gguf FILE")
        return embedded.gguf_path()
    if not base.embedded:
        _refuse_unwritable(base)
    _need_gguf()
    target = cache_root() / "gguf" / f"{_digest(base)}-{kind}.gguf"
    if target.is_file():
        return target
    if base.embedded:
        source = embedded.gguf_path()
        return _made(target, lambda path: _rewrite(source, path, kind))
    return _made(target, lambda path: _write(base, path, kind))


def _digest(base: BaseModel) -> str:
    """Over all that the file is made from: two architectures can have the same weights."""
    from hashlib import sha256

    parts = (str(FORMAT), base.weights_sha256, json.dumps(base.config, sort_keys=True))
    return sha256("\0".join((*parts, sha256_file(base.tokenizer_path))).encode()).hexdigest()


def _need_gguf() -> None:
    from importlib.util import find_spec

    if find_spec("gguf") is None:
        raise MissingExtraError("writing GGUF needs the gguf package", hint="pip install 'alora-zoo[llama]'")


def _made(target: Path, write: Callable[[Path], None]) -> Path:
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_suffix(".lock")):
        if not target.is_file():
            partial = target.with_suffix(".partial")  # of a killed run at worst: overwritten here
            try:
                write(partial)
                os.replace(partial, target)
            finally:
                partial.unlink(missing_ok=True)
    return target


def _refuse_unwritable(base: BaseModel) -> None:
    """ZX004 for what the small writer below does not do."""
    config = base.config
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    reasons = {
        f"the architecture {config.get('model_type')!r}": config.get("model_type") not in WRITABLE,
        "scaled rotary embeddings": rope.get("rope_type", rope.get("type", "default")) != "default",
        "a partial rotary embedding": rope.get("partial_rotary_factor", 1.0) != 1.0,
        "a sliding window": bool(config.get("sliding_window")) and config.get("use_sliding_window", True),
    }
    if found := [what for what, there in reasons.items() if there]:
        raise EngineError(
            f"zoo does not write {base.id} as GGUF: {', '.join(found)}",
            code="ZX004",
            hint="convert it with llama.cpp's convert_hf_to_gguf.py --outtype f32 and give --gguf FILE",
        )


def _rewrite(source: Path, target: Path, kind: BaseKind) -> None:
    """A GGUF file with the same metadata and every tensor dequantised; vectors stay float32."""
    import gguf
    import numpy as np
    from gguf.quants import dequantize

    reader = gguf.GGUFReader(source)
    name = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, arch=name)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        main = field.types[0]
        inner = field.types[-1] if main == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), main, sub_type=inner)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if kind == "f16" else gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        plain = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        half = kind == "f16" and plain.ndim == 2
        writer.add_tensor(tensor.name, plain.astype(np.float16) if half else plain)
    _finish(writer)


def _write(base: BaseModel, target: Path, kind: BaseKind) -> None:
    """A GGUF file from a Hugging Face folder."""
    import gguf
    import numpy as np
    from safetensors import safe_open

    config = base.config
    found, names = architecture(config), tensor_names(config)
    writer = gguf.GGUFWriter(target, arch=found.name)
    _add_shape(writer, config)
    _add_tokens(writer, base)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if kind == "f16" else gguf.LlamaFileType.ALL_F32)
    for path in base.weight_files:
        with safe_open(path, framework="pt") as weights:
            for key in sorted(weights.keys()):
                module, _, ending = key.rpartition(".")
                name = names.get_name(module)
                if name is None or ending not in ("weight", "bias"):
                    raise EngineError(f"{key} of {base.id} has no counterpart in GGUF", code="ZX004")
                if key == "lm_head.weight" and config.get("tie_word_embeddings"):
                    continue
                rows = weights.get_tensor(key).float().numpy()
                heads = heads_of(module, config)
                if found.paired and heads:
                    rows = paired_rows(rows, heads)
                half = kind == "f16" and rows.ndim == 2
                rows = np.ascontiguousarray(rows, dtype=np.float16 if half else np.float32)
                writer.add_tensor(f"{name}.{ending}", rows)
    _finish(writer)


def _add_shape(writer: "GGUFWriter", config: Mapping[str, Any]) -> None:
    heads, hidden = counted(config, "num_attention_heads"), counted(config, "hidden_size")
    head = int(config.get("head_dim") or hidden // heads)
    rope = config.get("rope_parameters") or {}
    writer.add_block_count(counted(config, "num_hidden_layers"))
    writer.add_context_length(counted(config, "max_position_embeddings"))
    writer.add_embedding_length(hidden)
    writer.add_feed_forward_length(counted(config, "intermediate_size"))
    writer.add_head_count(heads)
    writer.add_head_count_kv(int(config.get("num_key_value_heads") or heads))
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0))
    writer.add_layer_norm_rms_eps(float(config.get("rms_norm_eps", 1e-6)))
    writer.add_vocab_size(counted(config, "vocab_size"))
    if config["model_type"] == "granite":
        writer.add_attention_scale(float(config["attention_multiplier"]))
        writer.add_embedding_scale(float(config["embedding_multiplier"]))
        writer.add_residual_scale(float(config["residual_multiplier"]))
        writer.add_logit_scale(float(config["logits_scaling"]))


def _add_tokens(writer: "GGUFWriter", base: BaseModel) -> None:
    import gguf

    document = json.loads(base.tokenizer_path.read_bytes())
    model = document["model"]
    special = {entry["id"]: entry["content"] for entry in document.get("added_tokens", [])}
    vocab = model["vocab"]
    if isinstance(vocab, list):  # a unigram model: pairs of text and score
        vocab = {text: number for number, (text, _) in enumerate(vocab)}
    texts = {number: text for text, number in vocab.items()} | special
    tokens, types = [], []
    for number in range(base.vocabulary):
        known = number in texts
        tokens.append(texts[number] if known else f"[PAD{number}]")
        control = number in special
        types.append(gguf.TokenType.CONTROL if control else gguf.TokenType.NORMAL)
        if not known:
            types[-1] = gguf.TokenType.UNUSED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = model.get("merges", [])
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    writer.add_add_bos_token(False)
    for key, add in (("bos_token_id", writer.add_bos_token_id), ("eos_token_id", writer.add_eos_token_id)):
        value = base.config.get(key)
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, int):
            add(value)


def _finish(writer: "GGUFWriter") -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
