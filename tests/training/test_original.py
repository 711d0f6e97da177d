"""A source of full rank, distilled: its teacher is the adapter as PEFT runs it, not what it is cut to."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, OFTConfig, PeftModel, get_peft_model

from tests.conftest import INVOCATION_TEXT
from tests.training.conftest import Write, task
from zoo.conversion import convert, plan_conversion
from zoo.errors import RefusedError
from zoo.models import BaseModel, load_model
from zoo.prompts import Invocation, Prompter
from zoo.training.dataset import Encoded, encode, read_dataset
from zoo.training.distil_settings import DistilSettings
from zoo.training.optimise import Recipe
from zoo.training.original import original_teacher
from zoo.training.parts import DataSettings
from zoo.training.teacher import LOG, Teacher

TARGETS = ["q_proj", "v_proj", "o_proj"]
CUT = 4
SETTINGS = DistilSettings(
    recipe=Recipe(steps=60, batch=8, micro_batch=8, learning_rate=2e-2, warmup=4, check_every=5),
    data=DataSettings(held_out=0.25, validation=0.2),
    control=False,
)
METHODS = {
    "DoRA": lambda: LoraConfig(
        r=8, lora_alpha=8, use_dora=True, target_modules=TARGETS, task_type="CAUSAL_LM"
    ),
    "OFT": lambda: OFTConfig(r=0, oft_block_size=8, target_modules=TARGETS, task_type="CAUSAL_LM"),
}


@pytest.fixture(params=METHODS)
def source(request: pytest.FixtureRequest, tiny_base: BaseModel, tmp_path: Path) -> Path:
    """An adapter that changes what the model says, saved by PEFT."""
    model = get_peft_model(load_model(tiny_base), METHODS[request.param]())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "magnitude" in name:
                parameter.mul_(1 + 0.5 * torch.rand(parameter.shape, generator=generator))
            elif parameter.requires_grad:
                parameter.add_(0.15 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(str(tmp_path / "source"), save_embedding_layers=False)
    return tmp_path / "source"


@pytest.fixture
def samples(invocation: Invocation, prompter: Prompter, write: Write) -> list[Encoded]:
    return encode(read_dataset(write(task(6))).samples, prompter, invocation, name="d", max_tokens=500)


def own_forward(base: BaseModel, folder: Path, samples: list[Encoded]) -> torch.Tensor:
    """Log-probabilities of the answer tokens in one plain pass of PEFT's model, nothing merged."""
    model = PeftModel.from_pretrained(load_model(base), folder).eval()
    found = []
    for sample in samples:
        ids = torch.tensor([sample.prefix + sample.lead + sample.answer])
        with torch.no_grad():
            found.append(model(input_ids=ids).logits[0, -len(sample.answer) - 1 : -1].log_softmax(-1))
    return torch.cat(found)


def divergence(teacher: torch.Tensor, student: torch.Tensor) -> float:
    return float((teacher.exp() * (teacher - student)).sum(-1).mean())


