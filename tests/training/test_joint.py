"""Several adapters in one pass of the base against each alone, and against PEFT's full pass of each."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from tests.training.engine import TOLERANCE, build, full_pass, largest_difference
from zoo.errors import UndecidedError
from zoo.training import exact, graphs
from zoo.training.adapted import everywhere
from zoo.training.dataset import Encoded
from zoo.training.factors import Factors
from zoo.training.joint import joinable, together
from zoo.training.peers import ALONE
from zoo.training.prefix import answer_loss
from zoo.training.share import DealtStore, dealt_stores
from zoo.training.update import Span

# of different lengths, some samples in several parts, a prefix of several rows of one part
PARTS = {"first": [0, 1, 7, 3], "second": [7, 2, 5], "third": [4, 1, 6, 0, 3]}
LOSSES = 1e-6  # relative: products of more rows are rounded otherwise


def library(folder: Path, family: str) -> tuple[PeftModel, list[Encoded], dict[str, Factors]]:
    """A tiny base and three adapters beside it, none of their weights zero."""
    model, samples = build(folder, family)
    adapters: dict[str, Factors] = {}
    for seed, name in enumerate(PARTS):
        torch.manual_seed(seed)
        for key, parameter in model.named_parameters():
            if ".lora_" in key:
                parameter.data.normal_(std=0.1)
        adapters[name] = Factors(model)
    return model, samples, adapters


def stores_of(model: PeftModel, samples: list[Encoded]) -> dict[str, DealtStore]:
    return dealt_stores(model, {name: (samples, range(len(samples))) for name in PARTS}, ALONE)


def gradients(adapter: Factors) -> dict[str, Tensor]:
    found = {name: p.grad.clone() for name, p in adapter.parameters.items() if p.grad is not None}
    assert len(found) == len(adapter.parameters)
    for parameter in adapter.parameters.values():
        parameter.grad = None
    return found


def in_one_pass(
    stores: Mapping[str, DealtStore], adapters: Mapping[str, Factors], parts: Mapping[str, Sequence[int]]
) -> tuple[dict[str, float], dict[str, dict[str, Tensor]]]:
    losses = together(stores, adapters).losses(parts)
    torch.stack([*losses.values()]).sum().backward()
    return {name: float(loss.detach()) for name, loss in losses.items()}, {
        name: gradients(adapters[name]) for name in parts
    }


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
def test_gradients_are_those_of_each_alone_and_of_pefts_full_pass(family: str, tmp_path: Path) -> None:
    model, samples, adapters = library(tmp_path, family)
    stores = stores_of(model, samples)
    assert joinable(stores["first"])
    losses, found = in_one_pass(stores, adapters, PARTS)
    for name, rows in PARTS.items():
        adapters[name].put()
        alone = answer_loss(stores[name], rows)
        alone.backward()
        assert losses[name] == pytest.approx(float(alone.detach()), rel=LOSSES)
        assert largest_difference(found[name], gradients(adapters[name])) <= TOLERANCE
        full_pass(model, samples, rows).backward()
        assert largest_difference(found[name], gradients(adapters[name])) <= TOLERANCE


def test_who_is_beside_an_adapter_changes_nothing_but_rounding(tmp_path: Path) -> None:
    model, samples, adapters = library(tmp_path, "llama")
    stores = stores_of(model, samples)
    losses, found = in_one_pass(stores, adapters, PARTS)
    left = {name: PARTS[name] for name in ("third", "first")}  # another order, and one has dropped out
    fewer, later = in_one_pass(stores, adapters, left)
    for name in left:
        assert fewer[name] == pytest.approx(losses[name], rel=LOSSES)
        assert largest_difference(later[name], found[name]) <= TOLERANCE


@pytest.mark.parametrize("mistake", ["adapters swapped", "a token late"])
def test_control_rows_that_are_mixed_up_would_show(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples, adapters = library(tmp_path, "llama")
    stores = stores_of(model, samples)
    _, expected = in_one_pass(stores, adapters, PARTS)
    if mistake == "adapters swapped":
        mixed = dict(zip(adapters, [*adapters.values()][1:] + [*adapters.values()][:1], strict=True))
        _, found = in_one_pass(stores, mixed, PARTS)
    else:
        plain = everywhere

        def late(model: PeftModel, *, on: bool, spans: Sequence[Span] = ()) -> object:
            sizes = [span.tokens for span in spans]
            if spans:
                sizes[0], sizes[-1] = sizes[0] + 1, sizes[-1] - 1
            moved = [replace(span, tokens=size) for size, span in zip(sizes, spans, strict=True)]
            return plain(model, on=on, spans=moved)

        monkeypatch.setattr("zoo.training.packed.everywhere", late)
        _, found = in_one_pass(stores, adapters, PARTS)
    assert min(largest_difference(found[name], expected[name]) for name in ("first", "third")) > 1e-2


def test_a_prefix_of_several_rows_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, samples, adapters = library(tmp_path, "mistral")  # with a window that ends in some prefixes
    stores = stores_of(model, samples)
    seen: list[int] = []
    run_rows = exact.run_rows

    def counted(q: Tensor, k: Tensor, v: Tensor, rows: Sequence[exact.Row], *more: Any) -> Tensor:
        seen.append(len(rows))
        return run_rows(q, k, v, rows, *more)

    monkeypatch.setattr("zoo.training.attention.run_rows", counted)
    _, found = in_one_pass(stores, adapters, PARTS)
    distinct = len({samples[row].prefix for rows in PARTS.values() for row in rows if samples[row].prefix})
    assert set(seen) == {distinct + sum(not samples[row].prefix for rows in PARTS.values() for row in rows)}
    monkeypatch.setattr(exact, "JOINED", 0)
    seen.clear()
    _, apart = in_one_pass(stores, adapters, PARTS)
    assert set(seen) == {sum(map(len, PARTS.values()))}
    assert max(largest_difference(found[name], apart[name]) for name in PARTS) <= TOLERANCE


def test_a_frozen_factor_gets_no_gradient(tmp_path: Path) -> None:
    model, samples, adapters = library(tmp_path, "llama")
    frozen = [p for key, p in adapters["second"].parameters.items() if ".lora_A." in key]
    for parameter in frozen:
        parameter.requires_grad_(False)
    losses = together(stores_of(model, samples), adapters).losses(PARTS)
    torch.stack([*losses.values()]).sum().backward()
    assert all(parameter.grad is None for parameter in frozen)
    others = [p for one in adapters.values() for p in one.parameters.values() if p.requires_grad]
    assert all(parameter.grad is not None for parameter in others)


def test_where_adapters_do_not_share_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, samples, adapters = library(tmp_path, "llama")
    store = stores_of(model, samples)["first"]
    assert joinable(store)
    layer = next(module for module in model.modules() if hasattr(module, "lora_dropout"))
    monkeypatch.setitem(layer.lora_dropout._modules, "default", torch.nn.Dropout(0.1))  # type: ignore[union-attr]
    assert not joinable(store)
    monkeypatch.undo()
    store.packable = False
    assert not joinable(store)
    del store.packable
    monkeypatch.setattr(graphs, "recordable", lambda model: True)
    assert joinable(store)
    store.device = torch.device("cuda")
    assert not joinable(store)

    spans = [Span(tokens=3, kept=3, factors=adapters["first"])]
    with everywhere(model, on=True, spans=spans), pytest.raises(UndecidedError, match="sees 2 of 3"):
        model.get_base_model()(input_ids=torch.tensor([[1, 2]]))
