"""The engines in this process against each other, and engines with defects under the checks."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.validators.conformance.bench import said
from tests.validators.conformance.engines.conftest import judged
from zoo import activation
from zoo.activation import Convention, active_mask
from zoo.errors import EngineError
from zoo.report import Finding, Flagged, Passed, Severity, Skipped
from zoo.validators.check import Context
from zoo.validators.conformance.engines import checks, kinds
from zoo.validators.conformance.engines.engine import Engine, Request
from zoo.validators.conformance.engines.expectation import apart
from zoo.validators.conformance.engines.kinds import REFERENCE, EngineKind, Setting, kind_of
from zoo.validators.conformance.engines.refusal import EngineRefusesError
from zoo.validators.conformance.engines.torch_engines import ReferenceEngine

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import DynamicCache, PreTrainedModel

CODES = [f"ZE00{number}" for number in range(1, 7)]


def opened(context: Context, name: str) -> Engine:
    setting = Setting(base=context.known_base, repo=context.repo, model=context.session.model)
    return kind_of(name).open(setting)


@pytest.mark.parametrize("name", ["reference", "peft"])
def test_an_engine_that_follows_the_rule_passes_everything(name: str, context: Context) -> None:
    found = judged(context, name)
    assert list(found) == CODES
    assert {code: said(outcome) for code, outcome in found.items() if not isinstance(outcome, Passed)} == {}


def test_transformers_never_activates_it_which_is_an_error_though_known(context: Context) -> None:
    found = judged(context, "transformers")
    assert [code for code in CODES if not isinstance(found[code], Passed)] == ["ZE003"]
    rule = found["ZE003"]
    assert isinstance(rule, Flagged)
    assert rule.severity is Severity.ERROR
    assert "known deviation: never active" in said(rule)


def test_a_prefix_changes_nothing_and_the_adapter_something(context: Context) -> None:
    prompt = context.session.short_prompts[-1]
    for name in ("reference", "peft", "transformers"):
        engine = opened(context, name)
        whole = engine.log_probs(Request(ids=prompt.ids))
        continued = engine.log_probs(Request(ids=prompt.ids, prefix=prompt.start))
        base = engine.log_probs(Request(ids=prompt.ids, adapter=False))
        assert apart(whole, continued) < 1e-5
        assert (apart(whole, base) > 1e-2) is (name != "transformers")
        with pytest.raises(EngineError, match="leaves nothing"):
            engine.log_probs(Request(ids=prompt.ids, prefix=len(prompt.ids)))
        engine.close()
        engine.close()


Mask = Callable[[tuple[int, ...], tuple[int, ...]], list[bool]]


def broken(
    monkeypatch: pytest.MonkeyPatch, engine: type[ReferenceEngine], known: Convention = REFERENCE
) -> str:
    """Makes `--engine reference` another engine; its name."""
    kind = dataclasses.replace(
        kind_of("reference"), known=lambda _: known, start=lambda s, c: engine(_model(s), s.repo, c)
    )
    monkeypatch.setattr(checks, "kind_of", lambda name: kind)
    return kind.name


def _model(setting: Setting) -> "PreTrainedModel":
    assert setting.model is not None
    return setting.model


def masked(mask: Mask) -> type[ReferenceEngine]:
    """Our reference with another activation."""

    class Masked(ReferenceEngine):
        def adapted(self, ids: tuple[int, ...], rest: "Tensor", cache: "DynamicCache") -> "Tensor":
            import torch

            active = mask(ids, self._invocation)[-rest.shape[1] :]
            return self._reference.logits(rest, torch.tensor([active]), cache=cache)

    return Masked


DEFECTS: dict[str, Mask] = {
    "one token early": lambda ids, ours: active_mask(ids, ours, activation.LLAMA_SERVER),
    "one token late": lambda ids, ours: active_mask(ids, ours, activation.ALORA_LEGACY),
    "the base model": lambda ids, ours: [False] * len(ids),
    "a plain LoRA on every token": lambda ids, ours: [True] * len(ids),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_new_deviation_is_named(defect: str, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged(context, broken(monkeypatch, masked(DEFECTS[defect])))
    assert isinstance(found["ZE002"], Flagged)
    assert f"new deviation: it computes {defect}" in said(found["ZE003"])
    if defect == "the base model":
        assert "no effect" in said(found["ZE006"])


def test_a_known_plain_lora_is_an_error(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = masked(DEFECTS["a plain LoRA on every token"])
    found = judged(context, broken(monkeypatch, plain, activation.VLLM_OLD))
    assert isinstance(found["ZE002"], Passed)
    rule = found["ZE003"]
    assert isinstance(rule, Flagged)
    assert rule.severity is Severity.ERROR
    assert "known deviation: silently a plain LoRA on every token" in said(rule)


@pytest.mark.parametrize("decoded", [False, True], ids=["in the prompt", "in what follows"])
def test_a_missed_invocation_is_an_error_where_it_decides(decoded: bool, context: Context) -> None:
    from zoo.validators.conformance.engines import judging
    from zoo.validators.conformance.engines.measuring import EngineEvidence, Probe

    probes = [
        Probe(
            label="prompt 0",
            decoded=step,
            known=0.0,
            distances={"the rule": 1.0},
            misses=bool(step) is decoded,
            deviates=True,
            noise=0.0,
            effect=1.0,
            control=1.0,
        )
        for step in (0, 1)
    ]
    evidence = EngineEvidence(
        convention=activation.LLAMA_SERVER, exact=True, probes=probes, handed=[], histories={}
    )
    [finding] = [item for item in judging.rule(evidence) if isinstance(item, Finding)]
    assert finding.severity is (Severity.WARNING if decoded else Severity.ERROR)
    assert "misses the invocation" in finding.message


def test_an_engine_that_was_put_right_is_news(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged(context, broken(monkeypatch, ReferenceEngine, activation.LLAMA_SERVER))
    assert "new deviation: it computes the rule" in said(found["ZE003"])


def test_a_prefix_that_is_handed_over_short_is_found(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Short(ReferenceEngine):
        def adapted(self, ids: tuple[int, ...], rest: "Tensor", cache: "DynamicCache") -> "Tensor":
            if cache.get_seq_length():
                cache.crop(-1)  # the last token of the prefix is lost
            return super().adapted(ids, rest, cache)

    found = judged(context, broken(monkeypatch, Short))
    assert isinstance(found["ZE002"], Passed)
    handed = found["ZE004"]
    assert isinstance(handed, Flagged)
    assert handed.severity is Severity.ERROR


def test_a_cache_that_remembers_the_adapter_is_found(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tainted(ReferenceEngine):
        last: Request | None = None

        def log_probs(self, request: Request) -> dict[int, float]:
            before, self.last = self.last, request
            if request.reuse and before and before.adapter:
                request = dataclasses.replace(request, adapter=True)
            return dict(super().log_probs(request))

    found = judged(context, broken(monkeypatch, Tainted))
    taint = found["ZE005"]
    assert isinstance(taint, Flagged)
    assert taint.severity is Severity.ERROR
    assert activation.History.BASE_AGAIN.value in said(taint)
    assert isinstance(found["ZE002"], Passed)


def test_an_engine_without_power_is_undecided(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    class Quantised(ReferenceEngine):
        exact = False

        def log_probs(self, request: Request) -> dict[int, float]:
            found = super().log_probs(request)
            return {number: value + (0.4 if number % 2 else -0.4) for number, value in found.items()}

    found = judged(context, broken(monkeypatch, Quantised))
    assert [type(found[code]) for code in CODES] == [Passed] + [Skipped] * 5
    assert "within the tolerance" in said(found["ZE006"])


def test_another_base_is_found_where_weights_are_copies(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(ReferenceEngine):
        def log_probs(self, request: Request) -> dict[int, float]:
            found = super().log_probs(request)
            return {number: value + (0.02 if number % 2 else 0.0) for number, value in found.items()}

    assert "its base model is 0.02 nats from ours" in said(
        judged(context, broken(monkeypatch, Other))["ZE002"]
    )


def refusing(known: Convention) -> EngineKind:
    def start(setting: Setting, convention: Convention) -> Engine:
        raise EngineRefusesError("no aLoRA here")

    return dataclasses.replace(kind_of("reference"), known=lambda _: known, start=start)


@pytest.mark.parametrize(
    ("known", "words"),
    [(activation.VLLM, "known: this engine refuses an aLoRA: no aLoRA here"), (REFERENCE, "new: it refuses")],
)
def test_a_refusal(known: Convention, words: str, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "kind_of", lambda name: refusing(known))
    found = judged(context, "vllm")
    assert isinstance(found["ZE001"], Flagged)
    assert words in said(found["ZE001"])
    assert all(isinstance(found[code], Skipped) for code in CODES[1:])


def test_an_engine_that_no_longer_refuses_is_news(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    found = judged(context, broken(monkeypatch, ReferenceEngine, activation.VLLM))
    assert "new: it takes an aLoRA" in said(found["ZE001"])


def test_two_engines_do_not_disturb_each_other(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.validators.conformance.engines.checks import engine_checks
    from zoo.validators.engine import run_checks

    ordered = engine_checks(["vllm", "reference", "vllm"])
    assert [check.code for check in ordered] == CODES * 2
    monkeypatch.setattr(kinds, "_package", lambda *_: lambda: None)
    monkeypatch.delenv("ZOO_VLLM_PYTHON", raising=False)
    plain = [dataclasses.replace(check, requires=()) for check in ordered]
    results = list(run_checks(context, plain))
    assert [type(result.outcome) for result in results] == [Skipped] * 6 + [Passed] * 6
    names = {
        name for result in results if isinstance(result.outcome, Passed) for name in result.outcome.measured
    }
    assert len(names) >= 15
    assert all(name.startswith("reference_") for name in names)
