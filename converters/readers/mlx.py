"""Reads MLX-LM's adapters: factors stored transposed, and a scale that is the whole scale.

`adapter_config.json` has `fine_tune_type`, `num_layers` and `lora_parameters` with `rank` and `scale`. In its
first months the scale was multiplied by alpha over rank as well; such configs have `alpha`.
Source: ml-explore/mlx-lm, mlx_lm/tuner/lora.py and dora.py (d78bf58, 35d46a9).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from zoo.converters.checkpoint import LoraCheckpoint, Reader, ReadOptions
from zoo.converters.forms import Form
from zoo.converters.module_weights import ModuleWeights
from zoo.converters.modules import broken, find_module, once
from zoo.converters.readers.pairs import Factor, assemble, complete, grouped, no_others, pair, renamed
from zoo.converters.source import Source
from zoo.converters.variants.approximation import Dense, approximated_modules
from zoo.converters.variants.dense import Decomposed
from zoo.errors import RefusedError
from zoo.models import BaseModel

NAME = "mlx-lm"
_ENDINGS = {".lora_a": "lora_a", ".lora_b": "lora_b", ".m": "m"}


def accepts(source: Source) -> bool:
    """Whether the config is MLX-LM's."""
    return bool(source.document)


def read(source: Source, base: BaseModel, options: ReadOptions) -> LoraCheckpoint:
    """Reads the folder.

    Raises:
        RefusedError: ZV001, whole layers were trained; ZV005, an embedding; ZV008, a DoRA; ZV010, experts;
            ZV015 to ZV017; ZV024, no scale.
    """
    kind = source.document.get("fine_tune_type", "lora")
    if kind not in ("lora", "dora"):
        raise RefusedError(
            f"{source.folder.name} trained whole layers (fine_tune_type {str(kind)[:40]!r})",
            code="ZV001",
            hint="fuse it with mlx_lm.fuse and convert the model with --extract RANK",
        )
    modules, others = grouped(source.file.shapes, _ENDINGS)
    no_others(others)
    weights = ModuleWeights(base=base)
    plain: dict[str, Callable[[], Form]] = {}
    doras: dict[str, Callable[[], Dense]] = {}
    shapes, places = {}, {}
    for written, parts in modules.items():
        complete(written, parts, "lora_a", "lora_b", *(["m"] if kind == "dora" else []))
        _no_embedding(written)
        path, shape = find_module(written, base)
        a = Factor(source=source, name=parts["lora_a"], turned=True)
        b = Factor(source=source, name=parts["lora_b"], turned=True)
        load = pair(path, shape, a, b, _scale(source, a.shape[0]))
        shapes[path], places[written] = shape, path
        if "m" in parts:
            magnitude = partial(_magnitude, source, parts["m"], shape[0])
            weight = partial(weights.load, path)
            doras[path] = partial(_decomposed, load, magnitude, weight)
        else:
            plain[path] = load
    once(places.values())
    if doras:
        what = "is a DoRA, whose magnitudes rescale the base weight"
        plain |= approximated_modules(
            source.folder.name, what, doras, max_error=options.max_error, code="ZV008", teacher=False
        )
    said = source.document.get("lora_parameters")
    scale = said if isinstance(said, dict) else {}
    return assemble(
        source,
        NAME,
        plain,
        shapes,
        notes=[
            f"factors turned round; MLX's scale {scale.get('scale')} is the whole scale, folded into lora_B"
        ],
        renames=renamed(places),
        lost=[f"dropout {scale['dropout']}, which acts in training only"] if scale.get("dropout") else [],
        warnings=[
            "MLX trains over quantised copies as readily as over the base itself: nothing says which it was"
        ],
    )


READER = Reader(name=NAME, accepts=accepts, read=read)


def _scale(source: Source, rank: int) -> float:
    parameters = source.document.get("lora_parameters")
    values: Any = parameters if isinstance(parameters, dict) else {}
    scale, alpha = values.get("scale"), values.get("alpha")
    for value in (scale, alpha):
        if value is not None and (
            not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e6
        ):
            raise broken(f"lora_parameters has {str(value)[:40]!r} for a scale")
    if scale is None:
        raise RefusedError(
            f"{source.folder.name}: lora_parameters has no scale",
            code="ZV024",
            hint="write the training run's into adapter_config.json (MLX-LM's default is 20.0, once 10.0)",
        )
    stated = values.get("rank")
    if stated is not None and stated != rank:
        raise broken(f"a factor has rank {rank}, lora_parameters says {str(stated)[:20]}")
    return float(scale) if alpha is None else float(scale) * float(alpha) / rank


def _no_embedding(written: str) -> None:
    if written.endswith(("embed_tokens", "wte", "word_embeddings")):
        raise RefusedError(
            f"{written[:200]} is an embedding, through which the prefix passes",
            code="ZV005",
            hint="train again with linear layers only",
        )


def _magnitude(source: Source, name: str, out: int) -> Any:
    tensor = source.file.load(name)
    if tuple(tensor.shape) != (out,) or not tensor.is_floating_point() or not tensor.isfinite().all():
        raise broken(f"{name[:200]} is no vector of {out} finite magnitudes")
    return tensor


def _decomposed(load: Callable[[], Any], magnitude: Callable[[], Any], weight: Callable[[], Any]) -> Dense:
    return Decomposed(plain=load(), magnitude=magnitude(), weight=weight)
