"""Packed passes of every family against PEFT's full pass, and against the kernels that a GPU would run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.engine import (
    TOLERANCE,
    build,
    full_pass,
    gradients,
    largest_difference,
)
from tests.training.row_kernel import DENSE
from tests.validators.conformance.bench import ARCHITECTURES, FAMILIES
from zoo.errors import DefectError, UndecidedError
from zoo.training import attention, exact, graphs
from zoo.training.adapted import everywhere
from zoo.training.attention import Pass, packable, packed
from zoo.training.graphs import Graphs, recordable
from zoo.training.node import node
from zoo.training.prefix import PrefixStore, answer_logits, answer_loss

ROWS = range(8)
SOFT_OR_WINDOWED = ("mistral", "gemma2", "gemma3")


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_the_full_pass(family: str, tmp_path: Path) -> None:
    model, samples = build(tmp_path, family)
    store = PrefixStore(model, samples)
    assert store.packable
    loss = answer_loss(store, ROWS)
    found = gradients(model, loss)

    # one row at a time: a mixture of experts rounds by how many tokens stand together
    reference = torch.stack([full_pass(model, samples, [row]) for row in ROWS]).sum()
    assert float(loss.detach()) == pytest.approx(float(reference.detach()), rel=1e-5)
    assert largest_difference(found, gradients(model, reference)) <= TOLERANCE


@pytest.mark.parametrize("family", SOFT_OR_WINDOWED)
def test_control_a_window_or_soft_cap_that_is_ignored_would_show(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples = build(tmp_path, family)
    expected = gradients(model, full_pass(model, samples, ROWS))
    store = PrefixStore(model, samples)
    store.fill()
    plain = exact.Rule
    monkeypatch.setattr(attention, "Rule", lambda *, scale, **_: plain(scale=scale))
    assert largest_difference(gradients(model, answer_loss(store, ROWS)), expected) > 1e-3


def test_control_prefixes_of_other_rows_would_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, samples = build(tmp_path, "llama")
    expected = gradients(model, full_pass(model, samples, ROWS))
    store = PrefixStore(model, samples)
    pieces = store.pieces(ROWS)
    monkeypatch.setattr(store, "pieces", lambda rows: pieces[1:] + pieces[:1])
    assert largest_difference(gradients(model, answer_loss(store, ROWS)), expected) > 1e-2


def test_bfloat16_is_as_far_from_float32_as_the_full_pass(tmp_path: Path) -> None:
    model, samples = build(tmp_path, "qwen2")
    exactly = gradients(model, full_pass(model, samples, ROWS))
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    whole = largest_difference(gradients(model, full_pass(model, samples, ROWS)), exactly)
    ours = largest_difference(gradients(model, answer_loss(PrefixStore(model, samples), ROWS)), exactly)
    assert whole > 1e-3
    assert ours < 2 * whole


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_fixed_shapes_come_to_the_same(family: str, tmp_path: Path) -> None:
    model, samples = build(tmp_path, family)
    expected = gradients(model, full_pass(model, samples, ROWS))
    store = PrefixStore(model, samples, graphs=Graphs(model, kernel=DENSE, record=False))
    assert largest_difference(gradients(model, answer_loss(store, ROWS)), expected) <= TOLERANCE

    # more rows than before, each twice, then fewer: places move, and nothing of the last batch is left
    twice = torch.stack([answer_loss(store, [*ROWS, *ROWS])]).sum() / 2
    assert largest_difference(gradients(model, twice), expected) <= TOLERANCE
    one = gradients(model, full_pass(model, samples, [3]))  # the row without a prefix
    assert largest_difference(gradients(model, answer_loss(store, [3])), one) <= TOLERANCE


def test_fixed_shapes_without_any_prefix(tmp_path: Path) -> None:
    """How a plain LoRA is trained: whole prompts, on which it acts from their first token on."""
    model, samples = build(tmp_path, "llama")
    whole = [replace(one, prefix=(), lead=one.prefix + one.lead) for one in samples]
    rows = range(len(whole))
    plain = gradients(model, answer_loss(PrefixStore(model, whole, graphs=False), rows))
    shared = Graphs(model, kernel=DENSE, record=False)
    found = gradients(model, answer_loss(PrefixStore(model, whole, graphs=shared), rows))
    assert largest_difference(found, plain) < TOLERANCE
    many = PrefixStore(model, whole * 5, graphs=shared)  # more spare tokens than the longest row has
    fivefold = gradients(model, answer_loss(many, range(5 * len(whole))))
    assert largest_difference(fivefold, {name: 5 * one for name, one in plain.items()}) < TOLERANCE
    mixed = PrefixStore(model, samples, graphs=shared)  # then a store that has prefixes
    wanted = gradients(model, answer_loss(PrefixStore(model, samples, graphs=False), rows))
    assert largest_difference(gradients(model, answer_loss(mixed, rows)), wanted) < TOLERANCE
    assert largest_difference(wanted, plain) > 100 * TOLERANCE  # control


def test_control_a_prefix_that_ends_early_would_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, samples = build(tmp_path, "llama")
    expected = gradients(model, full_pass(model, samples, ROWS))
    shared = Graphs(model, kernel=DENSE, record=False)
    store = PrefixStore(model, samples, graphs=shared)
    answer_loss(store, ROWS)
    (step,) = shared._steps.values()
    filled = step._filled

    def early(*given: Any) -> Tensor:
        line = filled(*given)
        ends = line[-step._sizes[-1] :]
        ends.clamp_(max=int(ends[-1]) - 1)
        return line

    monkeypatch.setattr(step, "_filled", early)
    assert largest_difference(gradients(model, answer_loss(store, ROWS)), expected) > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_recorded_is_what_the_kernels_know(family: str, tmp_path: Path) -> None:
    model, _ = build(tmp_path, family)
    assert not recordable(model)  # float32
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.bfloat16()
    foreign = (*SOFT_OR_WINDOWED, "mixtral", "qwen2_moe", "qwen3_moe", "granite_moe")
    assert recordable(model) == (family not in foreign)


def test_peft_is_left_as_it_was(tmp_path: Path) -> None:
    model, samples = build(tmp_path, "llama")
    before = full_pass(model, samples, ROWS).detach()
    base: Any = model.get_base_model()
    implementation = base.config._attn_implementation
    with pytest.raises(ZeroDivisionError), everywhere(model, on=False), packed(base, Pass(rows=())):
        _ = 1 // (base.config._attn_implementation == implementation)
    assert base.config._attn_implementation == implementation
    assert torch.equal(full_pass(model, samples, ROWS).detach(), before)


def test_the_base_alone_is_the_adapter_switched_off(tmp_path: Path) -> None:
    model, samples = build(tmp_path, "llama")
    given = answer_logits(PrefixStore(model, samples), ROWS, adapted=False)
    with torch.no_grad(), model.disable_adapter():
        for row, logits in enumerate(given):
            sample = samples[row]
            ids = torch.tensor([sample.prefix + sample.lead + sample.answer])
            whole: Tensor = model.get_base_model()(input_ids=ids).logits[0, -len(sample.answer) - 1 : -1]
            torch.testing.assert_close(logits, whole, rtol=1e-4, atol=1e-4)


def test_an_attention_that_is_not_known_is_refused(tmp_path: Path) -> None:
    model, _ = build(tmp_path, "llama")
    base: Any = model.get_base_model()
    layer = base.model.layers[0].self_attn
    query = torch.zeros(1, 4, 2, 8)
    given = Pass(rows=[exact.Row(begin=0, end=2)])
    with packed(base, given):
        attention._attend(layer, query, query, query, None)
        with pytest.raises(UndecidedError, match="LlamaAttention"):
            attention._attend(layer, query, query, query, None, s_aux=torch.zeros(4))


def test_recurrent_and_chunked_layers_are_not_packed(tmp_path: Path) -> None:
    model, _ = build(tmp_path, "llama")
    base: Any = model.get_base_model()
    assert packable(base)
    for kinds in (["linear_attention", "full_attention"], ["chunked_attention", "full_attention"]):
        base.config.layer_types = kinds
        assert not packable(base)
    del base.config.layer_types
    base.config.rope_parameters = {"rope_type": "longrope"}
    assert not packable(base)


def test_graphs_are_shared_by_the_stores_of_an_adapter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples = build(tmp_path, "llama")
    monkeypatch.setattr(graphs, "recordable", lambda model: True)
    monkeypatch.setattr(graphs, "Graphs", lambda model: Graphs(model, kernel=DENSE, record=False))
    first = graphs.graphs_of(model)
    assert first is graphs.graphs_of(model)
    graphs.release(model)
    assert graphs.graphs_of(model) is not first
    assert PrefixStore(model, samples).recorded([0], [(1,)], [[0]]) is None  # no GPU, none asked for


def test_parameters_with_other_memory_are_recorded_afresh(tmp_path: Path) -> None:
    model, samples = build(tmp_path, "llama")
    shared = Graphs(model, kernel=DENSE, record=False)
    store = PrefixStore(model, samples, graphs=shared)
    answer_loss(store, ROWS)
    before = list(shared._steps.values())
    answer_loss(store, ROWS)
    assert list(shared._steps.values()) == before
    for parameter in shared.parameters:
        parameter.data = parameter.data.clone()
    answer_loss(store, ROWS)
    assert list(shared._steps.values()) != before


def test_gradients_after_another_replay_are_refused(tmp_path: Path) -> None:
    """All recorded steps share their memory: a second forward pass overwrites what the first left."""
    model, _ = build(tmp_path, "llama")
    shared = Graphs(model, kernel=DENSE, record=False)

    class Replayed:
        turn = 0

        def replay(self) -> Tensor:
            self.turn += 1
            return torch.zeros(2)

        def replay_back(self, wish: Tensor) -> list[Tensor]:
            return [torch.ones_like(p) for p in shared.parameters]

    step = Replayed()
    apply = node(graphs._replay, graphs._replay_back)
    found = apply(step, *shared.parameters)
    found.sum().backward()
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in shared.parameters if p.grad is not None)
    stale = apply(step, *shared.parameters)
    apply(step, *shared.parameters)
    with pytest.raises(DefectError, match="ran again"):
        stale.sum().backward()


def test_what_would_not_be_worth_a_recording(tmp_path: Path) -> None:
    """A recording holds what gradients need: gigabytes, for a long pass that nobody wants them of."""
    model, samples = build(tmp_path, "llama")
    shared = Graphs(model, kernel=DENSE, record=False)
    long = [replace(one, lead=one.lead + (9,) * graphs.LOOK_TOKENS) for one in samples[:2]]
    for given, recorded in ((samples, True), (long, False)):
        store = PrefixStore(model, given, graphs=shared)
        before = len(shared._steps)
        with torch.no_grad():
            looked = answer_logits(store, [0, 1])
        assert (len(shared._steps) > before) is recorded
        plain = answer_logits(PrefixStore(model, given, graphs=False), [0, 1])
        for one, other in zip(looked, plain, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert shared.takes([(9,) * (graphs.LOOK_TOKENS + 1)])  # with gradients
    model.requires_grad_(False)  # an adapter that is only asked
    assert PrefixStore(model, samples, graphs=shared).recorded([0], [(1,)], [[0]]) is None


def test_a_factor_that_is_frozen_later_is_recorded_afresh(tmp_path: Path) -> None:
    """As LoRA-FA does to a teacher's weights, whose passes were recorded before."""
    model, samples = build(tmp_path, "llama")
    shared = Graphs(model, kernel=DENSE, record=False)
    store = PrefixStore(model, samples, graphs=shared)
    answer_loss(store, ROWS)
    before = list(shared._steps.values())
    for name, parameter in model.named_parameters():
        if ".lora_A." in name:
            parameter.requires_grad_(False)
    answer_loss(store, ROWS)
    assert list(shared._steps.values()) != before
    assert all(parameter.requires_grad for parameter in shared.parameters)
    assert shared.parameters


