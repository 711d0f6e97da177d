"""Recovery without gradients: what each layer reads and writes is brought to what the teacher does.

Behind a prefix of the base's keys and values a relabelled adapter strays from the LoRA that it was, layer by
layer further. From the first layer to the last, queries are turned to what the teacher's attended to
(`zoo.training.queries`), and the output projections of attention and MLP are given the correction of low rank
that takes the residual stream back to the teacher's: ridge regression from the projection's own inputs, with
all corrections before it in place.
Source: reduced-rank regression, Izenman 1975; layers fitted in order on what those before them give now, as
in Frantar and Alistarh 2022, Optimal Brain Compression, arXiv 2208.11580, section 6. For aLoRA our own.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.progress import Progress, silent
from zoo.staging import staged_folder
from zoo.training import queries
from zoo.training.adapted import everywhere
from zoo.training.attention import packed, shown
from zoo.training.lines import Line, entered
from zoo.training.low_rank import held, leading, put
from zoo.training.prefix import PrefixStore
from zoo.training.queries import Asked
from zoo.training.residual import Block, blocks_of, watched
from zoo.training.streams import Streams

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from zoo.training.exact import Row, Rule

SAID_NAME, WEIGHTS_NAME = "calibrated.json", "weights.safetensors"
RIDGE = 0.03  # of the mean square of an input
NO_FURTHER = 1e-4  # nats a token: what is closer than that is the same, to rounding in bfloat16
WHOLE, OUTPUTS, NOTHING = "queries and outputs", "outputs", "nothing"  # what was fitted


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """How a calibration went.

    Attributes:
        fitted: what the model now has: what was fitted of it, or `NOTHING`.
        off: how far the last layer's stream was from the teacher's and how far it is.
        divergence: by what was fitted, from the teacher on samples that were not fitted to; `NOTHING` is
            before.
        samples: fitted to.
    """

    fitted: str
    off: tuple[float, float]
    divergence: dict[str, float]
    samples: int

    @property
    def left(self) -> float:
        """Of the divergence before, the share that is left; 1 where nothing was fitted."""
        if self.fitted == NOTHING:
            return 1.0
        return self.divergence[self.fitted] / max(self.divergence[NOTHING], NO_FURTHER)

    def to_document(self) -> dict[str, Any]:
        """What a training record says of it."""
        return {
            "samples": self.samples, "fitted": self.fitted, "kept": self.fitted != NOTHING,
            "stream_off": list(self.off),
            "divergence": [self.divergence[NOTHING], self.divergence[self.fitted]], "tried": self.divergence,
        }  # fmt: skip

    def keep(self, folder: Path, model: "PeftModel") -> None:
        """Writes it and the model's weights to a new folder: see `kept`."""
        from safetensors.torch import save_file

        with staged_folder(folder) as stage:
            (stage / SAID_NAME).write_text(json.dumps(asdict(self)), encoding="utf-8")
            save_file(
                {name: tensor.cpu() for name, tensor in trained_weights(model).items()}, stage / WEIGHTS_NAME
            )


def kept(folder: Path, model: "PeftModel") -> Calibrated:
    """What `Calibrated.keep` wrote there; the model takes its weights.

    A recovery that was stopped goes on from it: made again it takes minutes, and with less free memory it
    would be of fewer samples.
    """
    from safetensors.torch import load_file

    take(model, load_file(folder / WEIGHTS_NAME))
    said = json.loads((folder / SAID_NAME).read_text(encoding="utf-8"))
    return Calibrated(**{**said, "off": tuple(said["off"])})


