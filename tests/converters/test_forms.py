from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft.tuners.lora.variants import QALoraLinearVariant

from zoo.converters.forms import BlockDiagonal, Difference, Form, Latent, LowRank, Pooled

IN, OUT, R = 12, 10, 4


def plain(a: tuple[int, int] = (R, IN), b: tuple[int, int] = (OUT, R), scale: float = 0.7) -> LowRank:
    generator = torch.Generator().manual_seed(sum(a) + 10 * sum(b))
    return LowRank(a=torch.randn(a, generator=generator), b=torch.randn(b, generator=generator), scale=scale)


FORMS: dict[str, Form] = {
    "plain": plain(),
    "pooled": Pooled(plain=plain(a=(R, IN // 3)), group=3),
    "blocks of a": BlockDiagonal(plain=plain(a=(R, IN // 2)), blocks=2, of_a=True),
    "blocks of b": BlockDiagonal(plain=plain(b=(OUT, R // 2)), blocks=2, of_a=False),
    "latent": Latent(plain=plain(), mapping=torch.randn(R, R, generator=torch.Generator().manual_seed(5))),
    "difference": Difference(final=plain(), initial=plain(a=(R + 1, IN), b=(OUT, R + 1))),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_factors_compute_what_the_forward_computes(form: Form) -> None:
    x = torch.randn(5, IN, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    low = form.low_rank()
    assert low.a.shape[1] == IN
    assert low.b.shape[0] == OUT
    torch.testing.assert_close(low.update(x), form.update(x), rtol=1e-6, atol=1e-6)
    assert form.update(x).abs().max() > 0.1


def test_pooled_is_what_peft_computes_for_qa_lora() -> None:
    form = FORMS["pooled"]
    assert isinstance(form, Pooled)
    module: Any = SimpleNamespace(
        lora_A={"default": SimpleNamespace(weight=form.plain.a)},
        lora_B={"default": SimpleNamespace(weight=form.plain.b)},
        lora_dropout={"default": torch.nn.Identity()},
        scaling={"default": form.plain.scale},
        qalora_group_size={"default": form.group},
        in_features=IN,
        training=False,
    )
    x = torch.randn(5, IN, generator=torch.Generator().manual_seed(0))
    wanted = QALoraLinearVariant.forward(module, "default", x, torch.zeros(5, OUT))
    torch.testing.assert_close(form.update(x.double()).float(), wanted)
