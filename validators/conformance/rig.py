"""What the adapters of one base share: the pristine model, a copy for engines, and every prefilled prefix."""

import copy
import gc
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zoo import peft_model
from zoo.adapter import AdapterRepo
from zoo.limits import limited
from zoo.models import BaseModel, Dtype, load_model
from zoo.progress import Progress, silent
from zoo.validators.conformance.difference import Difference, difference
from zoo.validators.conformance.kv import Layers, bit_print, empty_cache, prefix_kv
from zoo.validators.conformance.prefill import Prefill, prefill
from zoo.validators.conformance.shown import Shown
from zoo.validators.conformance.stepping import Step, in_chunks, positions, run_base

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import DynamicCache, PreTrainedModel

_Made = TypeVar("_Made")
LEAST_BUDGET = 1 << 30  # bytes
ROOM, COPIES = 1 << 30, 8  # bytes an adapter may take when it is loaded: so many, and times its file
LOAD_SECONDS = 120.0
LONG = 512  # tokens of a prefix whose prefill is worth mentioning
STAGE = "base model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """The pristine base over one whole prompt: logits `[rows, tokens, vocabulary]` and its cache."""

    logits: "Tensor"
    cache: "DynamicCache"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One call of the base on a cache: logits `[1, tokens, vocabulary]`, and what the cache then holds."""

    logits: "Tensor"
    kv: Layers


@dataclass(kw_only=True)
class Rig:
    """One base model, loaded once, with what was computed on it.

    An aLoRA leaves the prefix alone; so a prefix is prefilled once and every adapter runs its suffix only.

    Attributes:
        model: the pristine base, which no engine ever touches.
        base: which it is.
        budget: bytes of base results to keep; the least recently used go first.
        progress: told about prefills.
        shown: what was shown once for several adapters (`zoo.validators.conformance.kind`).
    """

    model: "PreTrainedModel"
    base: str = ""
    budget: int = LEAST_BUDGET
    progress: Progress = field(default=silent)
    shown: Shown = field(default_factory=Shown)
    _held: OrderedDict[tuple[object, ...], tuple[Any, int]] = field(default_factory=OrderedDict)

    @classmethod
    def open(
        cls,
        base: BaseModel,
        *,
        dtype: Dtype,
        device: str,
        attention: str = "",
        shown: Shown | None = None,
        progress: Progress = silent,
    ) -> "Rig":
        """Loads the base.

        Args:
            base: from `zoo.models.resolve`.
            dtype: of the weights.
            device: a torch device.
            attention: transformers' attention implementation; empty takes its default.
            shown: in this run so far; nothing when None.
            progress: told about loading and prefills.

        Raises:
            BaseMissingError: it does not load.
        """
        progress(STAGE, done=0, total=1, note="loading")
        model = in_own_memory(load_model(base, dtype=dtype, device=device, attention=attention))
        progress(STAGE, done=1, total=1)
        gc.collect()
        gc.freeze()  # what lives as long as the base need not be looked at again after each adapter
        known = shown if shown is not None else Shown()
        return cls(model=model, base=_name(base), budget=budget_for(model), shown=known, progress=progress)

    def attach(self, repo: AdapterRepo) -> "PeftModel":
        """The adapter on a base of its own, loaded by PEFT as a user would.

        The modules are new for each adapter, so that nothing of an earlier one is left; the weights are those
        of a second copy of the base. Not the pristine ones: some initialisations change the base's weights,
        which `disable_adapter` does not undo and a comparison with the same tensors could not see.

        Raises:
            RefusedError: ZP001, PEFT cannot load it, or not in the memory that its size allows.
            LimitError: loading it takes too long.
        """
        shared = {id(tensor): tensor for tensor in (*self._copy.parameters(), *self._copy.buffers())}
        shell = copy.deepcopy(self._copy, shared)
        allowed = ROOM + COPIES * repo.weights_path.stat().st_size
        with limited(f"loading {repo.name}", seconds=LOAD_SECONDS, memory=allowed):
            return peft_model.attach(shell, repo.root)

    def detach(self) -> None:
        """To be called when an adapter is done: renews the engines' copy if the adapter changed it."""
        gc.collect()
        if "_copy" in self.__dict__ and fingerprint(self._copy) != self._pristine:
            del self.__dict__["_copy"]

    def copy_weights(self) -> None:
        """Makes the engines' copy of the base now, not when the first adapter is attached."""
        self._copy  # noqa: B018

    @cached_property
    def _copy(self) -> "PreTrainedModel":
        return copy.deepcopy(self.model)

    @cached_property
    def _pristine(self) -> tuple[int, ...]:
        return fingerprint(self.model)

    def prefilled(self, ids: Sequence[int]) -> Prefill:
        """The base's KV of a prefix of at least one token, in every chunking."""

        def make() -> tuple[Prefill, int]:
            if len(ids) >= LONG:
                self.progress("prefill", done=0, total=1, note=f"{len(ids)} tokens, several chunkings")
            made = prefill(self.model, ids)
            return made, made.nbytes

        return self._once(("prefill", tuple(ids)), make)

    def forget(self, made: Prefill) -> None:
        """Drops a prefix that somebody wrote into, and all that was computed behind it."""
        for key in [key for key in self._held if made.ids in key]:
            del self._held[key]

    def after(
        self, made: Prefill, ids: Sequence[int], *, rows: Sequence[int] = (0,), length: int | None = None
    ) -> "Tensor":
        """The base's logits of one call over ids that follow a prefix.

        Args:
            made: the prefix.
            ids: what follows it.
            rows: see `Prefill.cache`.
            length: see `Prefill.cache`.

        Returns:
            Logits `[rows, tokens, vocabulary]`, in the model's dtype.
        """

        def make() -> tuple["Tensor", int]:
            cache = made.cache(rows, length=length)
            logits = run_base(self.model, self.tensor([ids] * len(rows)), cache)
            return logits, logits.nbytes

        return self._once(("after", made.ids, tuple(ids), tuple(rows), length), make)

    def stepped(self, made: Prefill, ids: Sequence[int]) -> "Tensor":
        """As `after`, one row, in a call a token."""

        def make() -> tuple["Tensor", int]:
            cache = made.cache()
            step: Step = lambda row, cache: run_base(self.model, row, cache)  # noqa: E731
            logits = in_chunks(step, self.tensor([ids]), [1] * len(ids), cache)
            return logits, logits.nbytes

        return self._once(("stepped", made.ids, tuple(ids)), make)

    def whole(self, ids: Sequence[int], *, rows: int = 1) -> Whole:
        """The base over a whole prompt in one call, in so many equal rows; for short prompts."""

        def make() -> tuple[Whole, int]:
            cache = empty_cache()
            logits = run_base(self.model, self.tensor([ids] * rows), cache)
            return Whole(logits=logits, cache=cache), 2 * logits.nbytes

        return self._once(("whole", tuple(ids), rows), make)

    def padded(self, rows: Sequence[Sequence[int]], masks: Sequence[Sequence[int]]) -> "Tensor":
        """The base's logits of one padded batch, `[batch, tokens, vocabulary]`.

        Args:
            rows: token ids, padding included.
            masks: 1 where there is a token.
        """

        def make() -> tuple["Tensor", int]:
            mask = self.tensor(masks)
            where = positions(mask)
            logits = run_base(
                self.model, self.tensor(rows), empty_cache(), attention_mask=mask, position_ids=where
            )
            return logits, logits.nbytes

        return self._once(("padded", tuple(map(tuple, rows)), tuple(map(tuple, masks))), make)

    def turns(self, made: Prefill, *calls: Sequence[int]) -> list[Turn]:
        """The base taking calls one after another on one cache, behind a prefix."""

        def make() -> tuple[list[Turn], int]:
            cache, found = made.cache(), []
            for ids in calls:
                logits = run_base(self.model, self.tensor([ids]), cache)
                found.append(Turn(logits=logits, kv=prefix_kv(cache, cache.get_seq_length())))
            return found, sum(turn.logits.nbytes for turn in found) + made.nbytes * len(found)

        return self._once(("turns", made.ids, tuple(map(tuple, calls))), make)

    def run_to_run(self, ids: Sequence[int]) -> Difference:
        """How far the base's logits are from those of the very same call made before.

        Zero where the kernels are deterministic; only there can anything be compared bit by bit.
        """

        def make() -> tuple[Difference, int]:
            again = run_base(self.model, self.tensor([ids]), empty_cache())
            return difference(again, self.whole(ids).logits), 0

        return self._once(("run to run", tuple(ids)), make)

    def tensor(self, rows: Sequence[Sequence[int]]) -> "Tensor":
        """Token ids as int64 `[batch, tokens]` on the model's device."""
        import torch

        return torch.tensor([list(row) for row in rows], dtype=torch.int64, device=self.model.device)

    def _once(self, key: tuple[object, ...], make: Callable[[], tuple[_Made, int]]) -> _Made:
        if key not in self._held:
            self._held[key] = make()
        self._held.move_to_end(key)
        held = sum(size for _, size in self._held.values())
        while held > self.budget and len(self._held) > 1:
            _, (_, size) = self._held.popitem(last=False)
            held -= size
        found: _Made = self._held[key][0]
        return found


