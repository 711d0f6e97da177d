"""Recovery without gradients: what each layer writes is brought to what the teacher wrote, in closed form.

Behind a prefix of the base's keys and values a relabelled adapter strays from the LoRA that it was, layer by
layer further. From the first layer to the last, the output projections of attention and MLP are given the
correction of low rank that takes the residual stream back to the teacher's: ridge regression from the
projection's own inputs, with all corrections before it in place.
Source: reduced-rank regression, Izenman 1975; layers fitted in order on what those before them give now, as
in Frantar and Alistarh 2022, Optimal Brain Compression, arXiv 2208.11580, section 6. For aLoRA our own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import UndecidedError
from zoo.progress import Progress, silent
from zoo.training.adapted import everywhere
from zoo.training.attention import Pass, Stopped, packed
from zoo.training.packed import laid_out
from zoo.training.prefix import PrefixStore, answer_logits, batches, suffixes
from zoo.training.residual import Block, blocks_of, share, watched
from zoo.training.tiers import free_host_bytes

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from zoo.training.dataset import Encoded
    from zoo.training.entry import Layers

RIDGE = 0.03  # of the mean square of an input
ROWS = {"cpu": 32, "cuda": 512}  # samples of a pass
TOKENS = 4096  # of them on a GPU, whose streams at every layer are held: 4 GiB of an 8B base
MORE, TURNS = 8, 12  # directions beside those that are wanted, and how often they are turned towards them
SAMPLES, ROOM = 4096, 16 << 30  # at most: of samples, of bytes of host memory for their streams
ROUNDING = 0.005  # of bfloat16, in a share of 1
_HALF = 0.5  # of the host memory that is free


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """The teacher's residual stream at every token of the samples' suffixes.

    Attributes:
        batches: sample indices of each batch.
        middle: per layer and batch, behind the attention: `[tokens, hidden]` in the base's dtype.
        end: per layer and batch, behind the layer.
        share: of what the writers give.
    """

    batches: list[list[int]]
    middle: "list[list[Tensor]]"
    end: "list[list[Tensor]]"
    share: float


class Near(Sequence["tuple[Tensor, Tensor]"]):
    """The layers of a stored prefix, of which only the one asked for last is copied to the device."""

    def __init__(self, layers: "Layers", device: Any) -> None:
        """Nothing is copied yet; `layers` may lie in host memory."""
        self._layers = layers
        self._device = device
        self._last: tuple[int, tuple[Tensor, Tensor]] | None = None

    def __len__(self) -> int:
        return len(self._layers)

    def __getitem__(self, layer: Any) -> Any:
        if self._last is None or self._last[0] != layer:
            keys, values = self._layers[layer]
            self._last = (layer, (keys.to(self._device), values.to(self._device)))
        return self._last[1]


@dataclass(slots=True, kw_only=True)
class _Line:
    """One batch of the student, as far as it was run: the stream, and how a layer is called."""

    given: Pass
    stream: "Tensor"
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """One projection's part in a layer that was run.

    Attributes:
        given: its input, `[tokens, in]`.
        before: the stream that it was added to, `[tokens, hidden]`.
        behind: the stream with it.
    """

    given: "Tensor"
    before: "Tensor"
    behind: "Tensor"


def streams(model: "PeftModel", samples: "Sequence[Encoded]", progress: Progress = silent) -> Streams:
    """What the teacher writes, with the adapter on every token of the prompt.

    Args:
        model: base and adapter, with the teacher's weights.
        samples: whose suffixes, answers included; some of them, evenly over the list, are run.
        progress: told about each batch.

    Raises:
        UndecidedError: the base's layers do not add what their output projections give.
    """
    import torch

    blocks = blocks_of(model)
    chosen = _chosen(samples, hidden=blocks[0].writers[0].out_features, layers=len(blocks))
    device = next(model.parameters()).device.type
    parts = [
        [chosen[place] for place in places]
        for places in batches([samples[row] for row in chosen], device, most=_rows(samples, device))
    ]
    middle: list[list[Tensor]] = [[] for _ in blocks]
    end: list[list[Tensor]] = [[] for _ in blocks]
    shares: list[float] = []
    for rows in parts:
        store = PrefixStore(model, [samples[row] for row in rows], adapted=True)
        store.fill()
        with torch.no_grad(), watched(blocks) as seen:
            answer_logits(store, range(len(rows)), recorded=False)
        shares.extend(map(share, seen))
        for number, one in enumerate(seen):
            begin, behind = one.stream
            middle[number].append((begin + shares[0] * one.written[0]).cpu())
            end[number].append(behind.cpu())
        progress("teacher's layers", done=chosen.index(rows[-1]) + 1, total=len(chosen))
    if max(shares) - min(shares) > 0.05 * max(shares):
        raise UndecidedError("the layers of this base add different shares", hint="leave --calibrate out")
    mean = sum(shares) / len(shares)
    return Streams(batches=parts, middle=middle, end=end, share=1.0 if abs(mean - 1) < ROUNDING else mean)


def _rows(samples: "Sequence[Encoded]", device: str) -> int:
    """How many samples of a pass."""
    rows = ROWS.get(device, ROWS["cpu"])
    return rows if device == "cpu" else max(1, min(rows, TOKENS // _longest(samples)))


def _longest(samples: "Sequence[Encoded]") -> int:
    """Tokens of the longest suffix."""
    return max(len(sample.lead) + len(sample.answer) for sample in samples)


def _chosen(samples: "Sequence[Encoded]", *, hidden: int, layers: int) -> list[int]:
    """As many as the room for their streams allows, evenly over the list: its order may mean something."""
    tokens = _longest(samples)
    room = min(ROOM, int(_HALF * free_host_bytes()))
    most = max(1, min(len(samples), SAMPLES, room // (tokens * hidden * layers * 2 * 4)))
    return [place * len(samples) // most for place in range(most)]


def calibrate(
    model: "PeftModel", store: PrefixStore, wanted: Streams, progress: Progress = silent
) -> tuple[float, float]:
    """Sets the output projections' updates so that the student's stream follows the teacher's.

    Args:
        model: base and adapter; the updates of the output projections are added to.
        store: the same samples, prefixes by the base.
        wanted: what the teacher wrote.
        progress: told about each layer.

    Returns:
        How far the last layer's stream was from the teacher's and how far it is, mean squares relative to
        the teacher's.
    """
    import torch

    blocks = blocks_of(model)
    before = after = 0.0
    with torch.no_grad(), everywhere(model, on=True):
        lines = [_entered(model, blocks, store, rows) for rows in wanted.batches]
        for number, block in enumerate(blocks):
            middle, end = wanted.middle[number], wanted.end[number]
            _correct(model, block, 0, lines, middle, wanted.share)
            before = _correct(model, block, 1, lines, end, wanted.share)
            after = _apart([line.stream for line in lines], end)
            progress("calibrate", done=number + 1, total=len(blocks), note=f"{before:.2%} to {after:.2%} off")
    return before, after


def _correct(
    model: "PeftModel", block: Block, place: int, lines: "list[_Line]", goals: "list[Tensor]", part: float
) -> float:
    """Corrects one projection, the layer's last one for good; how far the stream behind it was off."""
    import torch

    writer = block.writers[place]
    wide = writer.in_features
    gram = goals[0].new_zeros(wide, wide, dtype=torch.float64, device=lines[0].stream.device)
    cross = gram.new_zeros(wide, goals[0].shape[1])
    ran = [_ran(model, block, place, line, part) for line in lines]
    for one, goal in zip(ran, goals, strict=True):
        # a GPU takes a batch's products in float32: most do float64 dozens of times more slowly
        x = one.given.double() if one.given.device.type == "cpu" else one.given.float()
        gram += x.T @ x
        cross += x.T @ (goal.to(x) - one.behind.to(x))
    a, b = _reduced(gram, cross, writer.lora_A[writer.active_adapters[0]].weight.shape[0])
    _add(writer, a, b / part)
    if place == 1:
        for line, one in zip(lines, ran, strict=True):
            line.stream = one.before + part * writer(one.given)
    return _apart([one.behind for one in ran], goals)


