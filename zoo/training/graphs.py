"""Suffix steps of fixed shapes, recorded once as CUDA graphs and replayed: two launches a step.

A step of a few dozen tokens is bound by the time it takes to launch its thousands of kernels. Shapes are
rounded up to buckets: spare tokens are a row of their own that nobody reads, spare rows are empty. Forward
and backward are two graphs, so that any loss stands between them.
The recording has not been run on a GPU yet; what is recorded is tested on the CPU.
Source: the two-graph form of torch 2.13, torch/cuda/graphs.py `make_graphed_callables`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from zoo.errors import DefectError
from zoo.training.adapted import everywhere
from zoo.training.attention import Pass, packed
from zoo.training.exact import Rule
from zoo.training.flash import CUDA, Kernel, Lines, attend, usable
from zoo.training.node import node

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from zoo.training.entry import Entry

TOKENS, KEPT, ROWS = 64, 16, 4  # buckets are multiples of these
KEPT_GRAPHS = 12
WARM_UP = 3  # passes before a recording: kernels choose their algorithms and workspaces


def recordable(model: "PeftModel") -> bool:
    """Whether every layer of a base can be computed by the kernels that take fixed shapes."""
    base: Any = model.get_base_model()
    config = base.config.get_text_config(decoder=True)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kinds = set(getattr(config, "layer_types", None) or ())
    windowed = "sliding_attention" in kinds or (not kinds and getattr(config, "sliding_window", None))
    rule = Rule(
        scale=1.0,
        window=1 if windowed else None,
        softcap=getattr(config, "attn_logit_softcapping", None),
    )
    # a mixture of experts sorts tokens on the host
    experts = getattr(config, "num_local_experts", 0) or getattr(config, "num_experts", 0)
    dtype = next(p.dtype for p in model.parameters() if not p.requires_grad and p.is_floating_point())
    return usable(rule, dtype, head) and not experts


class Graphs:
    """Recorded steps by bucket, and the prefix keys and values that they all read."""

    def __init__(self, model: "PeftModel", *, kernel: Kernel = CUDA, record: bool = True) -> None:
        """Nothing is recorded yet.

        Args:
            model: base and adapter; the adapter that is active now is the one that is run.
            kernel: computes attention.
            record: false runs the same passes without recording them.
        """
        import torch

        self.model = model
        self.adapter = model.active_adapter
        self.kernel = kernel
        self.record = record
        self.device = next(model.parameters()).device
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.pool = torch.cuda.graph_pool_handle() if record else None
        self.prefix: Tensor | None = None  # [layers, 2, capacity, kv_heads, head]
        self.replays = 0
        self.longest = 0  # tokens of the longest prefix that there is room for
        self._rows = 0
        self._where: list[int] = []
        self._steps: dict[tuple[int, ...], Step] = {}

    def logits(
        self,
        entries: "Sequence[Sequence[Entry]]",
        runs: Sequence[Sequence[int]],
        keep: Sequence[Sequence[int]],
        *,
        longest: int,
    ) -> "Tensor | None":
        """As `zoo.training.packed.logits` with the adapter on.

        Args:
            entries: per run, what it continues.
            runs: token ids.
            keep: per run, at which of its tokens.
            longest: tokens of the longest prefix that will come; room is made for it at once.

        Returns:
            Logits; None while no prefix has been seen, from whose shape alone the room is known.
        """
        lengths = [sum(entry.tokens for entry in path) for path in entries]
        rows, tokens, kept = len(runs), sum(map(len, runs)), sum(map(len, keep))
        self._make_room(entries, _up(rows, ROWS), max(longest, *lengths))
        if self.prefix is None:
            return None
        begin = 0
        for entry in (entry for path in entries for entry in path):
            self.prefix[:, :, begin : begin + entry.tokens].copy_(entry.block().transpose(2, 3))
            begin += entry.tokens
        # a recorded step reads the factors where they were: who gave a parameter other memory starts over
        where = [parameter.data_ptr() for parameter in self.parameters]
        if where != self._where:
            self._steps.clear()
            self._where = where
        longest_run = 1 << (max(map(len, runs)) - 1).bit_length()
        key = (_up(tokens, TOKENS), _up(rows, ROWS), _up(kept, KEPT), longest_run)
        step = self._steps.pop(key, None) or Step(self, *key)
        self._steps[key] = step  # the one used last is last
        if len(self._steps) > KEPT_GRAPHS:
            del self._steps[next(iter(self._steps))]
        return step.run(runs, lengths, keep)[:kept]

    def _make_room(self, entries: "Sequence[Sequence[Entry]]", rows: int, longest: int) -> None:
        """Room for the prefixes of a batch, one after another, where the recorded steps read them."""
        first = next((entry for path in entries for entry in path), None)
        if first is None or (self.prefix is not None and self._rows >= rows and self.longest >= longest):
            return
        self.longest, self._rows = max(self.longest, longest), max(self._rows, rows)
        layers, two, heads, _, head = first.block().shape
        self._steps.clear()  # they read the old place
        self.prefix = None
        self.prefix = first.flat.new_zeros(layers, two, self.longest * self._rows, heads, head)


_OF_MODEL: "WeakKeyDictionary[PeftModel, Graphs | None]" = WeakKeyDictionary()


def graphs_of(model: "PeftModel") -> Graphs | None:
    """The graphs of a model's active adapter, shared by all its stores; None where none can be recorded."""
    known = _OF_MODEL.get(model)
    if model not in _OF_MODEL or (known is not None and known.adapter != model.active_adapter):
        known = _OF_MODEL[model] = Graphs(model) if recordable(model) else None
    return known


