"""Many texts decoded together, each steered by a row object that says what is forced, allowed and enough."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from zoo.errors import DefectError, UndecidedError
from zoo.progress import Progress, silent
from zoo.training.adapted import everywhere
from zoo.training.attention import packable, packed
from zoo.training.invention.lanes import Lanes

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor


class Row(Protocol):
    """One text while it is decoded."""

    @property
    def ids(self) -> Sequence[int]:
        """What it begins with, behind what all rows share; at least one id."""

    @property
    def ended(self) -> bool:
        """Whether it is complete, or given up."""

    def forced(self) -> int | None:
        """The id that comes next whatever the model says, or None."""

    def allowed(self) -> "Tensor | None":
        """Which ids may be drawn: bool `[vocabulary]` or shorter, None when all may."""

    def take(self, token: int) -> int:
        """Takes note of the id that was forced or drawn.

        Returns:
            How many of the last ids, this one included, shall not have been said. Unless the row has ended,
            something is forced then.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How an id is drawn.

    Attributes:
        temperature: 0 takes the likeliest.
        min_p: ids less likely than this share of the likeliest one's probability are never drawn.
        seed: of the numbers; the same on every device.

    Source: min-p sampling, arXiv 2407.01082.
    """

    temperature: float = 0.0
    min_p: float = 0.0
    seed: int = 0


def decode(
    model: "PeftModel",
    rows: Sequence[Row],
    *,
    shared: Sequence[int] = (),
    adapted: bool,
    drawing: Drawing,
    room: int,
    banned: Sequence[int] = (),
    label: str = "decode",
    progress: Progress = silent,
) -> None:
    """Decodes rows until all have ended; each keeps what it was told.

    Args:
        model: base and adapter.
        rows: at least one.
        shared: what all of them begin with, run once.
        adapted: whether the adapter acts, on every token: a plain LoRA, or the base.
        drawing: how.
        room: tokens that a row takes at most.
        banned: ids that are never drawn, except where a row says what it allows.
        label: the stage's name for progress.
        progress: told how many rows have ended.

    Raises:
        UndecidedError: the base does not attend in a way that rows can be packed in; or its logits are
            not numbers.
    """
    import torch

    base: Any = model.get_base_model()
    if not packable(base):
        raise UndecidedError(
            f"{type(base).__name__} attends in a way in which many texts cannot be decoded together",
            hint="give data of your own: --recover DATA.jsonl",
        )
    lanes = Lanes(model, shared, [row.ids for row in rows], adapted=adapted, room=room)
    numbers = torch.Generator().manual_seed(drawing.seed)
    active = list(range(len(rows)))
    inputs = [row.ids[-1] for row in rows]
    with torch.no_grad(), everywhere(model, on=adapted), packed(base, lanes.given()):
        while active:
            positions = lanes.advance()
            line = torch.tensor([inputs], device=positions.device)
            output = base(input_ids=line, position_ids=positions, use_cache=False)
            # numbers of all rows: what one draws does not hang on when another ended
            drawn = torch.rand(len(rows), generator=numbers)[active]
            some = [rows[index] for index in active]
            chosen = _choose(output.logits[0].float(), some, drawn, drawing, banned)
            following = [
                _next(row, token, lanes, at) for at, (row, token) in enumerate(zip(some, chosen, strict=True))
            ]
            going = [at for at, row in enumerate(some) if not row.ended]
            inputs = [following[at] for at in going]
            if len(going) < len(active):
                active = [active[at] for at in going]
                if active:
                    lanes.keep(going)
                progress(label, done=len(rows) - len(active), total=len(rows))


def _next(row: Row, drawn: int, lanes: Lanes, at: int) -> int:
    """Tells a row its next id, hides what it takes back, and says what is run next."""
    forced = row.forced()
    token = drawn if forced is None else forced
    back = row.take(token)
    if not back:
        return token
    lanes.forget(at, back - 1)  # the last one was not run yet
    if row.ended:
        return token
    forced = row.forced()
    if forced is None or row.take(forced):
        raise DefectError("a row took back what it said, and has nothing to go on with")
    return forced


def _choose(
    logits: "Tensor", rows: Sequence[Row], drawn: "Tensor", drawing: Drawing, banned: Sequence[int]
) -> list[int]:
    """One id a row from logits `[rows, vocabulary]` and uniform numbers `[rows]`."""
    import torch

    wrong = logits.isnan().any()
    allowed = [row.allowed() if row.forced() is None else None for row in rows]
    if banned:
        free = [at for at, one in enumerate(allowed) if one is None]
        logits[torch.tensor(free, dtype=torch.long)[:, None], torch.tensor(list(banned))] = -torch.inf
    for at, mask in enumerate(allowed):
        if mask is not None:
            logits[at, len(mask) :] = -torch.inf
            logits[at, : len(mask)].masked_fill_(~mask.to(logits.device)[: logits.shape[1]], -torch.inf)
    if drawing.temperature:
        odds = (logits / drawing.temperature).softmax(dim=-1)
        odds = odds.masked_fill(odds < drawing.min_p * odds.amax(dim=-1, keepdim=True), 0.0)
        sums = odds.cumsum(dim=-1)
        # a hair below the whole sum, so that rounding never picks an id behind the last likely one
        wanted = drawn.to(sums.device)[:, None] * sums[:, -1:] * (1 - 1e-6)
        found = torch.searchsorted(sums, wanted, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
    else:
        found = logits.argmax(dim=-1)
    *tokens, bad = torch.cat([found, wrong.to(found.dtype)[None]]).tolist()
    if bad:
        raise UndecidedError("the model's logits are not numbers", hint="zoo validate, or another dtype")
    return tokens
