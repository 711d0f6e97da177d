"""What every exporter starts from: one adapter in normal form, whatever it was stored as."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.adapter import WEIGHTS_NAME, AdapterRepo
from zoo.converters.base_weights import streamed
from zoo.converters.canonical import one_thread
from zoo.converters.fold import Folded, fold
from zoo.converters.keys import PREFIX
from zoo.converters.planning import base_warnings, resolve_base
from zoo.converters.rank import A, B
from zoo.converters.readers import read_checkpoint
from zoo.converters.source import Source
from zoo.converters.tensors import finite
from zoo.converters.weights_file import write_weights
from zoo.errors import RefusedError, UsageError
from zoo.layouts import CONFIG_NAME
from zoo.models import BaseModel
from zoo.progress import Progress, silent

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class NormalForm:
    """An adapter whose update of each module is `B @ A`: one rank, scale 1, nothing else in it.

    Attributes:
        name: for people.
        base: the base model; its weights may not be here.
        folded: the weights.
        invocation_ids: what activates it; empty for a plain LoRA.
        warnings: what the user should look at.
    """

    name: str
    base: BaseModel
    folded: Folded
    invocation_ids: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: Path, *, base: str = "", progress: Progress = silent) -> "NormalForm":
        """Reads an adapter of any format and folds it.

        Args:
            path: an adapter folder, a library with one, or a file of weights.
            base: see `zoo.models.resolve`; the one that the adapter names when empty.
            progress: told about each module.

        Raises:
            NotFoundError: no such path, no adapter there, or no such base.
            BaseMissingError: the base cannot be had here.
            RefusedError: ZV…, it is no update of plain low rank.
            UsageError: an alora 0.x adapter: its ids depend on how its boundary is read.
        """
        source = Source.open(path)
        known = streamed(resolve_base(source, base, weights=False))
        checkpoint = read_checkpoint(source, known)
        stated = checkpoint.invocation
        if stated is not None and not stated.ids:
            raise UsageError(
                f"{source.folder.name} states its invocation in alora 0.x's way",
                hint=f"zoo convert {path} OUT settles its ids; export that",
            )
        return cls(
            name=source.name,
            base=known,
            folded=fold(checkpoint, known.linears, progress=progress),
            invocation_ids=stated.ids if stated else (),
            warnings=(*checkpoint.warnings, *base_warnings(checkpoint, known)),
        )

    @cached_property
    def modules(self) -> "Mapping[str, tuple[Tensor, Tensor]]":
        """A `[rank, in]` and B `[out, rank]` by module path."""
        weights = self.folded.weights
        return {
            name.removeprefix(PREFIX).partition(A)[0]: (weights[name], weights[name.replace(A, B)])
            for name in sorted(weights)
            if A in name
        }

    def without_invocation(self) -> "NormalForm":
        """The same weights as a plain LoRA, which acts on every token."""
        return replace(self, invocation_ids=())

    def cast(self, dtype: str) -> "tuple[NormalForm, float]":
        """The weights in another dtype, and the largest relative error of a module that this makes.

        Args:
            dtype: as torch spells it, such as `bfloat16`.

        Raises:
            RefusedError: ZV021, a factor has values beyond what the dtype can hold.
        """
        import torch

        from zoo.converters.canonical import distance, inner

        if dtype == self.folded.dtype:
            return self, 0.0
        made = {name: tensor.to(getattr(torch, dtype)) for name, tensor in self.folded.weights.items()}
        beyond = next((name for name, tensor in made.items() if not finite(tensor)), "")
        if beyond:
            raise RefusedError(
                f"{beyond[:200]} has values that {dtype} cannot hold",
                code="ZV021",
                hint="--dtype bfloat16 or float32, whose range is wider",
            )
        worst = 0.0
        with one_thread():
            for name in (name for name in made if A in name):
                a, b = self.folded.weights[name], self.folded.weights[name.replace(A, B)]
                size = max(inner(a, b, a, b), 0.0) ** 0.5
                off = distance(a, b, made[name], made[name.replace(A, B)])
                worst = max(worst, off / size if size else 0.0)
        return replace(self, folded=replace(self.folded, weights=made, dtype=dtype)), worst


def write_peft(form: NormalForm, folder: Path) -> AdapterRepo:
    """Writes PEFT's two files into an existing folder; byte-stable for the same adapter.

    Raises:
        OSError: the folder cannot be written.
    """
    import json

    from zoo.converters.release_folder import adapter_config

    config = adapter_config(
        rank=form.folded.rank,
        targets=form.folded.targets,
        base=form.base,
        invocation_ids=form.invocation_ids,
    )
    if not form.invocation_ids:
        config["alora_invocation_tokens"] = None
    (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    write_weights(folder / WEIGHTS_NAME, form.folded.weights)
    return AdapterRepo(root=folder, name=form.name)
