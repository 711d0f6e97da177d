"""The KV cache of sample prefixes, computed once without gradients, and forward passes that continue it.

An aLoRA never touches the tokens before its invocation, so their keys and values are the base model's and
carry no gradient: running the suffix on them gives the gradients of the full pass. The same code runs the
plain LoRA, whose prefix is adapted: `adapted=True` is how the teacher of a distillation reads.
Source: arXiv 2504.12397, section 3; the equality with PEFT's full pass is tested.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from zoo.progress import Progress, silent
from zoo.training.dataset import Encoded
from zoo.training.entry import Entry
from zoo.training.peers import ALONE, Peers
from zoo.training.segments import LONGEST, Tree, tree_of
from zoo.training.tiers import Budget, Tiers

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from zoo.training.entry import Layers
    from zoo.training.graphs import Graphs

T = TypeVar("T")

BATCH = {"cpu": 16, "cuda": 64}  # rows of one pass without gradients
READ_TOKENS = 1 << 15  # of such a pass on a GPU, beside what is kept there; an 8B base has 128 KB a token
PACK_TOKENS = LONGEST  # of prefixes run together: what a pass holds is set by the longest segment anyway
CPU_PACK_TOKENS = 512  # its caches hold what the layers of so many pass on; larger results are paged in anew


class PrefixStore:
    """Prefix KV of samples, kept in tiers while their budget lasts and computed again beyond it."""

    def __init__(
        self,
        model: "PeftModel",
        samples: Sequence[Encoded],
        *,
        adapted: bool = False,
        budget: Budget | None = None,
        disk: Path | None = None,
        graphs: "Graphs | bool | None" = None,
        sharers: int = 1,
    ) -> None:
        """Remembers what to compute; nothing is computed yet.

        Args:
            model: base and adapter.
            samples: whose prefixes.
            adapted: whether the adapter acts on the prefix: false is an aLoRA's view, true a plain LoRA's.
            budget: of every tier; None is what is free when the first prefix is computed.
            disk: a folder for what memory has no room for, where no budget is given; None is no such tier.
            graphs: of recorded steps; False records none, else they are where a GPU and the base allow it.
            sharers: processes that divide what is free on this machine, where no budget is given.
        """
        self._graphs = graphs
        self._sharers = sharers
        self.model = model
        self.samples = samples
        self.adapted = adapted
        self._budget = budget
        self._disk = disk
        self.device = next(model.parameters()).device

    @property
    def kept_bytes(self) -> int:
        """Bytes held in all tiers; what several samples begin with counts once."""
        return sum(self.tiers.used.values())

    @property
    def peers(self) -> Peers:
        """The processes that divide these samples among them."""
        return ALONE

    @property
    def held(self) -> Sequence[int]:
        """The samples that this process can run: all, unless they are divided."""
        return range(len(self.samples))

    @cached_property
    def tiers(self) -> Tiers:
        """Where prefixes are kept."""
        free = self._budget or Budget.automatic(self.device, folder=self._disk, sharers=self._sharers)
        return Tiers(self.device, free)

    @cached_property
    def tree(self) -> Tree:
        """What the prefixes have in common."""
        return tree_of([sample.prefix for sample in self.samples])

    @cached_property
    def packable(self) -> bool:
        """Whether rows run packed, without padding; else through transformers' own cache."""
        from zoo.training.attention import packable

        return packable(self.model.get_base_model())  # type: ignore[arg-type]  # PEFT says Module

    def fill(self, progress: Progress = silent) -> None:
        """Computes prefixes until all are kept or the budget is used up, and says where they are."""
        total = len(self.tree.segments)
        near: dict[int, Entry] = {}  # a long prefix is continued from where it lies, not fetched again
        for pack in self._packs:
            missing = [number for number in pack if number not in self.tiers]
            if missing:
                before = self.tree.line(self.tree.segments[pack[0]].parent)
                near = {number: near[number] for number in before if number in near}
                self._compute(pack, near)
            full = any(number not in self.tiers for number in pack)
            done = total if full else len(self.tiers)
            # what is still to come is not beyond the budget
            progress("prefix KV", done=done, total=total, note=self.note() if done == total else self._kept())
            if full:
                return

    def note(self) -> str:
        """Where the prefixes are, for people."""
        tokens = [len(segment.ids) for segment in self.tree.segments]
        each = sum(len(sample.prefix) for sample in self.samples)
        lacking = sum(size for number, size in enumerate(tokens) if number not in self.tiers)
        said = self._kept()
        if each > sum(tokens):
            said += f"; {each - sum(tokens):,} of {each:,} tokens shared"
        if lacking:
            said += f"; {lacking:,} of {sum(tokens):,} tokens not kept: beyond the budget they are recomputed"
        return said

    def _kept(self) -> str:
        held = [f"{size / 2**20:,.0f} MiB in {tier}" for tier, size in self.tiers.used.items() if size]
        return ", ".join(held) or "nothing kept"

    def pieces(self, rows: Sequence[int]) -> "list[list[Layers]]":
        """What each row's prefix consists of, keys and values on the device.

        Args:
            rows: sample indices.

        Returns:
            Per row, segment, and layer: keys and values `[kv_heads, tokens, head]`.
        """
        held = self.entries(rows)
        # shared ones are cut into layers once
        layers = {id(entry): entry.layers() for path in held for entry in path}
        return [[layers[id(entry)] for entry in path] for path in held]

    def entries(self, rows: Sequence[int], *, lying: bool = False) -> list[list[Entry]]:
        """The same, each segment in one block.

        Args:
            rows: sample indices.
            lying: whether what is in pinned memory may stay there.
        """
        paths = [self.tree.path(row) for row in rows]
        found: dict[int, Entry] = {}
        for number in sorted({number for path in paths for number in path}):
            if lying and number in self.tiers:
                found[number] = self.tiers.lying(number)
            else:
                self._entry(number, found)
        return [[found[number] for number in path] for path in paths]

    def recorded(
        self, rows: Sequence[int], runs: Sequence[Sequence[int]], keep: Sequence[Sequence[int]]
    ) -> "Tensor | None":
        """Logits of rows with the adapter on, by a recorded step; None where steps are not recorded.

        Args:
            rows: sample indices.
            runs: token ids that continue their prefixes.
            keep: per run, at which of its tokens.
        """
        if not self._graphs and (self._graphs is False or self.device.type != "cuda" or not self.packable):
            return None
        from zoo.training.graphs import Graphs, graphs_of

        graphs = self._graphs if isinstance(self._graphs, Graphs) else graphs_of(self.model)
        if graphs is None or not graphs.takes(runs):
            return None
        return graphs.logits(self.entries(rows, lying=True), runs, keep, longest=self._longest)

    def prefetch(self, rows: Sequence[int]) -> None:
        """Begins to bring the prefixes of the next batch to the device while the present one runs."""
        self.tiers.prefetch(sorted({number for row in rows for number in self.tree.path(row)}))

    @cached_property
    def _longest(self) -> int:
        return max(len(sample.prefix) for sample in self.samples)

    @cached_property
    def _packs(self) -> list[list[int]]:
        return self.tree.packs(CPU_PACK_TOKENS if self.device.type == "cpu" else PACK_TOKENS)

    @cached_property
    def _pack_of(self) -> dict[int, list[int]]:
        return {number: pack for pack in self._packs for number in pack}

    def _entry(self, number: int, found: dict[int, Entry]) -> Entry:
        """A segment's keys and values, from `found`, the tiers, or computed; remembered in `found`."""
        if number not in found:
            if number in self.tiers:
                found[number] = self.tiers.get(number)
            else:
                self._compute(self._pack_of[number], found)
        return found[number]

    def _compute(self, pack: Sequence[int], found: dict[int, Entry]) -> None:
        """Runs a pack of segments on what is before them, and keeps what there is room for."""
        segments = [self.tree.segments[number] for number in pack]
        before = [self._entry(number, found).layers() for number in self.tree.line(segments[0].parent)]
        if self.packable:
            from zoo.training import packed

            runs = [segment.ids for segment in segments]
            made = packed.record(self.model, runs, [before] * len(runs), adapted=self.adapted)
        else:
            from zoo.training import padded

            made = [
                Entry.of(padded.record(self.model, segment.ids, before, adapted=self.adapted))
                for segment in segments
            ]
        for number, entry in zip(pack, made, strict=True):
            if number not in self.tiers:
                self.tiers.put(number, entry)
            found[number] = entry


