from collections.abc import Sequence

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from tests.training.engine import TOLERANCE, VOCABULARY, build
from zoo.training.adapted import everywhere
from zoo.training.attention import packed
from zoo.training.invention.lanes import Lanes
from zoo.training.invention.sampler import Drawing, _choose, decode

SHARED = tuple(range(5, 17))
ROWS = [(20,), (21, 22, 23, 24), (25, 26)]


@pytest.fixture(scope="module", params=["llama", "gemma2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PeftModel:
    return build(tmp_path_factory.mktemp("lanes"), request.param)[0]


def whole(model: PeftModel, ids: Sequence[int], *, adapted: bool) -> Tensor:
    """transformers' own full pass; the last token's logits, `[vocabulary]`."""
    with torch.no_grad(), everywhere(model, on=adapted):
        logits: Tensor = model.get_base_model()(input_ids=torch.tensor([list(ids)]), use_cache=False).logits
    return logits[0, -1].float()


def step(model: PeftModel, lanes: Lanes, tokens: Sequence[int], *, adapted: bool) -> Tensor:
    base = model.get_base_model()
    with torch.no_grad(), everywhere(model, on=adapted), packed(base, lanes.given()):  # type: ignore[arg-type]
        positions = lanes.advance()
        output = base(input_ids=torch.tensor([list(tokens)]), position_ids=positions, use_cache=False)
    logits: Tensor = output.logits[0].float()
    return logits


def difference(found: Tensor, wanted: Sequence[Tensor]) -> float:
    expected = torch.stack(list(wanted))
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("adapted", [True, False])
@pytest.mark.parametrize("shared", [SHARED, ()])
def test_rows_of_different_lengths_decode_as_each_would_alone(
    model: PeftModel, shared: tuple[int, ...], adapted: bool
) -> None:
    lanes = Lanes(model, shared, ROWS, adapted=adapted, room=8)
    texts = [list(shared) + list(row) for row in ROWS]
    for number in range(4):
        found = step(model, lanes, [text[-1] for text in texts], adapted=adapted)
        assert difference(found, [whole(model, text, adapted=adapted) for text in texts]) <= TOLERANCE
        for row, text in enumerate(texts):
            text.append(30 + 5 * number + row)
    other = [whole(model, text, adapted=not adapted) for text in texts]
    found = step(model, lanes, [text[-1] for text in texts], adapted=adapted)
    assert difference(found, other) > 100 * TOLERANCE


def test_what_is_taken_back_was_never_said_and_rows_that_end_leave_the_others_as_they_are(
    model: PeftModel,
) -> None:
    lanes = Lanes(model, SHARED, ROWS, adapted=True, room=8)
    texts = [list(SHARED) + list(row) for row in ROWS]
    for token in (40, 41):
        step(model, lanes, [text[-1] for text in texts], adapted=True)
        for text in texts:
            text.append(token)
    step(model, lanes, [text[-1] for text in texts], adapted=True)
    lanes.forget(1, 2)  # the tokens 40 and 41 of the second row
    lanes.keep([1, 2])
    rows = [[*SHARED, *ROWS[1], 50], [*texts[2], 50]]
    found = step(model, lanes, [50, 50], adapted=True)
    assert difference(found, [whole(model, row, adapted=True) for row in rows]) <= TOLERANCE
    unforgotten = [[*texts[1], 50], [*texts[2], 50]]
    assert difference(found, [whole(model, row, adapted=True) for row in unforgotten]) > 100 * TOLERANCE


class Said:
    """A row of so many tokens that may be anything."""

    def __init__(self, ids: Sequence[int], count: int) -> None:
        self.ids, self.count = ids, count
        self.tokens: list[int] = []

    @property
    def ended(self) -> bool:
        return len(self.tokens) == self.count

    def forced(self) -> int | None:
        return None

    def allowed(self) -> Tensor | None:
        return None

    def take(self, token: int) -> int:
        self.tokens.append(token)
        return 0


def drawn(model: PeftModel, counts: Sequence[int], **drawing: float) -> list[list[int]]:
    rows = [Said(row, count) for row, count in zip(ROWS, counts, strict=True)]
    decode(
        model, rows, shared=SHARED, adapted=True, room=12, banned=[7, 8],
        drawing=Drawing(**drawing),  # type: ignore[arg-type]
    )  # fmt: skip
    return [row.tokens for row in rows]


def test_a_seed_decides_the_text_whenever_other_rows_end(model: PeftModel) -> None:
    first = drawn(model, (10, 10, 10), temperature=1.0, seed=3)
    assert [row[:4] for row in drawn(model, (4, 10, 10), temperature=1.0, seed=3)] == [
        row[:4] for row in first
    ]
    assert drawn(model, (4, 10, 10), temperature=1.0, seed=3)[1:] == first[1:]
    assert drawn(model, (10, 10, 10), temperature=1.0, seed=4) != first
    assert not {7, 8} & {token for row in first for token in row}


def test_min_p_leaves_out_what_is_unlikely_and_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.log(torch.tensor([[0.6, 0.3, 0.06, 0.04]])).repeat(4, 1)
    rows = [Said((1,), 1)] * 4
    numbers = torch.tensor([0.0, 0.7, 0.97, 1.0])
    free = _choose(logits.clone(), rows, numbers, Drawing(temperature=1.0), ())
    assert free == [0, 1, 3, 3]
    assert _choose(logits.clone(), rows, numbers, Drawing(temperature=1.0, min_p=0.2), ()) == [0, 1, 1, 1]
    assert _choose(logits.clone(), rows, numbers, Drawing(), (0,)) == [1, 1, 1, 1]


def test_vocabulary_of_the_test_models_holds_the_ids_used_here() -> None:
    assert max(*SHARED, 50) < VOCABULARY
