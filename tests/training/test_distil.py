import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from tests.conftest import INVOCATION_TEXT
from tests.training.conftest import Write, task
from zoo.converters.rank import grow
from zoo.errors import UsageError
from zoo.models import BaseModel, load_model
from zoo.prompts import Invocation, Prompter
from zoo.training.dataset import Encoded, encode, read_dataset
from zoo.training.distil import Recovery, recover
from zoo.training.distil_settings import DistilSettings
from zoo.training.optimise import Recipe
from zoo.training.parts import DataSettings

SETTINGS = DistilSettings(
    recipe=Recipe(steps=60, batch=8, micro_batch=8, learning_rate=1e-2, warmup=4, check_every=5),
    data=DataSettings(held_out=0.25, validation=0.2),
)


@pytest.fixture
def relabelled(invocation: Invocation, make_adapter: Callable[..., Path]) -> Path:
    torch.manual_seed(0)
    return make_adapter(
        "relabelled",
        alora_invocation_tokens=list(invocation.ids),
        r=16,
        lora_alpha=16,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        strength=0.5,
    )


def test_recovery_comes_closer_to_the_teacher_and_keeps_the_best_step(
    tiny_base: BaseModel, invocation: Invocation, prompter: Prompter, relabelled: Path, write: Write
) -> None:
    data = write(task(24))
    before = load_file(relabelled / "adapter_model.safetensors")
    done = recover(base=tiny_base, relabelled=relabelled, invocation=invocation, data=data, settings=SETTINGS)
    assert done.training.method == "distillation"
    assert done.training.settings["best_step"] > 0
    assert set(done.behaviour.accuracy) == {"base", "lora", "relabelled", "recovered"}
    assert done.behaviour.agreement["lora"] == 1.0
    assert done.behaviour.samples == 12
    assert done.weights.keys() == before.keys()
    assert all(done.weights[name].shape == before[name].shape for name in before)

    samples = encode(read_dataset(data).samples, prompter, invocation, name="d", max_tokens=500)
    teacher = answers(tiny_base, relabelled, samples, None, whole=True)
    start = answers(tiny_base, relabelled, samples, None, whole=False)
    end = answers(tiny_base, relabelled, samples, done.weights, whole=False)
    assert divergence(teacher, end) < 0.5 * divergence(teacher, start)
    assert done.behaviour.agreement["recovered"] > done.behaviour.agreement["relabelled"]
    assert divergence(teacher, start) > 1e-3


def answers(
    base: BaseModel,
    folder: Path,
    samples: list[Encoded],
    weights: dict[str, torch.Tensor] | None,
    *,
    whole: bool,
) -> list[torch.Tensor]:
    """Log-probabilities of the answers in PEFT's own full pass, adapted everywhere or where PEFT says."""
    from peft import set_peft_model_state_dict

    model = PeftModel.from_pretrained(load_model(base), folder)
    if weights:
        set_peft_model_state_dict(model, weights)
    found = []
    for sample in samples:
        ids = torch.tensor([sample.prefix + sample.lead + sample.answer])
        given = {"alora_offsets": [ids.shape[1]]} if whole else {}
        with torch.no_grad():
            logits = model(input_ids=ids, **given).logits[0, -len(sample.answer) - 1 : -1]
        found.append(logits.log_softmax(-1))
    return found


def divergence(teacher: list[torch.Tensor], student: list[torch.Tensor]) -> float:
    pairs = zip(teacher, student, strict=True)
    return float(torch.stack([(t.exp() * (t - s)).sum(-1).mean() for t, s in pairs]).mean())


def test_without_steps_that_help_the_relabelled_weights_stay(
    tiny_base: BaseModel, invocation: Invocation, relabelled: Path, write: Write
) -> None:
    """A rate that ruins the weights: the best step is the start, and the result is what was given."""
    ruinous = replace(
        SETTINGS,
        recipe=replace(
            SETTINGS.recipe, steps=6, learning_rate=50.0, warmup=0, decay="constant", clip=1e9, check_every=6
        ),
    )
    done = recover(
        base=tiny_base, relabelled=relabelled, invocation=invocation, data=write(task(24)), settings=ruinous
    )
    assert done.training.settings["best_step"] == 0
    before = load_file(relabelled / "adapter_model.safetensors")
    assert all(torch.equal(done.weights[name], before[name].float()) for name in before)
    assert done.behaviour.agreement["recovered"] == done.behaviour.agreement["relabelled"]


RESUMED = replace(
    SETTINGS, recipe=replace(SETTINGS.recipe, steps=12, save_every=3, patience=0), label_weight=0.25
)
CHILD = """
import sys, time
from pathlib import Path
from tests.training.test_distil import RESUMED
from zoo.models import resolve
from zoo.prompts import Invocation, Prompter
from zoo.specs.release import Position
from zoo.training.distil import Recovery, recover

base, relabelled, data, work, text = sys.argv[1:]
base = resolve(base)

def told(stage, *, done, total, note=""):
    if stage == "distil" and done == 8:
        print("hanging", flush=True)
        time.sleep(600)

invocation = Invocation(text=text, ids=Prompter(base).encode(text), position=Position.AFTER_PROMPT)
recover(base=base, relabelled=Path(relabelled), invocation=invocation, data=Path(data), settings=RESUMED,
        work=Path(work), progress=told)
"""