def _apart(streams: "list[Tensor]", goals: "list[Tensor]") -> float:
    """Mean square of differences, relative to the goals'."""
    far = size = 0.0
    for stream, goal in zip(streams, goals, strict=True):
        wanted = goal.to(stream.device).float()
        far, size = far + float((stream.float() - wanted).square().sum()), size + float(wanted.square().sum())
    return far / size


def _reduced(gram: "Tensor", cross: "Tensor", rank: int) -> "tuple[Tensor, Tensor]":
    """Factors of the map of low rank that explains most of an error from an input.

    Args:
        gram: of the inputs, float64 `[in, in]`.
        cross: inputs against errors, float64 `[in, out]`.
        rank: of the map.

    Returns:
        float64 `[rank, in]` and `[out, rank]`.
    """
    import torch

    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    whole = torch.cholesky_solve(cross, torch.linalg.cholesky(gram))
    # the leading directions of what is explained, by subspace iteration: a whole decomposition takes minutes
    numbers = torch.Generator().manual_seed(0)
    directions = torch.randn(cross.shape[1], min(rank + MORE, cross.shape[1]), generator=numbers).to(cross)
    for _ in range(TURNS):
        directions = torch.linalg.qr(whole.T @ (cross @ directions)).Q
    inner = (whole @ directions).T @ (cross @ directions)
    turns = torch.linalg.eigh((inner + inner.T) / 2).eigenvectors[:, -rank:]
    directions = directions @ turns
    return (whole @ directions).T, directions


