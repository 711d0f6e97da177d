"""The reference on every family of architectures, against PEFT, and what it refuses to follow."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import build_adapter
from tests.validators.conformance.bench import FAMILIES, adapter_settings, build_base, invocation_ids
from zoo import peft_model
from zoo.activation import active_mask
from zoo.adapter import AdapterRepo
from zoo.models import Dtype, load_model
from zoo.validators.conformance.kv import empty_cache, first_difference, prefix_kv
from zoo.validators.conformance.reference import Reference
from zoo.validators.conformance.stepping import padded, positions, run_base

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Cache

START = 22  # beyond every sliding window
TOKENS = 30
ROUNDING = 1e-5  # nats in float32; measured on these models: 0 at equal shapes, under 5e-6 at others
SEEN = 1e-2  # what a defect must make at least


@dataclass
class Family:
    """One family's base and an adapter for all its linear layers."""

    name: str
    folder: Path
    load: Callable[[Dtype], Any]
    invocation: list[int]

    def reference(self, dtype: Dtype = "float32") -> Reference:
        model = self.load(dtype)
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = (
                tensor.data.clone()
            )  # aligned like PEFT's copy: else a product's last bits may differ
        return Reference.from_folder(model, AdapterRepo.open(self.folder))

    def ids(self, seed: int = 0, *, start: int = START, tokens: int = TOKENS) -> list[int]:
        import torch

        drawn = torch.randint(3, 260, (tokens,), generator=torch.Generator().manual_seed(seed)).tolist()
        drawn[start : start + len(self.invocation)] = self.invocation
        return list(drawn)


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    root = tmp_path_factory.mktemp(request.param)
    base = build_base(root / "base", request.param)
    invocation = invocation_ids(base)
    settings = adapter_settings(request.param)
    folder = build_adapter(base, root / "adapter", alora_invocation_tokens=invocation, **settings)
    return Family(request.param, folder, lambda dtype: load_model(base, dtype=dtype), invocation)


def rows_and_mask(family: Family, reference: Reference, seed: int = 0) -> "tuple[Tensor, Tensor]":
    import torch

    ids = family.ids(seed)
    return torch.tensor([ids]), reference.masks([ids], family.invocation)


def gap(found: "Tensor", expected: "Tensor") -> float:
    """Largest difference of log-probabilities from the invocation on."""
    return float((found[:, START:] - expected[:, START:]).abs().max())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_it_is_peft_after_the_invocation_and_the_base_before_it(family: Family, dtype: Dtype) -> None:
    import torch

    reference = family.reference(dtype)
    assert {path.rpartition(".")[2] for path in reference.updates} == set(FAMILIES[family.name]["targets"])
    ids, mask = rows_and_mask(family, reference)
    ours, theirs, plain = empty_cache(), empty_cache(), empty_cache()
    found = reference.logits(ids, mask, cache=ours)
    base = run_base(reference.model, ids, plain)
    attached = peft_model.attach(copy.deepcopy(reference.model), family.folder)
    expected = peft_model.forward_by_rule(attached, ids, cache=theirs).float().log_softmax(-1)
    assert torch.equal(found[:, :START], base[:, :START])
    assert first_difference(prefix_kv(ours, START), prefix_kv(plain, START)) is None
    # in half precision one rounding the other way may differ; these models have none
    assert gap(found.float().log_softmax(-1), expected) < (ROUNDING if dtype == "float32" else SEEN)
    assert gap(base.float().log_softmax(-1), expected) > 10 * SEEN
    assert first_difference(prefix_kv(ours, START + 1), prefix_kv(plain, START + 1)) is not None


