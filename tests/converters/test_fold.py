import math
from dataclasses import replace

import pytest
import torch

from tests.converters.test_forms import FORMS, IN, OUT, plain
from zoo.converters.exactness import MAX_FOLD_ERROR, expanded, fold_error, rounded
from zoo.converters.fold import target_names
from zoo.converters.forms import Difference, Form, LowRank, remembered
from zoo.converters.variants.based import Reflections


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_error_of_an_exact_fold_is_rounding(form: Form) -> None:
    low = form.low_rank()
    assert fold_error(form, low.a.double(), low.b.double() * low.scale) < 1e-13


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("part", ["scale dropped", "one row of a", "rounded to bfloat16"])
def test_a_wrong_fold_is_measured(form: Form, part: str) -> None:
    low = form.low_rank()
    a, b = low.a.double(), low.b.double() * low.scale
    if part == "scale dropped":
        b = b / low.scale
    elif part == "one row of a":
        a = a.clone()
        a[0] = 0
    else:
        b = b.bfloat16()
    assert fold_error(form, a, b) > 1000 * MAX_FOLD_ERROR


def test_the_frobenius_error_is_the_one_of_the_whole_product() -> None:
    low = plain()
    b = low.b.double() * low.scale + 1e-3
    whole = b @ low.a.double() - low.scale * (low.b.double() @ low.a.double())
    wanted = float(whole.norm() / (low.scale * (low.b.double() @ low.a.double())).norm())
    assert fold_error(low, low.a, b) >= wanted * (1 - 1e-9)
    assert fold_error(low, low.a, b) < 2 * wanted  # the probes estimate the same number


def test_zero_updates_and_nan() -> None:
    zero = LowRank(a=torch.ones(2, IN), b=torch.zeros(OUT, 2), scale=1.0)
    assert fold_error(zero, zero.a, zero.b) == 0.0
    assert math.isinf(fold_error(zero, zero.a, zero.b + 1))
    assert not fold_error(zero, zero.a, zero.b + math.nan) <= MAX_FOLD_ERROR


@pytest.mark.parametrize("scale", [1.0, 1.5])
@pytest.mark.parametrize("size", [0.0, 1e-4])
def test_an_update_far_smaller_than_its_parts_is_folded_exactly(scale: float, size: float) -> None:
    """A PiSSA that was trained a little, or not at all: the factors before are nearly those after."""
    before = plain(scale=scale)
    after = replace(before, b=before.b + size * before.b.flip(0))
    form = Difference(final=after, initial=before)
    found = rounded(form, form.low_rank(), 2 * before.a.shape[0], torch.float32)
    wanted = scale * (after.b.double() - before.b.double()) @ before.a.double()
    made = found.b.double() @ found.a.double()
    assert found.error <= MAX_FOLD_ERROR
    assert float((made - wanted).norm()) <= 1e-6 * float(wanted.norm()) + 1e-14
    assert found.other is (size > 0 and scale == 1.5)  # a power of two rounds nothing: the source's own stay


@pytest.mark.parametrize("orthogonal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_one_pass_over_the_base_gives_what_two_do(dtype: torch.dtype, orthogonal: bool) -> None:
    weight, read = torch.randn(OUT, IN).to(dtype), []

    def load() -> torch.Tensor:
        read.append(1)
        return weight

    form = Reflections(vectors=torch.randn(IN, 4), orthogonal=orthogonal, weight=load)
    apart = fold_error(form, form.low_rank().a, form.low_rank().b)
    read.clear()
    low, wanted = expanded(remembered(lambda: form)())
    assert len(read) == 1
    assert wanted is not None
    found = rounded(form, low, 4, torch.float32, wanted)
    assert len(read) == 1  # neither the factors nor the check asked for the base again
    assert found.error <= MAX_FOLD_ERROR
    assert found.error == pytest.approx(apart, abs=1e-6)
    wrong = replace(low, b=low.b.roll(1, dims=0))
    assert rounded(form, wrong, 4, torch.float32, wanted).error > 1000 * MAX_FOLD_ERROR
    faulty = torch.cat([wanted[:1] * 1.01, wanted[1:]])  # the two still say the same thing apart
    assert rounded(form, low, 4, torch.float32, faulty).error > MAX_FOLD_ERROR


def test_forms_that_read_no_base_are_asked_for_their_own_forward() -> None:
    form = plain()
    assert expanded(form) == (form, None)


def test_what_other_factors_do_not_mend_stays_an_error() -> None:
    form = Difference(final=plain(), initial=plain(scale=0.3))
    wrong = plain(a=(8, IN), b=(OUT, 8))
    assert rounded(form, wrong, 8, torch.float32).error > 1000 * MAX_FOLD_ERROR


def test_target_names_are_short_only_where_they_select_exactly() -> None:
    everything = [f"model.layers.{n}.self_attn.{p}" for n in (0, 1) for p in ("q_proj", "k_proj")]
    assert target_names([p for p in everything if "q_proj" in p], everything) == ("q_proj",)
    assert target_names(everything[:1], everything) == ("model.layers.0.self_attn.q_proj",)