def as_plain_lora(folder: Path) -> Path:
    """The same factors read as what a converter makes of them that overlooks the magnitudes."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "adapter_model.safetensors")
    plain = folder.with_name("plain")
    plain.mkdir()
    kept = {name: tensor for name, tensor in weights.items() if "magnitude" not in name}
    save_file(kept, plain / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text()) | {"use_dora": False}
    (plain / "adapter_config.json").write_text(json.dumps(config))
    return plain


def test_the_teacher_says_what_pefts_own_forward_says(
    tiny_base: BaseModel, source: Path, samples: list[Encoded], make_adapter: Callable[..., Path]
) -> None:
    start = make_adapter("start", r=CUT, lora_alpha=CUT, target_modules=TARGETS)
    model = original_teacher(source, base=tiny_base, relabelled=start)
    teacher = Teacher(model, samples)
    teacher.compute()
    found = torch.cat([part[LOG] for part in teacher._parts])
    wanted = own_forward(tiny_base, source, samples)
    assert torch.allclose(found, wanted, atol=2e-5)
    base = own_forward(tiny_base, make_adapter("idle", r=1, strength=0.0), samples)
    assert float((base - wanted).abs().max()) > 0.05  # the original changes what is said
    if "use_dora" in (source / "adapter_config.json").read_text():
        plain = own_forward(tiny_base, as_plain_lora(source), samples)
        assert float((plain - wanted).abs().max()) > 100 * float((found - wanted).abs().max())
        assert float((plain - wanted).abs().max()) > 0.01


def test_it_is_refused_until_a_recovery_makes_up_for_the_cut(tiny_base: BaseModel, source: Path) -> None:
    how = {"base": tiny_base, "invocation_text": INVOCATION_TEXT}
    with pytest.raises(RefusedError) as refused:
        plan_conversion(source, **how)  # type: ignore[arg-type]
    assert refused.value.code in ("ZV008", "ZV023")
    plan = plan_conversion(source, cut=CUT, **how)  # type: ignore[arg-type]
    assert plan.ranks == (CUT,)
    assert plan.checkpoint.original == source
    assert all(module.loss > 0.01 for module in plan.seen.modules.values())


def test_the_command_cuts_only_for_a_recovery_and_to_the_rank_that_grow_names(
    tiny_base: BaseModel, source: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    from zoo.cli import run

    asked = [
        "convert",
        str(source),
        "--base",
        str(tiny_base.folder),
        "--invocation",
        INVOCATION_TEXT,
        "--dry-run",
    ]
    assert run(asked) != 0
    assert "no exact low-rank form" in capsys.readouterr().err
    assert run([*asked, "--recover", str(write(task(4))), "--grow", "3", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["ranks"] == [3]
    assert "not exact" in plan["folds"][-1]


def test_the_recovered_adapter_is_nearer_to_the_original_than_the_cut_one(
    tiny_base: BaseModel, source: Path, write: Write, tmp_path: Path, samples: list[Encoded]
) -> None:
    how = {"base": tiny_base, "invocation_text": INVOCATION_TEXT, "cut": CUT}
    convert(source, tmp_path / "cut", **how)  # type: ignore[arg-type]
    done = convert(source, tmp_path / "out", recover=write(task(16)), settings=SETTINGS, **how)  # type: ignore[arg-type]
    original, cut, made = (
        own_forward(tiny_base, at, samples) for at in (source, tmp_path / "cut", done.folder)
    )
    assert divergence(original, made) < 0.7 * divergence(original, cut)
    assert done.recovery is not None
    looks = dict(done.recovery.looks)
    best = done.recovery.training.settings["best_step"]
    assert best > 0
    assert looks[best]["divergence"] < 0.7 * looks[0]["divergence"]
    columns = done.behaviour.agreement
    assert columns["lora"] == 1.0  # the original's column: all are held against it
    assert columns["recovered"] >= columns["relabelled"]
    assert done.behaviour.comparison is not None
    assert done.behaviour.comparison.verdict != "equivalent"  # so few samples cannot tell
    assert "--calibrate" not in "\n".join(done.lines())  # it would be refused
    assert done.fold_error > 0.01


def test_what_is_invented_is_answered_by_the_original(
    tiny_base: BaseModel,
    source: Path,
    tmp_path: Path,
    samples: list[Encoded],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, PeftModel] = {}

    class Begun(Exception):  # noqa: N818  # no error: what follows is not looked at
        pass

    def writing(**what: PeftModel) -> None:
        given.update(what)
        raise Begun

    monkeypatch.setattr("zoo.training.invention.invention.Writing", writing)
    with pytest.raises(Begun):
        convert(
            source, tmp_path / "out", recover="auto", base=tiny_base, invocation_text=INVOCATION_TEXT, cut=CUT
        )
    said = []
    for model in (given["teacher"], given["model"]):
        teacher = Teacher(model, samples)
        teacher.compute()
        said.append(torch.cat([part[LOG] for part in teacher._parts]))
    wanted = own_forward(tiny_base, source, samples)
    assert torch.allclose(said[0], wanted, atol=2e-5)
    assert not torch.allclose(said[1], wanted, atol=1e-3)  # control: what it was cut to says something else
