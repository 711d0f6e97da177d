"""What the teacher does at every token of some samples' suffixes, layer by layer: writes, and attends."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zoo.errors import UndecidedError
from zoo.progress import Progress, silent
from zoo.training.adapted import everywhere
from zoo.training.attention import packed, shown
from zoo.training.lines import laid
from zoo.training.prefix import PrefixStore, batches
from zoo.training.queries import HELD, chances
from zoo.training.residual import blocks_of, share, watched
from zoo.training.tiers import free_host_bytes

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor

    from zoo.training.dataset import Encoded
    from zoo.training.exact import Rule

ROWS = {"cpu": 32, "cuda": 512}  # samples of a pass
TOKENS = 4096  # of them on a GPU, whose streams at every layer are held: 4 GiB of an 8B base
SAMPLES, ROOM = 4096, 16 << 30  # at most: of samples, of bytes of host memory for their streams
ATTENDED = 8192  # tokens whose patterns of attention are held, at most
ROUNDING = 0.005  # of bfloat16, in a share of 1
_HALF = 0.5  # of the host memory that is free


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """The teacher's residual stream at every token of the samples' suffixes.

    Attributes:
        batches: sample indices of each batch.
        middle: per layer and batch, behind the attention: `[tokens, hidden]` in the base's dtype.
        end: per layer and batch, behind the layer.
        patterns: per layer and batch, by the place of a sample in it, for some of them: the logarithm of how
            its tokens attend, float16 `[heads, tokens, seen]`.
        share: of what the writers give.
    """

    batches: list[list[int]]
    middle: "list[list[Tensor]]"
    end: "list[list[Tensor]]"
    patterns: "list[list[dict[int, Tensor]]]"
    share: float


def streams(model: "PeftModel", samples: "Sequence[Encoded]", progress: Progress = silent) -> Streams:
    """What the teacher writes, with the adapter on every token of the prompt.

    Args:
        model: base and adapter, with the teacher's weights.
        samples: whose suffixes, answers included; some of them, evenly over the list, are run.
        progress: told about each batch.

    Raises:
        UndecidedError: the base's layers do not add what their output projections give.
    """
    blocks = blocks_of(model)
    chosen = _chosen(samples, hidden=blocks[0].writers[0].out_features, layers=len(blocks))
    device = next(model.parameters()).device.type
    parts = [
        [chosen[place] for place in places]
        for places in batches([samples[row] for row in chosen], device, most=_rows(samples, device))
    ]
    asking = any(block.asker is not None for block in blocks)
    few = _attending(model, [samples[row] for row in chosen], len(blocks)) if asking else 0
    attending = {chosen[place * len(chosen) // few] for place in range(few)}
    found = Streams(
        batches=parts,
        middle=[[] for _ in blocks],
        end=[[] for _ in blocks],
        patterns=[[] for _ in blocks],
        share=1.0,
    )
    shares: list[float] = []
    for rows in parts:
        places = [place for place, row in enumerate(rows) if row in attending]
        shares.extend(_run(model, [samples[row] for row in rows], places, found, shares))
        progress("teacher's layers", done=chosen.index(rows[-1]) + 1, total=len(chosen))
    if max(shares) - min(shares) > 0.05 * max(shares):
        raise UndecidedError("the layers of this base add different shares", hint="leave --calibrate out")
    mean = sum(shares) / len(shares)
    return replace(found, share=1.0 if abs(mean - 1) < ROUNDING else mean)


def _run(
    model: "PeftModel",
    samples: "Sequence[Encoded]",
    places: Sequence[int],
    found: Streams,
    known: Sequence[float],
) -> list[float]:
    """One batch, added to what is found; the shares of its layers."""
    import torch

    base: Any = model.get_base_model()
    blocks = blocks_of(model)
    store = PrefixStore(model, samples, adapted=True)
    store.fill()
    given, called, rows = laid(store, range(len(samples)))
    for patterns in found.patterns:
        patterns.append({})

    def see(layer: int, query: "Tensor", key: "Tensor", rule: "Rule") -> None:
        for place in places:
            held = chances(query, key, rows[place], rule, layer)
            if held is not None:
                found.patterns[layer][-1][place] = held.half().cpu()

    with (
        torch.no_grad(),
        everywhere(model, on=True),
        packed(base, shown(given, see)),
        watched(blocks) as seen,
    ):
        base(**called, use_cache=False, logits_to_keep=1)
    shares = [share(one) for one in seen]
    first = [*known, *shares][0]
    for number, one in enumerate(seen):
        begin, behind = one.stream
        found.middle[number].append((begin + first * one.written[0]).cpu())
        found.end[number].append(behind.cpu())
    return shares


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


def _attending(model: "PeftModel", samples: "Sequence[Encoded]", layers: int) -> int:
    """Of how many of these the patterns are held: what memory and a layer's curvatures allow, or none."""
    base: Any = model.get_base_model()
    config = base.config.get_text_config(decoder=True)
    heads = config.num_attention_heads
    wide = getattr(config, "head_dim", None) or config.hidden_size // heads
    suffixes = [len(sample.lead) + len(sample.answer) for sample in samples]
    tokens = sum(suffixes) / len(samples)
    held = 2 * heads * layers * max(size * one.tokens for size, one in zip(suffixes, samples, strict=True))
    room = _HALF * min(ROOM, int(_HALF * free_host_bytes()))
    return min(len(samples), int(min(ATTENDED, HELD / (4 * heads * wide**2)) / tokens), int(room / held))