class Rigs:
    """The rig of the base in use; a run over many adapters keeps one base in memory at a time.

    Attributes:
        shown: what the run showed once for several adapters.
    """

    def __init__(self) -> None:
        """Starts with none."""
        self.shown = Shown()
        self._key: object = None
        self._rig: Rig | None = None

    def of(
        self, base: BaseModel, *, dtype: Dtype, device: str, attention: str = "", progress: Progress = silent
    ) -> Rig:
        """The rig of a base; the one before is dropped when it is another's.

        Raises:
            BaseMissingError: the base does not load.
        """
        key = (base.folder, dtype, device, attention)
        if self._rig is None or self._key != key:
            self._rig = None  # before the next one is loaded
            gc.unfreeze()
            self._rig = Rig.open(
                base, dtype=dtype, device=device, attention=attention, shown=self.shown, progress=progress
            )
            self._key = key
        return self._rig


def _name(base: BaseModel) -> str:
    """A base by its commit where it has one: two folders may hold other weights of one model's name."""
    return f"{base.id}@{base.revision or base.embedded or base.folder}"


def in_own_memory(model: "PreTrainedModel") -> "PreTrainedModel":
    """Moves a model's weights, in place, from the mapped file into memory that torch allocated.

    A matrix product with one row gives other last bits for weights at another alignment (MKL, float32; found
    by comparing a model with its own copy): bitwise comparisons need both copies aligned alike.
    """
    if model.device.type == "cpu":
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
    return model


def budget_for(model: "PreTrainedModel") -> int:
    """Bytes of base results to keep for later adapters: half of what two copies of the model leave."""
    weights = sum(tensor.nbytes for tensor in model.parameters())
    return max(LEAST_BUDGET, (_free_bytes(model) - weights) // 2)


def _free_bytes(model: "PreTrainedModel") -> int:
    import torch

    if model.device.type == "cuda":
        return torch.cuda.mem_get_info(model.device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    found = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return next((int(kib) * 1024 for kib in found), 0)


def fingerprint(model: "PreTrainedModel") -> tuple[int, ...]:
    """One number a weight tensor, over its bits: equal for equal weights, other for a weight that changed."""
    return tuple(bit_print(tensor) for tensor in model.parameters())
