import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel

from tests.training.conftest import Write, task
from zoo.errors import UsageError
from zoo.models import BaseModel, load_model
from zoo.peft_model import attach, forward
from zoo.prompts import Invocation, Prompter
from zoo.training import teacher as module
from zoo.training.dataset import Encoded, encode, read_dataset
from zoo.training.prefix import PrefixStore, answer_logits
from zoo.training.teacher import PREDICTED, Teacher, claim, coarse, together

Make = Callable[..., Path]


@pytest.fixture
def model(tiny_base: BaseModel, invocation: Invocation, make_adapter: Make) -> PeftModel:
    folder = make_adapter("teacher", alora_invocation_tokens=list(invocation.ids), r=8, strength=0.7)
    return attach(load_model(tiny_base), folder).eval()


@pytest.fixture
def samples(invocation: Invocation, prompter: Prompter, write: Write) -> list[Encoded]:
    lines = [{**line, "answer": line["answer"] * (1 + place % 3)} for place, line in enumerate(task(10))]
    return encode(read_dataset(write(lines)).samples, prompter, invocation, name="d", max_tokens=500)


def whole_pass(model: PeftModel, sample: Encoded) -> torch.Tensor:
    """The adapter on every token, by PEFT's own full pass."""
    ids = torch.tensor([sample.prefix + sample.lead + sample.answer])
    with torch.no_grad():
        logits = forward(model, ids, offsets=[ids.shape[1]])[0, -len(sample.answer) - 1 : -1]
    return logits.log_softmax(-1)


def student_logits(model: PeftModel, samples: list[Encoded]) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat(answer_logits(PrefixStore(model, samples), range(len(samples))))


def test_the_divergence_is_from_pefts_own_pass(model: PeftModel, samples: list[Encoded]) -> None:
    teacher = Teacher(model, samples)
    teacher.compute()
    rows = [3, 17, 0, 8]  # of both batches, in no order
    logits = student_logits(model, [samples[row] for row in rows])
    wanted = torch.cat([whole_pass(model, samples[row]) for row in rows])
    expected = (wanted.exp() * (wanted - logits.log_softmax(-1))).sum()
    assert float(expected) > 0.01
    assert torch.allclose(teacher.divergence(rows, logits), expected, rtol=1e-4)
    other = teacher.divergence([17, 0, 8, 3], logits)  # every row is another's: other numbers
    assert not torch.allclose(other, expected, rtol=1e-3)
    assert torch.equal(teacher.likeliest(rows, "cpu"), wanted.argmax(-1))


def test_predictions_on_disk_are_those_of_the_run_that_was_killed(
    model: PeftModel, samples: list[Encoded], tmp_path: Path
) -> None:
    first = Teacher(model, samples, folder=tmp_path / "t")
    first.compute()
    assert "on disk" in first.note()
    logits = student_logits(model, samples[:6])
    expected = first.divergence(range(6), logits)
    in_memory = Teacher(model, samples)
    in_memory.compute()
    assert torch.equal(in_memory.divergence(range(6), logits), expected)
    (tmp_path / "t" / "000001.safetensors").unlink()  # killed before the second batch
    (tmp_path / "t" / "000001.new").write_bytes(b"half")
    kept = (tmp_path / "t" / "000000.safetensors").stat().st_mtime_ns
    again = Teacher(model, samples, folder=tmp_path / "t")
    again.compute()
    assert torch.equal(again.divergence(range(6), logits), expected)
    assert (tmp_path / "t" / "000000.safetensors").stat().st_mtime_ns == kept
    with torch.no_grad():  # the student has moved on: what is on disk is still the teacher's
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.mul_(2)
    moved = Teacher(model, samples, folder=tmp_path / "t")
    moved.compute()
    assert torch.equal(moved.divergence(range(6), logits), expected)
    fresh = Teacher(model, samples)
    fresh.compute()
    assert not torch.allclose(fresh.divergence(range(6), logits), expected, rtol=1e-3)


def test_the_likeliest_tokens_and_the_rest_bound_the_divergence_from_below(
    model: PeftModel, samples: list[Encoded]
) -> None:
    logits = student_logits(model, samples)
    found = []
    for top_k in (1, 8, 64, 0):
        teacher = Teacher(model, samples, top_k=top_k)
        teacher.compute()
        found.append(float(teacher.divergence(range(len(samples)), logits)))
        assert ("and the rest as one" in teacher.note()) is bool(top_k)
        assert 0 <= teacher.cut < 1
    assert found == sorted(found)
    assert found[0] < 0.9 * found[-1]
    everything = Teacher(model, samples, top_k=10**9)
    everything.compute()
    assert float(everything.divergence(range(len(samples)), logits)) == found[-1]
    assert everything.cut == 0


def test_the_parts_of_a_coarse_distribution_add_up() -> None:
    logits = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)) * 3
    ids = logits.topk(7).indices
    found = coarse(logits, ids).exp()
    assert torch.allclose(found.sum(-1), torch.ones(5))
    assert torch.allclose(found[:, :7], logits.softmax(-1).gather(-1, ids))


def test_what_has_no_room_on_disk_stays_in_memory_or_is_refused(
    model: PeftModel, samples: list[Encoded], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    teacher = Teacher(model, samples, folder=tmp_path / "t")
    teacher.compute()
    assert "in memory" in teacher.note()
    assert not list((tmp_path / "t").iterdir())
    monkeypatch.setattr(module, "free_host_bytes", lambda: 1000)
    with pytest.raises(UsageError, match="GiB may be taken") as caught:
        Teacher(model, samples, folder=tmp_path / "t").compute()
    assert caught.value.code == "ZD021"
    assert "--teacher-top-k" in caught.value.hint


def test_another_teachers_numbers_are_not_taken(tmp_path: Path) -> None:
    folder = tmp_path / "teacher"
    claim(folder, {"data": "a", "ids": (1, 2)})
    (folder / "000000.safetensors").write_bytes(b"")
    claim(folder, {"data": "a", "ids": [1, 2]})
    assert (folder / "000000.safetensors").exists()
    with pytest.raises(UsageError, match="with another data") as caught:
        claim(folder, {"data": "b", "ids": [1, 2]})
    assert caught.value.code == "ZD004"
    assert json.loads((folder / "teacher.json").read_text())["data"] == "a"


def test_an_answer_of_many_tokens_has_a_prediction_for_each(model: PeftModel, samples: list[Encoded]) -> None:
    long = replace(samples[0], answer=samples[0].answer * 5)
    teacher = Teacher(model, [long])
    teacher.compute()
    assert teacher.likeliest([0], "cpu").shape == (len(long.answer),)
    assert teacher.nbytes == whole_pass(model, long).numel() * 4


def test_a_gpu_predicts_more_samples_at_once_and_fewer_of_long_answers() -> None:
    def of(tokens: int) -> list[Encoded]:
        return [Encoded(line=1, prefix=(1,), lead=(2,), answer=(3,) * tokens)] * 3

    assert together(of(2), "cpu") == together(of(PREDICTED), "cpu") == 16
    assert together(of(2), "cuda") == 64
    assert together(of(PREDICTED // 8), "cuda") == 8
    assert together(of(2 * PREDICTED), "cuda") == 1
