"""Calibration in closed form: streams that follow the teacher's, on tiny bases of several families."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from tests.training.engine import shared_samples
from tests.validators.conformance.bench import build_base, invocation_ids
from zoo.errors import UndecidedError
from zoo.models import load_model
from zoo.training import calibration, lines, low_rank
from zoo.training import streams as the_streams
from zoo.training.calibration import NOTHING, OUTPUTS, WHOLE, calibrate, closest, take, trained_weights
from zoo.training.dataset import Encoded
from zoo.training.prefix import PrefixStore, answer_logits
from zoo.training.residual import blocks_of, share, watched
from zoo.training.streams import streams

FAMILIES = ("llama", "qwen2", "gpt2", "granite")
ALL = {"gpt2": ["c_attn", "c_proj"]}


def build(folder: Path, family: str, targets: list[str] | None = None) -> tuple[PeftModel, list[Encoded]]:
    """An adapter that acts on attention's inputs, and could on the output projections."""
    base = build_base(folder / family, family)
    wanted = targets or ALL.get(family, ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"])
    config = LoraConfig(
        task_type="CAUSAL_LM", r=8, init_lora_weights=False, target_modules=wanted,
        alora_invocation_tokens=invocation_ids(base), fan_in_fan_out=family == "gpt2",
    )  # fmt: skip
    torch.manual_seed(0)
    model = get_peft_model(load_model(base), config).eval()
    assert isinstance(model, PeftModel)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name and name.split(".lora_B.")[0].rpartition(".")[2] in (
                "o_proj",
                "c_proj",
                "down_proj",
            ):
                parameter.zero_()
    return model, shared_samples(invocation_ids(base))


def apart(model: PeftModel, samples: list[Encoded], wanted: torch.Tensor) -> float:
    with torch.no_grad():
        found = torch.cat(answer_logits(PrefixStore(model, samples), range(len(samples))))
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_calibrated_student_answers_more_like_its_teacher(family: str, tmp_path: Path) -> None:
    model, samples = build(tmp_path, family)
    with torch.no_grad():
        teacher = PrefixStore(model, samples, adapted=True)
        wanted = torch.cat(answer_logits(teacher, range(len(samples))))
    relabelled = apart(model, samples, wanted)
    goals = streams(model, samples)
    before, after, _ = calibrate(model, PrefixStore(model, samples), goals)
    assert after < 0.5 * before
    assert apart(model, samples, wanted) < 0.8 * relabelled


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_said_of_the_stream_is_what_a_pass_gives(family: str, tmp_path: Path) -> None:
    model, samples = build(tmp_path, family)
    goals = streams(model, samples)
    _, after, _ = calibrate(model, PrefixStore(model, samples), goals)
    (rows,) = goals.batches
    with torch.no_grad(), watched(blocks_of(model)) as seen:
        answer_logits(PrefixStore(model, samples), rows)
    wanted = goals.end[-1][0]
    found = float((seen[-1].stream[1] - wanted).square().sum() / wanted.square().sum())
    assert found == pytest.approx(after, rel=1e-3)


def test_with_as_many_directions_as_inputs_the_streams_are_the_teachers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "RIDGE", 1e-12)
    model, samples = build(tmp_path, "llama")
    one = [samples[2]]  # fewer tokens than inputs: all of them can be had
    with torch.no_grad():
        wanted = torch.cat(answer_logits(PrefixStore(model, one, adapted=True), [0]))
    goals = streams(model, one)
    _, after, _ = calibrate(model, PrefixStore(model, one), goals)
    assert after < 1e-6
    assert apart(model, one, wanted) < 1e-3


def test_the_share_of_what_is_written_is_found(tmp_path: Path) -> None:
    model, samples = build(tmp_path, "granite")
    with torch.no_grad(), watched(blocks_of(model)) as seen:
        answer_logits(PrefixStore(model, samples), [0, 1])
    config: Any = model.get_base_model().config
    multiplier = config.residual_multiplier
    assert multiplier != 1
    assert [share(one) for one in seen] == pytest.approx([multiplier] * len(seen), rel=1e-4)


def test_a_share_that_is_1_but_for_rounding_is_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, samples = build(tmp_path, "llama")
    for found, taken in ((1.003, 1.0), (0.22, 0.22)):
        monkeypatch.setattr(the_streams, "share", lambda _, found=found: found)
        assert streams(model, samples).share == pytest.approx(taken, abs=1e-9)


def test_layers_that_add_something_else_are_told(tmp_path: Path) -> None:
    model, samples = build(tmp_path, "gemma3")
    with pytest.raises(UndecidedError, match="adds something else"):
        streams(model, samples)


