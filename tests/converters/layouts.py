"""Every foreign layout that zoo reads: its reader's name, what makes a checkpoint, and the user's options."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.converters.foreign import (
    ALPHA,
    Made,
    bare,
    diffusers,
    kohya,
    litgpt,
    lycoris,
    mlx,
    torchtune,
)
from tests.converters.foreign_blocks import canonical, megatron, nemo, nora, reslora
from zoo.models import BaseModel

LAYOUTS: dict[str, tuple[str, Callable[[BaseModel, Path], Made], dict[str, Any]]] = {
    "mlx": ("mlx-lm", mlx, {}),
    "mlx npz": ("mlx-lm", lambda base, folder: mlx(base, folder, npz=True), {}),
    "mlx with alpha": ("mlx-lm", lambda base, folder: mlx(base, folder, alpha=16.0), {}),
    "torchtune": ("torchtune", torchtune, {"alpha": ALPHA}),
    "torchtune with config": ("torchtune", lambda base, folder: torchtune(base, folder, config=True), {}),
    "kohya": ("kohya", kohya, {}),
    "kohya without alpha": ("kohya", lambda base, folder: kohya(base, folder, alpha=False), {}),
    "lycoris": ("kohya", lycoris, {}),
    "diffusers": ("kohya", diffusers, {}),
    "litgpt q v": ("litgpt", litgpt, {}),
    "litgpt all": (
        "litgpt",
        lambda base, folder: litgpt(base, folder, enabled=(True, True, True), said=False),
        {"alpha": ALPHA},
    ),
    "bare": ("loralib", bare, {"alpha": ALPHA}),
    "megatron": ("megatron", megatron, {"alpha": ALPHA}),
    "megatron canonical": ("megatron", canonical, {"alpha": ALPHA}),
    "nemo": ("megatron", nemo, {}),
    "reslora": ("reslora", lambda base, folder: reslora(base, folder, pickled=True), {}),
    "reslora over all layers": ("reslora", lambda base, folder: reslora(base, folder, before=-1), {}),
    "reslora without paths": ("reslora", lambda base, folder: reslora(base, folder, way=0), {}),
    "nora": ("nora", nora, {"alpha": ALPHA}),
}
