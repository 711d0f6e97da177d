"""ZR006, ZK004, ZK005 and ZP005: what they run, what they say, and when they say that nothing can be said."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.validators.conformance.bench import build_base, context_of, said
from tests.validators.conformance.mutations.engine_starts import backwards
from tests.validators.conformance.test_checks import scale_b
from tests.validators.measured import number
from zoo.activation import invocation_start, occurrences
from zoo.adapter import AdapterRepo
from zoo.errors import UndecidedError
from zoo.models import BaseModel, load_model
from zoo.prompts import Prompt
from zoo.report import Flagged, NotApplicable, Outcome, Passed, Skipped
from zoo.validators.check import Context
from zoo.validators.conformance import scratch, use_checks
from zoo.validators.conformance.occurrence import BEHIND, placed
from zoo.validators.conformance.peft_checks import LOADS
from zoo.validators.conformance.reference_checks import CHECKS as REFERENCE
from zoo.validators.conformance.routed import kv_rounding, logit_rounding, routes_tokens
from zoo.validators.conformance.rows import other_prefix
from zoo.validators.conformance.tolerance import Noise
from zoo.validators.engine import run_checks

Make = Callable[..., Path]
PARITY = next(check for check in REFERENCE if check.code == "ZR001")


def outcomes(context: Context) -> dict[str, Outcome]:
    found = {
        result.code: result.outcome for result in run_checks(context, (LOADS, PARITY, *use_checks.CHECKS))
    }
    return {check.code: found[check.code] for check in use_checks.CHECKS}


def test_a_right_adapter_passes_and_shows_by_how_much(make_alora: Make, llama: BaseModel) -> None:
    found = outcomes(context_of(make_alora(), llama))
    assert {code: said(outcome) for code, outcome in found.items() if not isinstance(outcome, Passed)} == {}
    numbers = {code: outcome.measured for code, outcome in found.items() if isinstance(outcome, Passed)}
    assert numbers["ZR006"]["rows"] == 3
    assert number(numbers["ZK004"]["adapters_apart"]) > 0.01
    assert number(numbers["ZK005"]["nearest_to_the_other_row"]) > 0.01
    assert number(numbers["ZP005"]["decisive_tokens"]) > 0


def test_a_plain_lora_has_nothing_to_run(make_alora: Make, llama: BaseModel) -> None:
    repo = AdapterRepo.open(make_alora(alora_invocation_tokens=None))
    found = outcomes(Context(repo=repo, base=llama))
    assert all(isinstance(outcome, NotApplicable) for outcome in found.values())


def test_without_an_effect_a_switch_cannot_be_seen(make_alora: Make, llama: BaseModel) -> None:
    folder = make_alora()
    scale_b(folder, 0.0)
    found = outcomes(context_of(folder, llama))
    assert isinstance(found["ZK004"], Skipped)
    assert "cannot be told apart" in said(found["ZK004"])


def test_rows_that_give_the_same_are_undecided(
    make_alora: Make, llama: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.validators.conformance import rows

    monkeypatch.setattr(rows, "other_prefix", lambda prefix, _: tuple(prefix))
    found = outcomes(context_of(make_alora(), llama))["ZK005"]
    assert isinstance(found, Skipped)
    assert "could not be told apart" in said(found)


def test_only_ties_are_undecided(make_alora: Make, llama: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    right = scratch.decode_from_scratch
    blind = lambda *given: replace(right(*given), margins=())  # noqa: E731
    monkeypatch.setattr("zoo.validators.conformance.scratch.decode_from_scratch", blind)
    found = outcomes(context_of(make_alora(), llama))["ZP005"]
    assert isinstance(found, Skipped)


def test_prompts_that_begin_with_the_invocation_leave_what_needs_a_prefix(
    make_alora: Make, llama: BaseModel
) -> None:
    context = context_of(make_alora(), llama)
    context.__dict__["prompts"] = [Prompt(text="", ids=one.suffix, start=0) for one in context.prompts]
    found = outcomes(context)
    assert isinstance(found["ZR006"], Passed)
    assert isinstance(found["ZP005"], Passed)
    assert isinstance(found["ZK004"], Skipped)
    assert isinstance(found["ZK005"], Skipped)


@pytest.mark.parametrize("invocation", [(5, 6, 7), (5,), (5, 5), (5, 6, 5)], ids=str)
def test_the_rows_place_the_invocation_where_matchers_go_wrong(invocation: tuple[int, ...]) -> None:
    prompt = Prompt(text="", ids=(9, 8, *invocation), start=2)
    rows = dict(placed(prompt, invocation))
    once, twice, behind = rows.values()
    assert len(occurrences(once, invocation)) < len(occurrences(twice, invocation))
    assert invocation_start(twice, invocation) == len(once) + 2
    start = invocation_start(behind, invocation)
    assert start is not None
    if len(set(invocation)) > 1:  # of equal ids, the broken-off one completes nothing either
        assert start == 2
        assert len(behind) - start > BEHIND
        assert backwards(behind, invocation) != len(behind) - start


def test_a_long_prefix_is_cut() -> None:
    long = Prompt(text="", ids=(*range(100, 400), 5, 6, 7), start=300)
    cut = use_checks.brief(long)
    assert cut.start == use_checks.PREFIX
    assert cut.suffix == long.suffix
    assert cut.prefix == long.prefix[-use_checks.PREFIX :]
    assert use_checks.brief(cut) == cut


def test_the_other_prefix_is_another_of_the_same_length() -> None:
    for prefix in ((1, 2, 3), (1, 2, 1), (4,), (5,), (5, 5)):
        other = other_prefix(prefix, (4, 5))
        assert other != prefix
        assert len(other) == len(prefix)
    with pytest.raises(UndecidedError):
        other_prefix((5, 5), (5,))


@pytest.mark.parametrize(
    ("family", "routed"), [("llama", False), ("gpt2", False), ("mixtral", True), ("qwen3_moe", True)]
)
def test_a_base_with_experts_is_known(family: str, routed: bool, tmp_path: Path) -> None:
    from zoo.validators.conformance.prefill import prefill

    model = load_model(build_base(tmp_path / "base", family))
    noise = Noise(measured=1e-6, floor=1e-7, half=False)
    assert routes_tokens(model) is routed
    assert logit_rounding(model, noise) == (noise.other_shape if routed else 0.0)
    allowed = kv_rounding(model, prefill(model, range(3, 40)), noise)
    assert 0 < allowed < 1e-3 if routed else allowed == 0.0


def test_what_follows_changes_the_last_bits_of_a_routed_prefix_only(tmp_path: Path) -> None:
    """Why a base with experts gets a tolerance; experts that multiply each token alone would need none."""
    import torch

    from zoo.validators.conformance.kv import empty_cache
    from zoo.validators.conformance.stepping import run_base

    def spread(model: Any) -> float:
        generator = torch.Generator().manual_seed(0)
        prefix = torch.randint(3, 260, (1, 20), generator=generator)
        rest = [torch.randint(3, 260, (1, 6), generator=generator) for _ in range(12)]
        found = [run_base(model, torch.cat([prefix, one], dim=1), empty_cache())[:, :20] for one in rest]
        return max(float((one - found[0]).abs().max()) for one in found)

    model = load_model(build_base(tmp_path / "base", "qwen3_moe"))
    assert 0 < spread(model) < 1e-5
    model.set_experts_implementation("batched_mm")
    assert spread(model) == 0
    assert spread(load_model(build_base(tmp_path / "dense", "llama"))) == 0


def test_a_finding_names_what_was_done(make_alora: Make, llama: BaseModel) -> None:
    from tests.validators.conformance.mutations.run import MUTANTS

    mutants = {mutant.id: mutant for mutant in MUTANTS}
    expected = {
        "first-occurrence": ("ZR006", "the invocation twice"),
        "backward-matcher": ("ZR006", "broken-off invocation"),
        "disable-ignored": ("ZK004", "switched off"),
        "set-adapter-ignored": ("ZK004", "second adapter"),
        "crop-keeps-one": ("ZK004", "holds +1 tokens"),
        "rows-swapped": ("ZK005", "row 1 of a batch"),
    }
    for id, (code, words) in expected.items():
        with mutants[id].engine():
            found = outcomes(context_of(make_alora(id), llama))[code]
        assert isinstance(found, Flagged), id
        assert words in said(found), id
