"""One defect each in the engine: PEFT made to start elsewhere, to forget, to leave hooks behind."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.validators.conformance.bench import context_of, flagged, outcomes, said
from zoo import peft_model
from zoo.adapter import AdapterRepo
from zoo.models import BaseModel
from zoo.prompts import Prompt
from zoo.report import Passed, Skipped
from zoo.validators.check import Context
from zoo.validators.conformance import checks, hooks, session

Make = Callable[..., Path]
ALL = {check.code for check in checks.CONFORMANCE_CHECKS}


@pytest.fixture
def activation(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any, int], Any]], None]:
    """Replaces what PEFT makes of each row's offset."""
    from peft.tuners.lora import variants

    right = variants.calculate_alora_offsets

    def replace(change: Callable[[Any, int], Any]) -> None:
        def wrong(config: Any, active: str, input_ids: Any, adapter_names: Any = None) -> list[Any]:
            found = right(config, active, input_ids, adapter_names)
            return [change(offset, input_ids.shape[1]) for offset in found]

        monkeypatch.setattr(variants, "calculate_alora_offsets", wrong)

    return replace


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (lambda offset, length: offset and offset - 1, {"ZR001", "ZP002"}),
        (lambda offset, length: offset and min(offset + 1, length), {"ZR001", "ZR002", "ZK001"}),
        (lambda offset, length: length, {"ZR001", "ZR002", "ZK001", "ZR005"}),
        (lambda offset, length: None, {"ZR001", "ZR003"}),
        (lambda offset, length: offset or 1, {"ZR005"}),
    ],
    ids=["one late", "one early", "plain LoRA", "never active", "active when absent"],
)
def test_an_engine_that_starts_elsewhere(
    make_alora: Make,
    llama: BaseModel,
    activation: Callable[[Callable[[Any, int], Any]], None],
    change: Callable[[Any, int], Any],
    codes: set[str],
) -> None:
    context = context_of(make_alora(), llama)
    activation(change)
    found = outcomes(context)
    missed = {code for code in codes - flagged(found) if not isinstance(found[code], Skipped)}
    assert not missed
    assert codes & flagged(found)


def test_an_engine_whose_plain_run_leaves_the_prefix_has_no_control(
    make_alora: Make, llama: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If "on every token" still ran gated, ZR002 and ZK001 could not fail at all."""
    right = peft_model.forward

    def gated(model: Any, ids: Any, *, offsets: Sequence[int], **rest: Any) -> Any:
        return right(model, ids, offsets=[min(offset, 2) for offset in offsets], **rest)

    monkeypatch.setattr(peft_model, "forward", gated)
    found = outcomes(context_of(make_alora(), llama), "ZR004")
    assert "proves nothing" in said(found["ZR004"])
    assert "the reference does not" in said(found["ZR004"])


def test_a_cache_that_is_not_the_bases_breaks_the_hand_over(
    make_alora: Make, llama: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(make_alora(), llama)
    right = session.Session.base_step

    def tainted(self: session.Session, ids: Any, cache: Any) -> Any:
        if cache.get_seq_length() == 0:  # the prefix: prefilled by the adapter, as a leaking server does
            return self.active_step(ids, cache)
        return right(self, ids, cache)

    monkeypatch.setattr(session.Session, "base_step", tainted)
    found = outcomes(context, "ZK001", "ZK002")
    assert isinstance(found["ZK001"], Passed)
    # the base's own continuation is tainted as well and calibrates a huge tolerance: never a silent pass
    assert not isinstance(found["ZK002"], Passed)


def test_a_decode_that_forgets_the_activation_gives_other_tokens(
    make_alora: Make, llama: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(self: session.Session, ids: Any, cache: Any) -> Any:
        offsets = [0 if ids.shape[1] == 1 else ids.shape[1]] * ids.shape[0]
        return peft_model.forward(self.peft, ids, offsets=offsets, cache=cache)

    context = context_of(make_alora(strength=3.0), llama)
    assert isinstance(outcomes(context)["ZP002"], Passed)
    monkeypatch.setattr(session.Session, "active_step", forgetful)
    assert "ZP002" in flagged(outcomes(context, "ZR001", "ZP002"))


def test_stale_hooks_without_the_guard(
    make_alora: Make, llama: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import contextmanager

    @contextmanager
    def no_guard(model: Any) -> Iterator[None]:
        yield

    monkeypatch.setattr(peft_model, "guarded", no_guard)
    found = outcomes(context_of(make_alora(), llama), "ZP003")
    assert "stay registered" in said(found["ZP003"])


def test_the_planted_failure_is_gone_afterwards(make_alora: Make, llama: BaseModel) -> None:
    opened = context_of(make_alora(), llama).session
    hooks.leak(opened, opened.prompts[0])
    assert not any(module._forward_hooks for module in opened.peft.modules())


def test_padding_with_a_token_of_the_invocation_is_caught(make_alora: Make, llama: BaseModel) -> None:
    folder = make_alora(alora_invocation_tokens=[2])  # <|im_end|>, which many models also pad with
    context = context_of(make_alora("x"), llama)
    prompts = [p.ids for p in context.prompts]
    context = Context(repo=AdapterRepo.open(folder), base=llama)
    context.__dict__["prompts"] = [Prompt(text="", ids=(*ids, 2), start=len(ids)) for ids in prompts]
    opened = context.session
    assert isinstance(outcomes(context, "ZP004")["ZP004"], Passed)
    opened.pad_id = 2
    assert "padded on the right" in said(outcomes(context, "ZP004")["ZP004"])
