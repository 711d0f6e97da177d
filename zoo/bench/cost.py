"""What a switch to an adapter takes behind contexts of several lengths: time to the first token."""

import copy
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import peft_model
from zoo.adapter import LOCK_NAME, AdapterRepo
from zoo.errors import UsageError
from zoo.models import BaseModel, Dtype, load_model
from zoo.pictures.canvas import can_draw
from zoo.pictures.cost import COST_NAME, draw
from zoo.progress import Progress, silent
from zoo.prompts import Prompter
from zoo.provenance import package_versions, sha256_file
from zoo.specs.lock import CostPoint, CostRecord, dump_lock
from zoo.staging import write_file

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

PACKAGES = ("alora-zoo", "torch", "transformers", "peft")
TEXT = "The keeper rowed over in fair weather, counted the lamps and wrote the hour into the book. "
STAGE = "cost"


def measure_cost(
    repo: AdapterRepo,
    base: BaseModel,
    *,
    lengths: Sequence[int],
    runs: int,
    device: str = "cpu",
    dtype: Dtype = "float32",
    progress: Progress = silent,
) -> CostRecord:
    """Times the adapter's first token with the base's cache of a context, and with the context read again.

    Both are one call of one PEFT model up to the same position; they take turns, so that both meet the same
    load. Copying the cache is not timed: a server keeps it in place.

    Args:
        repo: an aLoRA.
        base: its base.
        lengths: of contexts, in tokens.
        runs: of each figure; one more warms up.
        device: a torch device.
        dtype: of the base weights.
        progress: told about every length.

    Raises:
        UsageError: the adapter has no invocation, or a context does not fit the base.
        RefusedError: ZP001, PEFT cannot load it.
        BaseMissingError: the base does not load.
    """
    suffix = tuple(repo.config.alora_invocation_tokens or ())
    if not suffix:
        raise UsageError(f"{repo.name} has no invocation: it is no aLoRA", hint="zoo convert makes one")
    longest = base.config.get("max_position_embeddings")
    wanted = sorted(set(lengths))
    if isinstance(longest, int) and wanted[-1] + len(suffix) > longest:
        raise UsageError(f"{base.id} takes {longest:,} tokens, and {wanted[-1]:,} were asked for")
    model = peft_model.attach(load_model(base, dtype=dtype, device=device), repo.root)
    ids = _context(Prompter(base), wanted[-1])
    points = []
    for done, tokens in enumerate(wanted):
        progress(STAGE, done=done, total=len(wanted), note=f"{tokens:,} tokens")
        points.append(_point(model, [*ids[:tokens], *suffix], tokens, runs=runs, device=device))
    progress(STAGE, done=len(wanted), total=len(wanted))
    return CostRecord(
        machine=_machine(device),
        device=device,
        dtype=dtype,
        suffix_tokens=len(suffix),
        runs=runs,
        points=points,
        versions=package_versions(PACKAGES),
    )


def record_cost(repo: AdapterRepo, cost: CostRecord) -> str:
    """Puts a measurement into the lock and its picture beside it; recorded evidence is then of other files.

    Returns:
        Where the picture is, or why there is none.

    Raises:
        UsageError: there is no lock.
        OSError: it cannot be written.
    """
    if repo.lock is None:
        raise UsageError(f"{repo.root} has no {LOCK_NAME} to record in", hint="zoo convert makes a release")
    name = repo.release.name if repo.release else repo.name
    path, files = repo.root / COST_NAME, dict(repo.lock.files)
    if can_draw():
        draw(path, cost, name=name)
        files[COST_NAME] = sha256_file(path)
    changed = repo.lock.model_copy(update={"cost": cost, "files": files, "evidence": None})
    write_file(repo.root / LOCK_NAME, dump_lock(changed).encode())
    return str(path) if can_draw() else "no picture: pip install 'alora-zoo[plot]'"


def _context(prompter: Prompter, tokens: int) -> list[int]:
    ids = list(prompter.encode(TEXT * (1 + tokens // 8)))
    return (ids * (1 + tokens // max(1, len(ids))))[:tokens]


def _point(model: "PeftModel", ids: Sequence[int], tokens: int, *, runs: int, device: str) -> CostPoint:
    import torch
    from transformers import DynamicCache

    whole = torch.tensor([list(ids)], device=device)
    held = DynamicCache(config=model.config)
    _call(model, whole[:, :tokens], 0, held)
    reused, again = [], []
    for _ in range(runs + 1):
        kept, empty = copy.deepcopy(held), DynamicCache(config=model.config)
        reused.append(_timed(partial(_call, model, whole[:, tokens:], len(ids) - tokens, kept), device))
        again.append(_timed(partial(_call, model, whole, len(ids), empty), device))
    return CostPoint(tokens=tokens, reused=_median(reused), recomputed=_median(again))


def _call(model: "PeftModel", ids: "Tensor", adapted: int, cache: object) -> "Tensor":
    import torch

    with torch.no_grad():
        return peft_model.forward(model, ids, offsets=[adapted], cache=cache, logits_to_keep=1)  # type: ignore[arg-type]


def _timed(call: Callable[[], object], device: str) -> float:
    import torch

    begin = time.perf_counter()
    call()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - begin


def _median(seconds: Sequence[float]) -> float:
    """Of all but the first, which also warms up."""
    return statistics.median(seconds[1:])


def _machine(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{named or platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
