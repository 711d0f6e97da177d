"""The gradients of a step on cached prefixes against PEFT's own full pass, which finds the offsets itself."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import MistralConfig, MistralForCausalLM

from tests.training.conftest import Write, task
from zoo.models import BaseModel, load_model
from zoo.peft_model import attach
from zoo.prompts import Invocation, Prompter
from zoo.training import packed, padded
from zoo.training.dataset import Encoded, encode, read_dataset
from zoo.training.prefix import READ_TOKENS, PrefixStore, answer_logits, answer_loss, batches, held_batches
from zoo.training.segments import Tree
from zoo.training.tiers import Budget

TOLERANCE = 1e-5
ROWS = [0, 1, 2, 3, 4, 5]


@pytest.fixture
def samples(write: Write, prompter: Prompter, invocation: Invocation) -> list[Encoded]:
    """Prompts and answers of different lengths, and one prompt that begins with the invocation."""
    lines = task(4)
    lines[1]["answer"] = "no relevant passage"
    found = encode(read_dataset(write(lines)).samples, prompter, invocation, name="d", max_tokens=500)
    found[4] = Encoded(line=5, prefix=(), lead=found[4].lead, answer=found[4].answer)
    assert len({len(s.prefix) for s in found}) > 2
    return found


@pytest.fixture
def model(tiny_base: BaseModel, invocation: Invocation, make_adapter: Callable[..., Path]) -> PeftModel:
    folder = make_adapter(
        "alora",
        alora_invocation_tokens=list(invocation.ids),
        target_modules=["q_proj", "k_proj", "v_proj", "down_proj"],
    )
    attached: PeftModel = attach(load_model(tiny_base), folder, trainable=True).eval()
    return attached


def gradients(model: PeftModel, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    assert len(found) == 2 * 2 * 4  # A and B, two layers, four modules: nothing of the base
    return found


def full_pass(model: PeftModel, samples: list[Encoded], rows: list[int]) -> Tensor:
    """PEFT alone: whole sequences, padded on the right, no offsets given."""
    whole = [samples[row].prefix + samples[row].lead + samples[row].answer for row in rows]
    width = max(map(len, whole))
    ids = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in whole])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in whole])
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    losses = []
    for row, (ids_, line) in enumerate(zip(whole, logits, strict=True)):
        answer = samples[rows[row]].answer
        predicted = line[len(ids_) - len(answer) - 1 : len(ids_) - 1]
        losses.append(cross_entropy(predicted, torch.tensor(answer), reduction="sum"))
    return torch.stack(losses).sum()


def cached(store: PrefixStore, rows: list[int]) -> Tensor:
    pairs = zip(rows, answer_logits(store, rows), strict=True)
    return torch.stack(
        [cross_entropy(x, torch.tensor(store.samples[row].answer), reduction="sum") for row, x in pairs]
    ).sum()


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).norm() / b[name].norm()) for name in a)


def test_gradients_are_those_of_the_full_pass(model: PeftModel, samples: list[Encoded]) -> None:
    reference = full_pass(model, samples, ROWS)
    expected = gradients(model, reference)
    loss = cached(PrefixStore(model, samples), ROWS)
    assert float(loss.detach()) == pytest.approx(float(reference.detach()), rel=1e-5)
    assert largest_difference(gradients(model, loss), expected) <= TOLERANCE


def test_control_an_adapted_prefix_has_other_gradients(model: PeftModel, samples: list[Encoded]) -> None:
    expected = gradients(model, full_pass(model, samples, ROWS))
    plain = gradients(model, cached(PrefixStore(model, samples, adapted=True), ROWS))
    assert largest_difference(plain, expected) > 1e-2


def test_control_an_adapter_that_is_off_has_other_gradients(
    model: PeftModel, samples: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first token of the invocation runs in the prefix, as the base."""
    expected = gradients(model, full_pass(model, samples, ROWS))
    late = [
        replace(s, prefix=(*s.prefix, s.lead[0]), lead=s.lead[1:]) for s in samples
    ]  # what follows is the same text, activated one token late
    assert largest_difference(gradients(model, cached(PrefixStore(model, late), ROWS)), expected) > 1e-2