def test_room_for_prefixes_is_that_of_the_largest_batch(tmp_path: Path) -> None:
    """Not of the most rows of one store times the longest prefix of another."""
    model, samples = build(tmp_path, "llama")
    shared = Graphs(model, kernel=DENSE, record=False)
    long = replace(samples[0], prefix=samples[0].prefix * 20)
    answer_loss(PrefixStore(model, [long], graphs=shared), [0])
    answer_loss(PrefixStore(model, [samples[0]] * 8, graphs=shared), range(8))
    assert shared.prefix is not None
    assert shared.prefix.shape[3] == max(len(long.prefix), 8 * len(samples[0].prefix))


def test_masks_of_whole_prompts_are_not_remembered() -> None:
    rule = exact.Rule(scale=1.0)
    size = exact.CACHED + 1
    q, k, v = (torch.randn(heads, size, 4) for heads in (4, 2, 2))
    before = exact._causal.cache_info().currsize
    found = exact.run_rows(q, k, v, [exact.Row(begin=0, end=size)], rule, 0)
    assert exact._causal.cache_info().currsize == before
    wanted = torch.nn.functional.scaled_dot_product_attention(
        q[None], k[None], v[None], is_causal=True, scale=1.0, enable_gqa=True
    )
    torch.testing.assert_close(found, wanted[0])
    exact.run_rows(q[:, :7], k[:, :7], v[:, :7], [exact.Row(begin=0, end=7)], rule, 0)
    assert exact._causal.cache_info().currsize > 0
