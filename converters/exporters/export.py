"""`zoo export`: an adapter in the files of another engine, and what that engine will do with it."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from zoo.activation import CONVENTIONS, Behaviour
from zoo.converters.exporters.gguf_adapter import export_gguf
from zoo.converters.exporters.mlx import write_mlx
from zoo.converters.exporters.normal_form import NormalForm, write_peft
from zoo.converters.exporters.torchtune import recipe_settings, write_torchtune
from zoo.errors import RefusedError, UsageError
from zoo.staging import check_target, staged_folder

Format = Literal["peft", "gguf", "mlx", "vllm", "sglang", "torchtune"]
EVERY_TOKEN = ("mlx", "sglang", "torchtune")  # they have no invocation: the adapter acts on the whole prompt
SERVED_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # vllm 0.33.0, vllm/config/lora.py, `MaxLoRARanks`
_WRITERS: Mapping[str, Callable[[NormalForm, Path], object]] = {
    "peft": write_peft,
    "vllm": write_peft,
    "sglang": write_peft,
    "mlx": write_mlx,
    "torchtune": write_torchtune,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """An export that was carried out.

    Attributes:
        out: the file or folder.
        format: of it.
        rank: of every module.
        modules: how many are adapted.
        dtype: of the factors.
        error: largest relative error of a module from the dtype that was asked for; 0 where it was kept.
        activated: whether the invocation is in it.
        notes: what its engine does with it, and how to load it.
        warnings: what the user should look at.
    """

    out: Path
    format: Format
    rank: int
    modules: int
    dtype: str
    error: float
    activated: bool
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The export for people, one fact a line."""
        rounding = f", rounding {self.error:.1e}" if self.error else ""
        return [
            f"wrote       {self.out} ({self.format})",
            f"weights     {self.modules} modules, rank {self.rank}, {self.dtype}{rounding}",
            *(f"note        {note}" for note in self.notes),
            *(f"warning     {warning}" for warning in self.warnings),
        ]

    def to_document(self) -> dict[str, Any]:
        """The export as plain data."""
        return {
            "out": str(self.out),
            "format": self.format,
            "rank": self.rank,
            "modules": self.modules,
            "dtype": self.dtype,
            "error": self.error,
            "activated": self.activated,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


def export(
    form: NormalForm, out: Path, format: Format, *, dtype: str = "", every_token: bool = False
) -> Export:
    """Writes an adapter for another engine; the target appears whole or not at all.

    Args:
        form: the adapter.
        out: a new folder; for GGUF a file.
        format: which engine's.
        dtype: of the factors, as torch spells it; the adapter's own when empty.
        every_token: leave the invocation out, so that it acts on every token.

    Raises:
        UsageError: the target exists, or GGUF in a dtype that it is not written in.
        RefusedError: ZX007, an aLoRA for an engine without invocations; ZX001 to ZX006, what the format
            cannot say.
        MissingExtraError: GGUF without its package.
    """
    if every_token:
        form = form.without_invocation()
    if form.invocation_ids and format in EVERY_TOKEN:
        raise RefusedError(
            f"{format} has no activated LoRA: it would apply the adapter to every token, which is another "
            "function",
            code="ZX007",
            hint="say --every-token if that is what you want",
        )
    check_out(out, format)
    form, error = form.cast(dtype) if dtype else (form, 0.0)
    if format == "gguf":
        form, more = _write_gguf(form, out)
        error = max(error, more)
    else:
        with staged_folder(out) as stage:
            _WRITERS[format](form, stage)
    return Export(
        out=out,
        format=format,
        rank=form.folded.rank,
        modules=len(form.modules),
        dtype=form.folded.dtype,
        error=error,
        activated=bool(form.invocation_ids),
        notes=tuple(_notes(form, out, format)),
        warnings=form.warnings,
    )


def check_out(out: Path, format: Format) -> None:
    """Refuses a target that exists, before any work.

    Raises:
        UsageError: a folder that is not empty, or for GGUF anything at all.
    """
    if format != "gguf":
        check_target(out)
    elif out.exists():
        raise UsageError(f"{out} exists", hint="name a new file, such as adapter.gguf")


def _write_gguf(form: NormalForm, out: Path) -> tuple[NormalForm, float]:
    """GGUF holds float32 or float16; bfloat16 widens to float32 without a loss."""
    form, error = form.cast("float16" if form.folded.dtype == "float16" else "float32")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="zoo-export-") as scratch:
        repo = write_peft(form, Path(scratch))
        export_gguf(repo, form.base, out, kind="f16" if form.folded.dtype == "float16" else "f32")
    return form, error


def _notes(form: NormalForm, out: Path, format: Format) -> list[str]:
    lines = []
    served = next((rank for rank in SERVED_RANKS if rank >= form.folded.rank), None)
    if format == "vllm" and served is None:
        lines.append(f"rank {form.folded.rank} is above {SERVED_RANKS[-1]}, the largest that vLLM serves")
    elif format == "vllm":
        lines.append(
            f"vllm serve {form.base.id} --enable-lora --max-lora-rank {served} "
            f"--lora-modules {form.name}={out}"
        )
    if format == "sglang":
        lines.append(
            f"python -m sglang.launch_server --model-path {form.base.id} --lora-paths {form.name}={out}"
        )
    if form.invocation_ids and format in ("vllm", "gguf"):
        engine = "llama-server" if format == "gguf" else format
        lines += [
            f"{one.engine} {one.versions}: {_does(one.behaviour)}"
            for one in CONVENTIONS
            if one.engine == engine
        ]
    if not form.invocation_ids:
        lines.append("no invocation in it: it acts on every token")
    if format == "torchtune":
        said = ", ".join(f"{key}={value}" for key, value in recipe_settings(form).items())
        lines.append(f"the recipe's model section must say {said}")
    return lines


def _does(behaviour: Behaviour) -> str:
    return {
        Behaviour.REFUSED: "refuses an aLoRA",
        Behaviour.PLAIN_LORA: "overlooks the invocation and acts on every token",
        Behaviour.NEVER_ACTIVE: "never activates it",
        Behaviour.ACTIVATED: "activates it; zoo engines says how exactly",
    }[behaviour]