def kill_midway(base: BaseModel, relabelled: Path, data: Path, work: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, (base.folder, relabelled, data, work)), INVOCATION_TEXT],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "hanging\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()


def test_a_killed_recovery_goes_on_with_the_same_losses_and_weights(
    tiny_base: BaseModel,
    invocation: Invocation,
    relabelled: Path,
    write: Write,
    tmp_path: Path,
    one_thread: None,
) -> None:
    data, work, steps = write(task(24)), tmp_path / "work", []

    def told(stage: str, *, done: int, total: int, note: str = "") -> None:
        steps.append((stage, done))

    def run(settings: DistilSettings, work: Path | None) -> Recovery:
        return recover(
            base=tiny_base,
            relabelled=relabelled,
            invocation=invocation,
            data=data,
            settings=settings,
            work=work,
            progress=told,
        )

    whole = run(RESUMED, None)
    kill_midway(tiny_base, relabelled, data, work)
    stored = {path: path.stat().st_mtime_ns for path in (work / "teacher").rglob("*.safetensors")}
    assert stored
    for changed in ({"teacher_top_k": 8}, {"label_weight": 0.0}):
        with pytest.raises(UsageError, match=next(iter(changed))) as caught:
            run(replace(RESUMED, **changed), work)
        assert caught.value.code == "ZD004"
    steps.clear()
    resumed = run(RESUMED, work)
    assert [done for stage, done in steps if stage == "distil"] == [7, 8, 9, 10, 11, 12]  # 7 and 8 again
    assert {path: path.stat().st_mtime_ns for path in (work / "teacher").rglob("*.safetensors")} == stored
    assert not [done for stage, done in steps if stage == "lora"]  # the LoRA was not asked again
    assert list(resumed.losses) == list(whole.losses)
    assert list(resumed.looks) == list(whole.looks)
    assert all(torch.equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)
    assert resumed.behaviour == whole.behaviour


def test_recovery_ends_when_it_comes_no_closer_and_says_when(
    tiny_base: BaseModel, invocation: Invocation, relabelled: Path, write: Write
) -> None:
    """A rate so small that no look differs from the one before in its two digits."""
    still = replace(
        SETTINGS,
        recipe=replace(SETTINGS.recipe, learning_rate=1e-9, patience=2, check_every=3),
        control=False,
    )
    done = recover(
        base=tiny_base, relabelled=relabelled, invocation=invocation, data=write(task(24)), settings=still
    )
    assert done.training.steps == len(done.losses) == 6
    assert done.behaviour.comparison is not None
    said = "at step 6 of 60, no closer in 2 looks at unseen prompts; the start was kept"
    assert done.behaviour.comparison.stopped == done.training.settings["ended"] == said
    assert [step for step, _ in done.looks] == [0, 3, 6]
    assert {"divergence", "token_agreement"} <= done.looks[0][1].keys()


def test_grown_weights_start_where_the_relabelled_ones_do_and_have_more_to_learn(
    tiny_base: BaseModel, invocation: Invocation, relabelled: Path, write: Write, tmp_path: Path
) -> None:
    data = write(task(24))
    samples = encode(read_dataset(data).samples, Prompter(tiny_base), invocation, name="d", max_tokens=500)
    given = load_file(relabelled / "adapter_model.safetensors")
    grown = grow(given, 24)
    wider = tmp_path / "wider"
    shutil.copytree(relabelled, wider)
    config = json.loads((wider / "adapter_config.json").read_text())
    (wider / "adapter_config.json").write_text(json.dumps({**config, "r": 24, "lora_alpha": 24}))
    save_file(grown, wider / "adapter_model.safetensors", metadata={"format": "pt"})
    before = answers(tiny_base, relabelled, samples, None, whole=False)
    after = answers(tiny_base, wider, samples, None, whole=False)
    noise = max(float((one - two).abs().max()) for one, two in zip(before, after, strict=True))
    assert noise < 1e-5  # zeros were added, in another order of summation
    scaled = {name: tensor * 1.01 if "lora_B" in name else tensor for name, tensor in grown.items()}
    moved = answers(tiny_base, wider, samples, scaled, whole=False)
    assert max(float((one - two).abs().max()) for one, two in zip(before, moved, strict=True)) > 10 * noise
    few = replace(SETTINGS, recipe=replace(SETTINGS.recipe, steps=3, warmup=0, check_every=3))
    done = recover(base=tiny_base, relabelled=wider, invocation=invocation, data=data, settings=few)
    assert done.training.settings["best_step"] == 3
    for name, tensor in done.weights.items():
        if "lora_B" in name:
            assert tensor.shape[1] == 24
            assert bool((tensor[:, 16:] != 0).any())  # the new columns took part
