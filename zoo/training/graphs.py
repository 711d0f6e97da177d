"""Suffix steps of fixed shapes, recorded once as CUDA graphs and replayed: two launches a step.

A step of a few dozen tokens is bound by the time it takes to launch its thousands of kernels. Shapes are
rounded up to buckets: spare tokens are a row of their own that nobody reads, spare rows are empty. Forward
and backward are two graphs, so that any loss stands between them.
What is recorded is tested on the CPU, the recording on a GPU.
Source: the two-graph form of torch 2.13, torch/cuda/graphs.py `make_graphed_callables`.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    from torch.nn import Parameter

    from zoo.training.entry import Entry

TOKENS, KEPT, ROWS = 64, 16, 4  # buckets are multiples of these, or of a power of two above
KEPT_GRAPHS = 12
LOOK_TOKENS = 1024  # of a pass without gradients; a recording holds what its backward pass would need
WARM_UP = 3  # passes before a recording: kernels choose their algorithms and workspaces


def _config(model: "PeftModel") -> Any:
    base: Any = model.get_base_model()
    return base.config.get_text_config(decoder=True)


def _head(config: Any) -> int:
    """Numbers of a head."""
    given: int | None = getattr(config, "head_dim", None)
    return given or int(config.hidden_size // config.num_attention_heads)


def _dtype(model: "PeftModel") -> Any:
    """Of the base's weights."""
    return next(p.dtype for p in model.parameters() if not p.requires_grad and p.is_floating_point())


def recordable(model: "PeftModel") -> bool:
    """Whether every layer of a base can be computed by the kernels that take fixed shapes."""
    config = _config(model)
    kinds = set(getattr(config, "layer_types", None) or ())
    windowed = "sliding_attention" in kinds or (not kinds and getattr(config, "sliding_window", None))
    rule = Rule(
        scale=1.0,
        window=1 if windowed else None,
        softcap=getattr(config, "attn_logit_softcapping", None),
    )
    # a mixture of experts sorts tokens on the host
    experts = getattr(config, "num_local_experts", 0) or getattr(config, "num_experts", 0)
    return usable(rule, _dtype(model), _head(config)) and not experts