def test_control_positions_that_ignore_the_prefix_have_other_gradients(
    model: PeftModel, samples: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gradients(model, full_pass(model, samples, ROWS))
    line = packed._line

    def from_zero(*given: Any) -> tuple[Tensor, Tensor]:
        ids, positions = line(*given)
        return ids, positions - positions[:, :1]

    store = PrefixStore(model, samples)
    store.fill()
    monkeypatch.setattr(packed, "_line", from_zero)
    assert largest_difference(gradients(model, cached(store, ROWS)), expected) > 1e-3


def test_the_loss_is_that_of_the_logits(model: PeftModel, samples: list[Encoded]) -> None:
    store = PrefixStore(model, samples)
    assert float(answer_loss(store, ROWS).detach()) == pytest.approx(
        float(cached(store, ROWS).detach()), rel=1e-6
    )


def test_without_the_interface_rows_run_padded_and_come_to_the_same(
    model: PeftModel, samples: list[Encoded]
) -> None:
    expected = gradients(model, full_pass(model, samples, ROWS))
    store = PrefixStore(model, samples)
    assert store.packable
    store.__dict__["packable"] = False  # a base whose attention is its own

    assert largest_difference(gradients(model, cached(store, ROWS)), expected) <= TOLERANCE


def test_control_padding_that_is_seen_would_show(
    model: PeftModel, samples: list[Encoded], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gradients(model, full_pass(model, samples, ROWS))
    joined = padded.joined

    def seen(*given: Any) -> tuple[Any, Tensor]:
        cache, mask = joined(*given)
        return cache, torch.ones_like(mask)

    store = PrefixStore(model, samples)
    store.__dict__["packable"] = False
    store.fill()
    monkeypatch.setattr(padded, "joined", seen)
    assert largest_difference(gradients(model, cached(store, ROWS)), expected) > 1e-2


def test_an_adapted_store_is_the_plain_lora(
    model: PeftModel, samples: list[Encoded], tiny_base: BaseModel, tmp_path: Path
) -> None:
    # "auto" would ask the Hub for the base's vocabulary size
    model.save_pretrained(str(tmp_path / "lora"), save_embedding_layers=False)
    config = tmp_path / "lora" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "alora_invocation_tokens": None}))
    plain = PeftModel.from_pretrained(load_model(tiny_base), tmp_path / "lora")
    store = PrefixStore(model, samples, adapted=True)
    with torch.no_grad():
        for row, logits in enumerate(answer_logits(store, ROWS)):
            sample = samples[row]
            ids = torch.tensor([sample.prefix + sample.lead + sample.answer])
            whole = plain(input_ids=ids).logits[0, -len(sample.answer) - 1 : -1]
            torch.testing.assert_close(logits, whole, rtol=1e-4, atol=1e-4)


def test_the_last_token_alone_is_predicted_as_among_the_others(
    model: PeftModel, samples: list[Encoded]
) -> None:
    store = PrefixStore(model, samples)
    with torch.no_grad():
        every, last = answer_logits(store, ROWS), answer_logits(store, ROWS, last=True)
    assert [len(logits) for logits in last] == [1] * len(ROWS)
    assert any(len(logits) > 1 for logits in every)
    for whole, one in zip(every, last, strict=True):
        torch.testing.assert_close(one, whole[-1:], rtol=1e-4, atol=1e-4)


def test_a_base_pass_is_the_base_model(
    model: PeftModel, samples: list[Encoded], tiny_base: BaseModel
) -> None:
    base = load_model(tiny_base)
    with torch.no_grad():
        given = answer_logits(PrefixStore(model, samples), ROWS, adapted=False)
        for row, logits in enumerate(given):
            sample = samples[row]
            ids = torch.tensor([sample.prefix + sample.lead + sample.answer])
            whole = base(input_ids=ids).logits[0, -len(sample.answer) - 1 : -1]
            torch.testing.assert_close(logits, whole, rtol=1e-4, atol=1e-4)


def stored(store: PrefixStore) -> list[Tensor]:
    return [entry.flat for path in store.entries(ROWS) for entry in path]


def test_steps_do_not_change_the_store(model: PeftModel, samples: list[Encoded]) -> None:
    store = PrefixStore(model, samples)
    store.fill()
    before = [tensor.clone() for tensor in stored(store)]
    first = [x.detach() for x in answer_logits(store, ROWS)]
    again = [x.detach() for x in answer_logits(store, ROWS)]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(stored(store), before, strict=True))