def test_the_comparison_sees_a_late_start_a_wrong_scale_and_a_missing_layer(family: Family) -> None:
    reference = family.reference()
    ids, mask = rows_and_mask(family, reference)
    attached = peft_model.attach(copy.deepcopy(reference.model), family.folder)
    expected = peft_model.forward_by_rule(attached, ids).log_softmax(-1)
    late, early = mask.clone(), mask.clone()
    late[0, START] = False
    early[0, START - 1] = True
    assert gap(reference.log_probs(ids, late), expected) > SEEN
    assert gap(reference.log_probs(ids, early), expected) > SEEN
    louder = {path: replace(one, scale=one.scale * 1.1) for path, one in reference.updates.items()}
    assert gap(Reference(reference.model, louder).log_probs(ids, mask), expected) > SEEN
    for path in reference.updates:
        fewer = {other: one for other, one in reference.updates.items() if other != path}
        assert gap(Reference(reference.model, fewer).log_probs(ids, mask), expected) > 10 * ROUNDING, path


def caches(reference: Reference) -> dict[str, "Callable[[], Cache]"]:
    from transformers import DynamicCache, StaticCache

    config = reference.model.config
    return {
        "growing": DynamicCache,
        "growing, with windows": lambda: DynamicCache(config=config),
        "static": lambda: StaticCache(config=config, max_cache_len=TOKENS),
    }


def in_pieces(
    reference: Reference, ids: "Tensor", mask: "Tensor", sizes: list[int], cache: "Cache"
) -> "Tensor":
    import torch

    pieces = zip(ids.split(sizes, dim=1), mask.split(sizes, dim=1), strict=True)
    return torch.cat([reference.log_probs(*piece, cache=cache) for piece in pieces], dim=1)


@pytest.mark.parametrize("kind", ["growing", "growing, with windows", "static"])
def test_any_chunking_and_cache_gives_the_same(family: Family, kind: str) -> None:
    import torch

    reference = family.reference()
    make = caches(reference)[kind]
    ids, mask = rows_and_mask(family, reference)
    nothing = torch.zeros_like(mask)
    whole, base = reference.log_probs(ids, mask), reference.log_probs(ids, nothing)
    floor = torch.finfo(torch.float32).eps * float(whole.abs().max())
    for cut in (1, 5, START - 1, START, START + 1, TOKENS - 1, None):
        sizes = [cut, TOKENS - cut] if cut else [1] * TOKENS  # None: one token at a time
        noise = float((in_pieces(reference, ids, nothing, sizes, make()) - base).abs().max())
        found = in_pieces(reference, ids, mask, sizes, make())
        assert (found - whole).abs().max() < 16 * max(noise, floor) < SEEN / 10, cut
        # the boundary is the mask's, not a piece's: forgotten in the last piece, it shows
        forgotten = mask.clone()
        forgotten[:, TOKENS - sizes[-1] :] = False
        assert (in_pieces(reference, ids, forgotten, sizes, make()) - whole).abs().max() > SEEN, cut


@pytest.mark.parametrize("left", [True, False], ids=["left", "right"])
def test_padded_rows_with_starts_of_their_own_agree_with_single_ones(family: Family, left: bool) -> None:
    import torch

    reference = family.reference()
    rows = [
        family.ids(1),
        family.ids(2, start=3, tokens=12),
        family.ids(3, start=10, tokens=14),
        [7, 8, 9, 10, 11],  # a base row
    ]
    ids, keep = padded(rows, pad_id=0, left=left)
    attention = torch.tensor(keep)
    batch = reference.log_probs(
        torch.tensor(ids),
        torch.tensor([active_mask(row, family.invocation) for row in ids]),
        attention_mask=attention,
        position_ids=positions(attention),
    )
    for index, row in enumerate(rows):
        alone = reference.log_probs(torch.tensor([row]), reference.masks([row], family.invocation))[0]
        assert (batch[index][attention[index].bool()] - alone).abs().max() < ROUNDING, index


def test_the_last_logits_alone_are_the_last_of_all(family: Family) -> None:
    reference = family.reference()
    ids, mask = rows_and_mask(family, reference)
    whole = reference.log_probs(ids, mask)
    for kept in (1, 3, TOKENS - START + 2):  # the last one has base positions among them
        found = reference.log_probs(ids, mask, logits_to_keep=kept)
        assert found.shape[1] == kept
        assert (found - whole[:, -kept:]).abs().max() < ROUNDING