class Graphs:
    """Recorded steps by bucket, and the prefix keys and values that they all read."""

    def __init__(self, model: "PeftModel", *, kernel: Kernel = CUDA, record: bool = True) -> None:
        """Nothing is recorded yet.

        Args:
            model: base and adapter; the adapter that is active now is the one that is run.
            kernel: computes attention.
            record: false runs the same passes without recording them.
        """
        self.model = model
        self.adapter = model.active_adapter
        self.kernel = kernel
        self.record = record
        self.device = next(model.parameters()).device
        self._candidates = [p for name, p in model.named_parameters() if ".lora_" in name or p.requires_grad]
        self.parameters = self._trained()
        self.pool: Any = None
        self.prefix: Tensor | None = None  # [layers, 2, kv_heads, capacity, head]
        self.replays = 0
        self.longest = 0  # tokens of the longest prefix that there is room for
        self._capacity = 0  # tokens of all prefixes of a batch
        self._where: list[int] = []
        self._steps: dict[tuple[int, ...], Step] = {}
        self._forget()

    def logits(
        self,
        entries: "Sequence[Sequence[Entry]]",
        runs: Sequence[Sequence[int]],
        keep: Sequence[Sequence[int]],
        *,
        longest: int,
    ) -> "Tensor":
        """As `zoo.training.packed.logits` with the adapter on.

        Args:
            entries: per run, what it continues; on the device or in pinned memory.
            runs: token ids.
            keep: per run, at which of its tokens.
            longest: tokens of the longest prefix that will come; room is made for it at once.
        """
        lengths = [sum(entry.tokens for entry in path) for path in entries]
        rows, tokens, kept = len(runs), sum(map(len, runs)), sum(map(len, keep))
        prefix = self._room(entries, rows, max(1, longest, *lengths))
        begin = 0
        for entry in (entry for path in entries for entry in path):
            self._place(prefix[..., begin : begin + entry.tokens, :], entry)
            begin += entry.tokens
        self._follow()
        longest_run = 1 << (max(map(len, runs)) - 1).bit_length()
        key = (_up(tokens, TOKENS), _up(rows, ROWS), _up(kept, KEPT), longest_run)
        step = self._steps.pop(key, None) or Step(self, *key)
        self._steps[key] = step  # the one used last is last
        if len(self._steps) > KEPT_GRAPHS:
            del self._steps[next(iter(self._steps))]
        return step.run(runs, lengths, keep)[:kept]

    def takes(self, runs: Sequence[Sequence[int]]) -> bool:
        """Whether a pass should be recorded: gradients are recorded with it, and room for what they need.

        Not where nothing is trained, nor a long pass that nobody wants gradients of.

        Args:
            runs: token ids.
        """
        import torch

        short = torch.is_grad_enabled() or sum(map(len, runs)) <= LOOK_TOKENS
        return short and bool(self._trained())

    def _trained(self) -> "list[Parameter]":
        return [parameter for parameter in self._candidates if parameter.requires_grad]

    def _follow(self) -> None:
        """Starts over where parameters were given other memory, or others are trained than were recorded."""
        trained = self._trained()
        where = [parameter.data_ptr() for parameter in trained]
        if where != self._where:
            self._forget()
            self._where, self.parameters = where, trained

    def _place(self, room: "Tensor", entry: "Entry") -> None:
        """Copies an entry to where the recorded steps read it, `[layers, 2, kv_heads, tokens, head]`."""
        block = entry.block()
        if block.device == room.device:
            room.copy_(block)
            return
        for place, layer in zip(room, block, strict=True):  # a layer at a time: nothing large lies twice
            place.copy_(layer.to(room.device, non_blocking=True))

    def _forget(self) -> None:
        """Lets all recorded steps go; a pool whose last step went takes no other."""
        import torch

        self._steps.clear()
        self.pool = torch.cuda.graph_pool_handle() if self.record else None

    def _room(self, entries: "Sequence[Sequence[Entry]]", rows: int, longest: int) -> "Tensor":
        """Room for the prefixes of a batch, one after another, where the recorded steps read them."""
        import torch

        first = next((entry.block() for path in entries for entry in path), None)
        known = None if self.prefix is None else (*self.prefix.shape[:3], self.prefix.shape[-1])
        if first is not None:
            shape = (*first.shape[:3], first.shape[-1])
        else:  # a plain LoRA's rows have no prefix: the room stays empty
            config = _config(self.model)
            heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
            shape = known or (config.num_hidden_layers, 2, heads, _head(config))
        need = rows * longest
        if self.prefix is None or known != shape or self._capacity < need or self.longest < longest:
            self.longest, self._capacity = max(self.longest, longest), max(self._capacity, need)
            self._forget()  # they read the old place
            self.prefix = None
            size = (*shape[:3], self._capacity, shape[3])
            self.prefix = torch.zeros(size, dtype=_dtype(self.model), device=self.device)
        return self.prefix


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
        # the spare tokens are a row too; one that is longer than is said stays unwritten in part
        self._longest = (max(longest, _grain(tokens, TOKENS)), graphs.longest)
        self._inputs = torch.zeros(sum(self._sizes), dtype=torch.int64, device=graphs.device)
        self._recorded: tuple[Any, Any, Tensor, Tensor, list[Tensor | None]] | None = None

    def run(
        self, runs: Sequence[Sequence[int]], lengths: Sequence[int], keep: Sequence[Sequence[int]]
    ) -> "Tensor":
        """Logits `[kept bucket, vocabulary]`; those beyond what `keep` names mean nothing."""
        import torch

        self._inputs.copy_(self._filled(runs, lengths, keep), non_blocking=True)
        if not self._graphs.record:
            return self._pass()
        if self._recorded is None:
            with torch.cuda.device(self._graphs.device):  # a recording is made on the present one
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
            stored = (prefix[layer, 0].transpose(0, 1), prefix[layer, 1].transpose(0, 1))
            return attend(query, key, value, stored, own, before, graphs.kernel)

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
        with _without_warning(), torch.cuda.stream(side), torch.enable_grad():
            for _ in range(WARM_UP):
                out = self._pass()
                torch.autograd.grad(out, graphs.parameters, torch.zeros_like(out), allow_unused=True)
        torch.cuda.current_stream(graphs.device).wait_stream(side)
        torch.cuda.synchronize(graphs.device)
        ahead, back = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with _without_warning(), torch.enable_grad():
            with torch.cuda.graph(ahead, pool=graphs.pool):
                out = self._pass()
            wish = torch.zeros_like(out)
            with torch.cuda.graph(back, pool=graphs.pool):
                grads = torch.autograd.grad(out, graphs.parameters, wish, allow_unused=True)
        self._recorded = (ahead, back, out.detach(), wish, list(grads))

    def replay(self) -> "Tensor":
        """Runs the recorded forward pass."""
        import torch

        ahead, _, out, _, _ = self._recorded or _unrecorded()
        self._graphs.replays += 1
        with torch.cuda.device(self._graphs.device):
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
        with torch.cuda.device(self._graphs.device):
            back.replay()
        copies = iter(torch._foreach_add([grad for grad in grads if grad is not None], 0.0))
        return [None if grad is None else next(copies) for grad in grads]


@contextmanager
def _without_warning() -> Iterator[None]:
    """Torch warns when a parameter's gradients were last added up on another stream: here none are."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The AccumulateGrad node's stream")
        yield


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
    """A number rounded up: to few sizes where it is large, or each of them would be recorded."""
    grain = _grain(number, step)
    return -(-number // grain) * grain


def _grain(number: int, step: int) -> int:
    """The distance of sizes about a number; it does not fall as the number rises."""
    return max(step, 1 << max(0, number.bit_length() - 3))
