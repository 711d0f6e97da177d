"""A full fine-tune as a LoRA: the leading singular vectors of each weight's difference from the base.

Both models are read one weight at a time. What the rank leaves out, and what is no linear weight and changed
all the same (norms, biases, embeddings), is measured and said.
Source: Eckart & Young, Psychometrika 1936; Fleshman & Van Durme, RE-Adapt, arXiv 2405.15007, section 3.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.converters.base_weights import BaseWeights, open_base_weights
from zoo.converters.checkpoint import LoraCheckpoint
from zoo.converters.forms import Form
from zoo.converters.module_weights import LM_HEAD, tied_embedding
from zoo.converters.modules import broken, find_module
from zoo.converters.source import NO_CONFIG
from zoo.converters.variants.approximation import Approximated, cut, lead
from zoo.errors import NotFoundError, RefusedError
from zoo.models import BaseModel
from zoo.provenance import sha256_file

if TYPE_CHECKING:
    from torch import Tensor

NAME = "full fine-tune"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """One weight's difference, approximated.

    Attributes:
        form: the factors.
        size: Frobenius norm of the whole difference.
    """

    form: Approximated
    size: float


def extract(source: Path, base: BaseModel, *, rank: int) -> LoraCheckpoint:
    """Reads a fine-tuned model as an adapter of its base.

    Args:
        source: its folder, with `config.json` and safetensors weights.
        base: what it was tuned from.
        rank: of every module.

    Raises:
        NotFoundError: no such model folder.
        RefusedError: ZV016, it does not differ from the base; ZV017, it has other weights than the base;
            ZV050, a weight that does not hold plain numbers.
    """
    if not (source / "config.json").is_file():
        raise NotFoundError(
            f"{source} is no model folder: it holds no config.json",
            hint="--extract takes the folder of a fine-tuned model, as save_pretrained wrote it",
        )
    tuned, original = open_base_weights(str(source)), open_base_weights(base)
    _same_names(tuned, original, base)
    modules: dict[str, Extracted] = {}
    dropped: list[tuple[str, float]] = []
    for name, delta, size in _differences(tuned, original):
        path = name.removesuffix(".weight")
        if path in base.linears or path == "lm_head":
            turned = delta.T if base.turns(name) else delta
            form = cut(lead(turned, rank=rank), rank)
            modules[path] = Extracted(form=form, size=float(delta.norm()))
        else:
            dropped.append((name, float(delta.norm()) / size if size else math.inf))
    if not modules:
        raise broken("no linear weight of it differs from the base's")
    worst = max(found.form.error for found in modules.values())
    return LoraCheckpoint(
        format=NAME,
        folder=source,
        name=source.name,
        config=NO_CONFIG,
        modules={path: partial(_form, found) for path, found in sorted(modules.items())},
        shapes={path: find_module(path, base)[1] for path in modules},
        digests={path.name: sha256_file(path) for path in sorted(source.glob("model*.safetensors"))},
        notes=(
            f"weights less the base's → rank {rank} of each of {len(modules)} modules: relative error "
            f"{_total(modules):.3f} of all together, {worst:.3f} of the worst",
        ),
        lost=tuple(_lost(dropped)),
        warnings=(
            "a fine-tune of the whole model is approximated, not converted: measure it, with --recover DATA",
        ),
    )


def _form(found: Extracted) -> Form:
    return found.form


def _total(modules: dict[str, Extracted]) -> float:
    whole = sum(found.size**2 for found in modules.values())
    return math.sqrt(sum((found.form.error * found.size) ** 2 for found in modules.values()) / whole)


def _same_names(tuned: BaseWeights, original: BaseWeights, base: BaseModel) -> None:
    """A tied lm_head may be written by one of them and not by the other."""
    names = {name for name in {*tuned.places} ^ {*original.places} if name != LM_HEAD}
    common = {*tuned.places} & {*original.places}
    names |= {name for name in common if tuned.shape(name) != original.shape(name)}
    if names:
        raise RefusedError(
            f"the fine-tune and {base.id} have other weights: {min(names)[:200]!r} ({len(names)} such)",
            code="ZV017",
            hint="name the model that it was tuned from with --base",
        )


def _differences(tuned: BaseWeights, original: BaseWeights) -> "Iterator[tuple[str, Tensor, float]]":
    """Every weight that differs: its name, the difference in float64, and the norm of the base's."""
    import torch

    for name in sorted({*tuned.places} | {*original.places}):
        after, before = tuned.tensor(_untied(name, tuned)), original.tensor(_untied(name, original))
        coarser = after.dtype if after.element_size() <= before.element_size() else before.dtype
        if torch.equal(after.to(coarser), before.to(coarser)):
            continue
        if not after.isfinite().all():
            raise broken(f"{name} of the fine-tune holds values that are not finite")
        yield name, after.double() - before.double(), float(before.double().norm())


def _untied(name: str, weights: BaseWeights) -> str:
    """A weight's name where it is stored: of an output embedding that is tied, the input embedding's.

    Raises:
        RefusedError: ZV050, by `BaseWeights.tensor`, of what is found in neither place.
    """
    if name in weights.places:
        return name
    return tied_embedding(weights.places) or name


def _lost(dropped: list[tuple[str, float]]) -> Iterator[str]:
    if dropped:
        name, most = max(dropped, key=lambda entry: entry[1])
        yield (
            f"{len(dropped)} changed tensors that are no linear weights; {name} changed most, by {most:.2e} "
            "of its norm"
        )