def test_an_adapter_without_output_projections_cannot_be_calibrated(tmp_path: Path) -> None:
    model, samples = build(tmp_path, "llama", ["q_proj", "o_proj"])
    with pytest.raises(UndecidedError, match="output projections"):
        streams(model, samples)


def test_what_an_output_projection_did_before_stays_part_of_it(tmp_path: Path) -> None:
    model, _ = build(tmp_path, "llama")
    layer = blocks_of(model)[0].writers[0]
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    with torch.no_grad():
        b.copy_(torch.randn_like(b))
        b[:, 4:] = 0
        old = b.double() @ a.double() * layer.scaling["default"]
        more_a, more_b = torch.randn(4, a.shape[1]).double(), torch.randn(b.shape[0], 4).double()
        low_rank.put(layer, [low_rank.held(layer), (more_a, more_b)])
        found = b.double() @ a.double() * layer.scaling["default"]
    assert torch.allclose(found, old + more_b @ more_a, atol=1e-4)
    assert not torch.allclose(found, old, atol=0.1)


def test_a_stored_prefix_comes_to_the_device_a_layer_at_a_time() -> None:
    layers = [(torch.full((1, 2, 3), float(n)), torch.full((1, 2, 3), -float(n))) for n in range(3)]
    near = lines.Near(layers, torch.device("meta"))
    first = near[0]
    assert first[0].device.type == first[1].device.type == "meta"
    assert near[0] is first  # copied once for all who ask
    assert near[2] is not first
    assert near[0] is not first  # and let go for the next
    assert len(near) == 3
    at_home = lines.Near(layers, torch.device("cpu"))
    assert at_home[1][0] is layers[1][0]


def test_samples_are_taken_evenly_where_there_is_no_room_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = [Encoded(line=n, prefix=(1,), lead=(2, 3), answer=(4,)) for n in range(10)]
    assert the_streams._chosen(samples, hidden=8, layers=2) == list(range(10))
    monkeypatch.setattr(the_streams, "SAMPLES", 5)
    assert the_streams._chosen(samples, hidden=8, layers=2) == [0, 2, 4, 6, 8]
    monkeypatch.setattr(the_streams, "ROOM", 2 * 3 * 8 * 2 * 2 * 4)
    assert the_streams._chosen(samples, hidden=8, layers=2) == [0, 5]
    monkeypatch.setattr(the_streams, "ROOM", 1)
    assert the_streams._chosen(samples, hidden=8, layers=2) == [0]


def test_a_gpu_takes_more_samples_a_pass_and_fewer_of_long_suffixes() -> None:
    def of(tokens: int) -> list[Encoded]:
        return [Encoded(line=1, prefix=(1,), lead=(2,) * (tokens - 1), answer=(4,))] * 3

    assert the_streams._rows(of(4), "cpu") == the_streams._rows(of(the_streams.TOKENS), "cpu") == 32
    assert the_streams._rows(of(4), "cuda") == 512
    assert the_streams._rows(of(the_streams.TOKENS // 2), "cuda") == 2
    assert the_streams._rows(of(2 * the_streams.TOKENS), "cuda") == 1


@pytest.mark.parametrize("best", [0, 1, 2])
def test_what_came_closest_is_what_the_model_has(best: int, tmp_path: Path) -> None:
    model, samples = build(tmp_path, "llama")
    goals, store = streams(model, samples), PrefixStore(model, samples)
    start = trained_weights(model)
    far = [3.0, 3.0, 3.0]
    far[best] = 1.0
    told = iter([2.0 if best else 1.0, *far[1:]])
    found = closest(model, store, goals, lambda: next(told))
    assert found.fitted == (NOTHING, WHOLE, OUTPUTS)[best]
    assert found.left == (0.5 if best else 1.0)
    has = trained_weights(model)
    take(model, start)
    if best:
        *off, turned = calibrate(model, store, goals, asking=best == 1)
        assert found.off == tuple(off)
        assert bool(turned) is (best == 1)
    alone = trained_weights(model)
    assert all(torch.equal(has[name], alone[name]) for name in alone)
    moved = [name for name in alone if not torch.equal(alone[name], start[name])]
    assert any("q_proj" in name for name in moved) is (best == 1)
    assert any("o_proj" in name for name in moved) is (best > 0)


def test_bases_whose_queries_cannot_be_fitted_are_calibrated_once(tmp_path: Path) -> None:
    model, samples = build(tmp_path, "qwen3")
    told = iter([2.0, 1.0])
    found = closest(model, PrefixStore(model, samples), streams(model, samples), lambda: next(told))
    assert (found.fitted, set(found.divergence)) == (OUTPUTS, {NOTHING, OUTPUTS})