def test_a_budget_keeps_less_says_so_and_computes_the_same(model: PeftModel, samples: list[Encoded]) -> None:
    notes: list[str] = []

    def told(stage: str, *, done: int, total: int, note: str = "") -> None:
        notes.append(note)

    everything = PrefixStore(model, samples)
    everything.fill()
    tight = PrefixStore(model, samples, budget=Budget(host=everything.kept_bytes // 2))
    tight.fill(told)
    assert 0 < tight.kept_bytes <= everything.kept_bytes // 2
    # what is run together follows from the prefixes alone, so what is recomputed is the same to the last bit
    for a, b in zip(answer_logits(everything, ROWS), answer_logits(tight, ROWS), strict=True):
        assert torch.equal(a, b)
    assert "recomputed" in notes[-1]


def test_the_disk_takes_what_memory_does_not(
    model: PeftModel, samples: list[Encoded], tmp_path: Path
) -> None:
    everything = PrefixStore(model, samples)
    everything.fill()
    half = everything.kept_bytes // 2
    folder = tmp_path / "kv"
    folder.mkdir()
    tiered = PrefixStore(model, samples, budget=Budget(host=half, disk=1 << 30, folder=folder))
    tiered.fill()
    tiered.prefetch(ROWS)

    assert 0 < tiered.tiers.used["host"] <= half
    assert tiered.tiers.used["host"] + tiered.tiers.used["disk"] == everything.kept_bytes
    assert "in host" in tiered.note()
    assert "in disk" in tiered.note()
    assert "recomputed" not in tiered.note()
    for a, b in zip(answer_logits(everything, ROWS), answer_logits(tiered, ROWS), strict=True):
        assert torch.equal(a, b)
    assert list(folder.rglob("*.safetensors"))
    del tiered
    assert not list(folder.iterdir())


def test_what_memory_has_no_room_for_goes_to_the_folder_that_was_named(
    model: PeftModel, samples: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.training.tiers.free_host_bytes", lambda: 0)
    nowhere, named = PrefixStore(model, samples), PrefixStore(model, samples, disk=tmp_path / "new" / "kv")
    for store in (nowhere, named):
        store.fill()
    assert nowhere.kept_bytes == 0
    assert named.tiers.used["disk"] == named.kept_bytes > 0


def test_long_samples_are_read_by_a_gpu_in_smaller_batches(model: PeftModel, samples: list[Encoded]) -> None:
    long = [replace(samples[0], prefix=(7,) * (READ_TOKENS // 4))] * 9
    assert [len(rows) for rows in batches(long, "cpu")] == [9]
    found = batches(long, "cuda")
    assert [row for rows in found for row in rows] == list(range(9))
    assert [len(rows) for rows in found] == [3, 3, 3]  # the rest of a sample counts too
    longest = [replace(samples[0], prefix=(7,) * (2 * READ_TOKENS))] * 2
    assert batches(longest, "cuda") == [[0], [1]]
    assert len(batches(samples * 20, "cuda")[0]) == 64
    assert len(batches(samples * 20, "cuda", most=5)[0]) == 5
    store = PrefixStore(model, long)
    assert held_batches(store) == [list(range(9))]
    store.device = torch.device("cuda")
    assert held_batches(store) == found


def test_a_sliding_window_shorter_than_a_prefix_is_batched_right() -> None:
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=8,
    )
    base = MistralForCausalLM(config).eval()
    samples = [
        Encoded(line=1, prefix=tuple(range(5, 25)), lead=(1, 2), answer=(7, 3)),
        Encoded(line=2, prefix=tuple(range(5, 10)), lead=(1, 2), answer=(8, 3)),
    ]
    wholes = [base(input_ids=torch.tensor([s.prefix + s.lead + s.answer])).logits[0, -3:-1] for s in samples]
    lora = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], alora_invocation_tokens=[1, 2])
    model = get_peft_model(base, lora)  # B is zero: the base model
    assert isinstance(model, PeftModel)
    for logits, whole in zip(answer_logits(PrefixStore(model, samples), [0, 1]), wholes, strict=True):
        torch.testing.assert_close(logits, whole, rtol=1e-5, atol=1e-5)


def cache(store: PrefixStore, row: int) -> Any:
    """A sample's whole prefix as transformers keeps it."""
    return padded.joined(store.pieces([row]), store.device)[0]


def tensors(cache: Any) -> list[Tensor]:
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]


def test_what_prefixes_have_in_common_is_held_once(model: PeftModel, samples: list[Encoded]) -> None:
    long = samples[0].prefix * 3
    assert len(long) > 32
    related = [
        replace(samples[0], prefix=prefix)
        for prefix in (long, (*long[:-2], 7, 9), long, long[:20], (*long, 8, 8, 8), ())
    ]
    for adapted in (False, True):
        shared = PrefixStore(model, related, adapted=adapted)
        shared.fill()
        alone = [PrefixStore(model, [one], adapted=adapted) for one in related]
        for row, one in enumerate(alone):
            one.fill()
            if not related[row].prefix:
                continue
            found, reference = cache(shared, row), cache(one, 0)
            for mine, other in zip(tensors(found), tensors(reference), strict=True):
                torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)
        assert shared.kept_bytes < sum(one.kept_bytes for one in alone) / 2
        assert "tokens shared" in shared.note()


def test_control_a_prefix_shared_beyond_the_common_part_would_show(
    model: PeftModel, samples: list[Encoded]
) -> None:
    changed = replace(samples[0], prefix=(7, *samples[0].prefix[1:]))
    store = PrefixStore(model, [samples[0], changed])
    store.__dict__["tree"] = Tree(segments=store.tree.segments[:1], ends=[0, 0])

    alone, found = cache(PrefixStore(model, [changed]), 0), cache(store, 1)

    assert (tensors(found)[0] - tensors(alone)[0]).abs().max() > 1e-3