def _add(writer: Any, a: "Tensor", b: "Tensor") -> None:
    """Adds `b @ a` to a projection's update, at its rank: of that rank, what is nearest to the sum."""
    import torch

    (name,) = writer.active_adapters
    old_a, old_b = writer.lora_A[name].weight, writer.lora_B[name].weight
    scale = writer.scaling[name]
    q_b, r_b = torch.linalg.qr(torch.cat([old_b.double() * scale, b], dim=1))
    q_a, r_a = torch.linalg.qr(torch.cat([old_a.double(), a]).T)
    u, s, vt = torch.linalg.svd(r_b @ r_a.T)
    rank = old_a.shape[0]
    roots = s[:rank].sqrt()
    old_a.copy_(roots[:, None] * (q_a @ vt[:rank].T).T)
    old_b.copy_((q_b @ u[:, :rank]) * roots / scale)


def _entered(model: "PeftModel", blocks: Sequence[Block], store: PrefixStore, rows: Sequence[int]) -> _Line:
    """A batch before the first layer."""
    base: Any = model.get_base_model()
    samples = [store.samples[row] for row in rows]
    runs, _ = suffixes(samples, [sample.answer for sample in samples])
    device = store.device
    paths = store.entries(rows, lying=True)
    near = {id(entry): Near(entry.layers(), device) for path in paths for entry in path}
    given, ids, positions = laid_out(model, runs, [[near[id(entry)] for entry in path] for path in paths])
    kept: dict[str, Any] = {}

    def stop(_: Any, args: Any, kwargs: Any) -> None:
        kept.update(kwargs, hidden_states=args[0] if args else kwargs["hidden_states"])
        raise Stopped

    handle = blocks[0].layer.register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with packed(base, given):
            base(input_ids=ids, position_ids=positions, use_cache=False, logits_to_keep=1)
    except Stopped:
        pass
    finally:
        handle.remove()
    stream = kept.pop("hidden_states")[0]
    return _Line(given=given, stream=stream, kwargs=kept)


def _ran(model: "PeftModel", block: Block, place: int, line: _Line, part: float) -> _Written:
    """Runs a layer, and says what one of its writers did."""
    kept: list[Any] = []
    handle = block.writers[place].register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    try:
        with packed(model.get_base_model(), line.given), watched([block]) as (seen,):  # type: ignore[arg-type]
            block.layer(line.stream[None], **line.kwargs)
    finally:
        handle.remove()
    begin, end = seen.stream
    middle = begin + part * seen.written[0]
    given = kept[0].reshape(-1, kept[0].shape[-1])
    if place == 0:
        return _Written(given=given, before=begin, behind=middle)
    return _Written(given=given, before=middle, behind=end)