def release(model: "PeftModel") -> None:
    """Lets a model's recorded steps go, and the room for prefixes with them."""
    _OF_MODEL.pop(model, None)


class Step:
    """A pass of one bucket: its inputs, what it runs, and, once recorded, its two graphs."""

    def __init__(self, graphs: Graphs, tokens: int, rows: int, kept: int, longest: int) -> None:
        """Records it, if that is wanted.

        Args:
            graphs: whose prefixes and parameters.
            tokens: of all rows.
            rows: how many at most.
            kept: tokens whose logits are wanted, at most.
            longest: tokens of the longest row, at most.
        """
        import torch

        self._graphs = graphs
        self._sizes = [tokens, tokens, kept, rows + 2, rows + 2]
        self._longest = (max(longest, TOKENS), graphs.longest)  # the spare row is shorter than a bucket
        self._inputs = torch.zeros(sum(self._sizes), dtype=torch.int64, device=graphs.device)
        self._recorded: tuple[Any, Any, Tensor, Tensor, list[Tensor | None]] | None = None

    def run(
        self, runs: Sequence[Sequence[int]], lengths: Sequence[int], keep: Sequence[Sequence[int]]
    ) -> "Tensor":
        """Logits `[kept bucket, vocabulary]`; those beyond what `keep` names mean nothing."""
        self._inputs.copy_(self._filled(runs, lengths, keep), non_blocking=True)
        if not self._graphs.record:
            return self._pass()
        if self._recorded is None:
            self._record()
        found: Tensor = node(_replay, _replay_back)(self, *self._graphs.parameters)
        return found

    def _filled(
        self, runs: Sequence[Sequence[int]], lengths: Sequence[int], keep: Sequence[Sequence[int]]
    ) -> "Tensor":
        """All inputs in one line on the host, to be copied at once."""
        import torch

        tokens, _, kept, marks, _ = self._sizes
        ids = [token for run in runs for token in run]
        positions = [n + i for n, run in zip(lengths, runs, strict=True) for i in range(len(run))]
        begins, ends = [0], [0]
        for n, run in zip(lengths, runs, strict=True):
            begins.append(begins[-1] + len(run))
            ends.append(ends[-1] + n)
        places = [begin + place for begin, kept_ in zip(begins, keep, strict=False) for place in kept_]
        spare = tokens - len(ids)
        line = [*ids, *[0] * spare, *positions, *range(spare), *places, *[0] * (kept - len(places))]
        # spare rows are empty; the last row is the spare tokens, without a prefix
        line += [*begins, *[begins[-1]] * (marks - 1 - len(begins)), tokens]
        line += [*ends, *[ends[-1]] * (marks - len(ends))]
        made = torch.tensor(line, dtype=torch.int64)
        return made.pin_memory() if self._graphs.device.type == "cuda" else made

    def _pass(self) -> "Tensor":
        import torch

        graphs, model = self._graphs, self._graphs.model
        base: Any = model.get_base_model()
        ids, positions, places, begins, ends = torch.split(self._inputs, self._sizes)
        rows, prefixes = begins.to(torch.int32), ends.to(torch.int32)
        prefix: Any = graphs.prefix

        def layer_attention(
            query: "Tensor", key: "Tensor", value: "Tensor", rule: Rule, layer: int
        ) -> "Tensor":
            groups = query.shape[0] // key.shape[0]
            longest, furthest = self._longest
            own = Lines(
                queries=rows, keys=rows, longest_query=longest, longest_key=longest, causal=True,
                scale=rule.scale,
            )  # fmt: skip
            before = Lines(
                queries=rows * groups, keys=prefixes, longest_query=longest * groups, longest_key=furthest,
                causal=False, scale=rule.scale,
            )  # fmt: skip
            return attend(query, key, value, (prefix[layer, 0], prefix[layer, 1]), own, before, graphs.kernel)

        with everywhere(model, on=True), packed(base, Pass(rows=(), attend=layer_attention)):
            output = base(
                input_ids=ids[None], position_ids=positions[None], use_cache=False, logits_to_keep=places
            )
        found: Tensor = output.logits[0]
        return found

    def _record(self) -> None:
        """Records forward and backward; gradients come to lie where the next replay writes them again."""
        import torch

        graphs = self._graphs
        untyped: Any = torch.cuda.Stream
        side = untyped(graphs.device)
        side.wait_stream(torch.cuda.current_stream(graphs.device))
        with torch.cuda.stream(side), torch.enable_grad():
            for _ in range(WARM_UP):
                out = self._pass()
                torch.autograd.grad(out, graphs.parameters, torch.zeros_like(out), allow_unused=True)
        torch.cuda.current_stream(graphs.device).wait_stream(side)
        torch.cuda.synchronize(graphs.device)
        ahead, back = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with torch.enable_grad():
            with torch.cuda.graph(ahead, pool=graphs.pool):
                out = self._pass()
            wish = torch.zeros_like(out)
            with torch.cuda.graph(back, pool=graphs.pool):
                grads = torch.autograd.grad(out, graphs.parameters, wish, allow_unused=True)
        self._recorded = (ahead, back, out.detach(), wish, list(grads))

    def replay(self) -> "Tensor":
        """Runs the recorded forward pass."""
        ahead, _, out, _, _ = self._recorded or _unrecorded()
        self._graphs.replays += 1
        ahead.replay()
        return out.clone()

    @property
    def turn(self) -> int:
        """The number of the last forward pass of any step: they all share their memory."""
        return self._graphs.replays

    def replay_back(self, wish: "Tensor") -> "list[Tensor | None]":
        """Runs the recorded backward pass of the last forward one; copies, as the next replay overwrites."""
        import torch

        _, back, _, place, grads = self._recorded or _unrecorded()
        place.copy_(wish)
        back.replay()
        copies = iter(torch._foreach_add([grad for grad in grads if grad is not None], 0.0))
        return [None if grad is None else next(copies) for grad in grads]


def _replay(ctx: Any, step: Step, *_: "Tensor") -> "Tensor":
    found = step.replay()
    ctx.step, ctx.turn = step, step.turn
    return found


def _replay_back(ctx: Any, *grads: "Tensor") -> "tuple[Tensor | None, ...]":
    if ctx.turn != ctx.step.turn:
        raise DefectError("a recorded step ran again before the gradients of its last run were taken")
    return (None, *ctx.step.replay_back(grads[0]))


def _unrecorded() -> Any:
    raise RuntimeError("a step is replayed before it was recorded")


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