def closest(
    model: "PeftModel",
    store: PrefixStore,
    wanted: Streams,
    far: Callable[[], float],
    progress: Progress = silent,
) -> Calibrated:
    """Calibrates with queries and without them, and leaves the model as it was closest.

    Queries that attend as the LoRA's did are most of it where an answer is copied out of the prompt. Where
    it is read off the values of a few tokens, outputs that were fitted alone may serve as well or better.

    Args:
        model: as `calibrate` takes it.
        store: likewise.
        wanted: likewise.
        far: how far the present weights are from the teacher on samples that are not fitted to.
        progress: told about each layer.
    """
    start = trained_weights(model)
    found, best = {NOTHING: far()}, NOTHING
    closest_by, off = start, (0.0, 0.0)
    asking = any(part for layer in wanted.patterns for part in layer)
    for asked in (True, False) if asking else (False,):
        take(model, start)
        *now, turned = calibrate(model, store, wanted, progress, asking=asked)
        way = WHOLE if turned else OUTPUTS
        found[way] = far()
        progress("calibrate", done=1, total=1, note=f"{way}: divergence {found[way]:.4f}")
        if found[way] <= found[best]:
            best, closest_by, off = way, trained_weights(model), (now[0], now[1])
        if not turned:
            break  # these queries cannot be fitted: without them it would be the same again
    take(model, closest_by)
    return Calibrated(fitted=best, off=off, divergence=found, samples=sum(map(len, wanted.batches)))


def trained_weights(model: "PeftModel") -> "dict[str, Tensor]":
    """A copy of what is trained of a model, by parameter name."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def take(model: "PeftModel", weights: "dict[str, Tensor]") -> None:
    """Gives a model what `trained_weights` gave of it."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])


def calibrate(
    model: "PeftModel",
    store: PrefixStore,
    wanted: Streams,
    progress: Progress = silent,
    *,
    asking: bool = True,
) -> tuple[float, float, int]:
    """Sets the updates of queries and output projections so that the student's stream follows the teacher's.

    Args:
        model: base and adapter; the updates of the output projections are added to, those of queries changed.
        store: the same samples, prefixes by the base.
        wanted: what the teacher wrote.
        progress: told about each layer.
        asking: whether queries are fitted too.

    Returns:
        How far the last layer's stream was from the teacher's and how far it is, mean squares relative to
        the teacher's; and of how many layers the queries were fitted.
    """
    import torch

    blocks = blocks_of(model)
    before = after = 0.0
    turned = 0
    with torch.no_grad(), everywhere(model, on=True):
        lines = [entered(blocks, store, rows) for rows in wanted.batches]
        for number, block in enumerate(blocks):
            if asking and block.asker is not None and any(wanted.patterns[number]):
                asked = _asked(model, block, lines, wanted.patterns[number])
                turned += queries.fit(block.asker, number, asked)
            middle, end = wanted.middle[number], wanted.end[number]
            _correct(model, block, 0, lines, middle, wanted.share)
            before = _correct(model, block, 1, lines, end, wanted.share)
            after = _apart([line.stream for line in lines], end)
            progress("calibrate", done=number + 1, total=len(blocks), note=f"{before:.2%} to {after:.2%} off")
    return before, after, turned


def _correct(
    model: "PeftModel", block: Block, place: int, lines: "list[Line]", goals: "list[Tensor]", part: float
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
    put(writer, [held(writer), (a, b / part)])
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
    directions = leading(whole, cross, rank)
    return (whole @ directions).T, directions


def _asked(
    model: "PeftModel", block: Block, lines: "list[Line]", patterns: "Sequence[dict[int, Tensor]]"
) -> "Iterator[tuple[Asked, Sequence[Row], dict[int, Tensor]]]":
    """What a layer asks in each batch of which patterns are known."""
    for line, known in zip(lines, patterns, strict=True):
        if not known:
            continue
        kept: list[Any] = []
        handle = block.asker.register_forward_hook(
            lambda _, args, out, kept=kept: kept.extend((args[0], out))
        )

        def see(_: int, query: "Tensor", key: "Tensor", rule: "Rule", kept: list[Any] = kept) -> None:
            kept.extend((query, key, rule))

        try:
            with packed(model.get_base_model(), shown(line.given, see)):  # type: ignore[arg-type]
                block.layer(line.stream[None], **line.kwargs)
        finally:
            handle.remove()
        given, made, query, key, rule = kept
        turn = line.kwargs.get("position_embeddings")
        turn = (turn[0][0], turn[1][0]) if isinstance(turn, tuple) else None
        yield (
            Asked(given=given[0], made=made[0], query=query, key=key, rule=rule, turn=turn),
            line.rows,
            known,
        )


def _ran(model: "PeftModel", block: Block, place: int, line: Line, part: float) -> _Written:
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