def batches(samples: Sequence[Encoded], device: str, *, most: int = 0) -> list[list[int]]:
    """Indices of samples in batches for passes without gradients.

    Args:
        samples: all of them.
        device: type of it; on all but a CPU a batch brings its prefixes along, so long samples come in fewer.
        most: in a batch; 0 is what suits the device.
    """
    size = most or BATCH.get(device, BATCH["cpu"])
    if device != "cpu":
        size = max(1, min(size, READ_TOKENS // max((one.tokens for one in samples), default=1)))
    return [list(range(begin, min(begin + size, len(samples)))) for begin in range(0, len(samples), size)]


def held_batches(store: PrefixStore, *, most: int = 0) -> list[list[int]]:
    """The samples of a store that this process holds, in batches; see `batches`."""
    held = store.held
    found = batches([store.samples[row] for row in held], store.device.type, most=most)
    return [[held[place] for place in places] for places in found]


def by_row(
    store: PrefixStore,
    compute: Callable[[list[int]], Sequence[T]],
    told: Callable[[int], None] = lambda _: None,
    *,
    most: int = 0,
) -> list[T]:
    """What is computed of every sample of a store, by each process of those that it holds.

    Args:
        store: whose samples.
        compute: some samples to a value each; run without gradients.
        told: how many samples this process has done.
        most: samples of a batch; see `batches`.
    """
    import torch

    mine: dict[int, T] = {}
    with torch.no_grad():
        for rows in held_batches(store, most=most):
            mine.update(zip(rows, compute(rows), strict=True))
            told(len(mine))
    every = {row: value for part in store.peers.gather(mine) for row, value in part.items()}
    return [every[row] for row in range(len(store.samples))]


def answer_logits(
    store: PrefixStore,
    rows: Sequence[int],
    *,
    answers: Sequence[Sequence[int]] | None = None,
    adapted: bool = True,
    recorded: bool = True,
    last: bool = False,
) -> list["Tensor"]:
    """Logits that predict each answer token, computed on the stored prefixes.

    Args:
        store: prefixes; also says which samples.
        rows: sample indices, one batch.
        answers: answer ids per row; each sample's own unless told.
        adapted: whether the adapter acts on the suffix.
        recorded: whether steps may be recorded; it does not pay where every pass has another shape.
        last: of each answer's last token alone; the vocabulary is not read for the others.

    Returns:
        Per row, float32 `[answer tokens, vocabulary]`, or `[1, vocabulary]`: the logits from which that
        token is predicted.
    """
    import torch

    samples = [store.samples[row] for row in rows]
    wanted = [sample.answer for sample in samples] if answers is None else answers
    joined = _logits(store, rows, wanted, adapted=adapted, recorded=recorded, last=last).float()
    return list(torch.split(joined, [1 if last else len(answer) for answer in wanted]))


def answer_loss(store: PrefixStore, rows: Sequence[int]) -> "Tensor":
    """The cross-entropy of the rows' own answers, summed over their tokens: a scalar that carries gradients.

    Args:
        store: prefixes; also says which samples.
        rows: sample indices, one batch.
    """
    import torch
    from torch.nn.functional import cross_entropy

    wanted = [store.samples[row].answer for row in rows]
    found = _logits(store, rows, wanted, adapted=True, recorded=True).float()
    ids = torch.tensor([token for answer in wanted for token in answer], device=found.device)
    return cross_entropy(found, ids, reduction="sum")


def _logits(
    store: PrefixStore,
    rows: Sequence[int],
    answers: Sequence[Sequence[int]],
    *,
    adapted: bool,
    recorded: bool,
    last: bool = False,
) -> "Tensor":
    """Logits at the tokens before each answer token, or the last one, `[those of all rows, vocabulary]`."""
    way: Any
    if store.packable:
        from zoo.training import packed as way
    else:
        from zoo.training import padded as way
    runs, keep = suffixes([store.samples[row] for row in rows], answers)
    if last:
        keep = [places[-1:] for places in keep]
    if adapted and recorded and (made := store.recorded(rows, runs, keep)) is not None:
        return made
    found: Tensor = way.logits(store.model, runs, store.pieces(rows), keep, adapted=adapted)
    return found


def suffixes(
    samples: Sequence[Encoded], answers: Sequence[Sequence[int]]
) -> tuple[list[tuple[int, ...]], list[range]]:
    """What is run after each sample's prefix so that an answer is predicted, and at which tokens it is.

    Args:
        samples: whose leads.
        answers: answer ids of each, not empty.
    """
    # the last answer token predicts nothing that counts, so it is not run
    runs = [one.lead + tuple(answer[:-1]) for one, answer in zip(samples, answers, strict=True)]
    return runs, [range(len(one.lead) - 1, len(run)) for one, run in zip(samples, runs, strict=True)]
