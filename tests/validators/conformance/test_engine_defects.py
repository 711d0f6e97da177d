"""Defects of engines and caches that need a session of their own; `mutations` has the rest."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.validators.conformance.bench import context_of, outcomes, said
from zoo import peft_model
from zoo.adapter import AdapterRepo
from zoo.models import BaseModel
from zoo.prompts import Prompt
from zoo.report import Passed
from zoo.validators.check import Context
from zoo.validators.conformance import hooks

Make = Callable[..., Path]


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
    from zoo.validators.conformance import prefill, stepping

    context = context_of(make_alora(), llama)
    right = stepping.run_base

    def tainted(model: Any, ids: Any, cache: Any, **rest: Any) -> Any:
        if rest.get("logits_to_keep"):  # the prefix: prefilled by the adapter, as a leaking server does
            return context.session.active_step(ids, cache)
        return right(model, ids, cache, **rest)

    monkeypatch.setattr(prefill, "run_base", tainted)
    found = outcomes(context, "ZK001", "ZK002")
    assert isinstance(found["ZK001"], Passed)
    # the base's own continuation is tainted as well and calibrates a huge tolerance: never a silent pass
    assert not isinstance(found["ZK002"], Passed)


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
