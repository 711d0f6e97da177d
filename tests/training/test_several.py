import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.training.conftest import Write, sample, task
from tests.training.test_train import SETTINGS, StopError
from zoo.cli import run
from zoo.errors import SpecError, UsageError
from zoo.models import BaseModel
from zoo.prompts import Prompter
from zoo.training import fit, prefix
from zoo.training.initial import digest_a
from zoo.training.plan import plan_training
from zoo.training.several import plan_several, train_several
from zoo.training.train import new_adapter, train
from zoo.training.update import Update

NAMES = ("check", "system")
INVOCATION = "<|im_start|>{adapter}\n"
LONG = "the passage answers the question with relevant context " * 8


def lines(groups: int) -> list[dict[str, Any]]:
    """Two adapters' answers over the same conversations."""
    return [
        sample(f"{LONG} {group} question {word}", answer, group=f"g{group}", adapter=name)
        for group in range(groups)
        for word in ("relevant", "system")
        for name, answer in (
            ("check", "yes" if word == "relevant" else "no"),
            ("system", "no" if word == "relevant" else "yes"),
        )
    ]


def run_several(base: BaseModel, data: Path | str, out: Path, **changes: Any) -> Any:
    options: dict[str, Any] = {
        "about": {"version": "0.1.0", "license": "apache-2.0", "description": ""},
        "invocation_text": INVOCATION,
        "base": str(base.folder),
        "settings": SETTINGS,
    }
    return train_several(data, out, NAMES, **{**options, **changes})


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def a_file_each(tmp_path: Path, groups: int = 12) -> str:
    for name in NAMES:
        own = [
            {k: v for k, v in one.items() if k != "adapter"}
            for one in lines(groups)
            if one["adapter"] == name
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in own))
    return str(tmp_path / "{adapter}.jsonl")


def test_each_comes_out_as_it_would_alone_and_files_are_as_good_as_fields(
    tiny_base: BaseModel, write: Write, tmp_path: Path
) -> None:
    """Not bit for bit: prefixes are packed with other neighbours, and sums rounded otherwise."""
    done = run_several(tiny_base, write(lines(12)), tmp_path / "library")
    assert list(done.adapters) == list(NAMES)
    apart = run_several(tiny_base, a_file_each(tmp_path), tmp_path / "apart")
    for name in NAMES:
        alone = train(
            tmp_path / f"{name}.jsonl", tmp_path / f"alone-{name}", name=name, base=str(tiny_base.folder),
            invocation_text=INVOCATION.replace("{adapter}", name), settings=SETTINGS,
        )  # fmt: skip
        together = done.adapters[name]
        assert list(together.losses) == pytest.approx(list(alone.losses), rel=1e-4)
        torch.testing.assert_close(weights(together.folder), weights(alone.folder), atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(
            weights(together.folder), weights(apart.adapters[name].folder), rtol=0, atol=0
        )
        config = json.loads((together.folder / "adapter_config.json").read_text())
        ids = Prompter(tiny_base).encode(INVOCATION.replace("{adapter}", name))
        assert config["alora_invocation_tokens"] == list(ids)
    first, second = (weights(done.adapters[name].folder) for name in NAMES)
    assert any(not torch.equal(first[key], second[key]) for key in first)


def test_shared_prefixes_are_run_once(
    tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_tokens = 0
    record = prefix.PrefixStore._compute

    def counted(self: Any, pack: Any, found: Any) -> None:
        nonlocal run_tokens
        run_tokens += sum(len(self.tree.segments[number].ids) for number in pack)
        record(self, pack, found)

    monkeypatch.setattr(prefix.PrefixStore, "_compute", counted)
    data = a_file_each(tmp_path)
    plans = plan_several(
        data, NAMES, invocation_text=INVOCATION, base=str(tiny_base.folder), settings=SETTINGS
    )
    model = new_adapter(plans.plans["check"], device="cpu", dtype="float32")
    stores = fit.Stores.together(model, plans.plans)
    for name in NAMES:
        stores[name].train.fill()
    every, once = plans.tokens
    assert run_tokens == once
    assert every > 2 * once

    run_tokens = 0
    for plan in plans.plans.values():
        fit.Stores.of(model, plan).train.fill()
    assert run_tokens > once


def test_the_same_groups_are_held_out_for_all(tiny_base: BaseModel, tmp_path: Path, write: Write) -> None:
    odd = [one for one in lines(12) if one["adapter"] == "check" or one["group"] != "g3"]
    plans = plan_several(
        write(odd), NAMES, invocation_text=INVOCATION, base=str(tiny_base.folder), settings=SETTINGS
    ).plans

    def prompts(name: str, part: str) -> set[tuple[int, ...]]:
        return {one.prefix for one in getattr(plans[name].parts, part)}

    for part in ("train", "validation", "held_out"):
        assert prompts("system", part) <= prompts("check", part)
    alone = plan_training(
        write([one | {"adapter": ""} for one in odd if one["adapter"] == "system"]),
        invocation_text=INVOCATION.replace("{adapter}", "system"),
        base=str(tiny_base.folder), settings=SETTINGS,
    )  # fmt: skip
    assert {one.prefix for one in alone.parts.held_out} != prompts("system", "held_out")


def test_evaluation_data_may_be_a_file_each(tiny_base: BaseModel, write: Write, tmp_path: Path) -> None:
    a_file_each(tmp_path, groups=2)
    for name in NAMES:
        (tmp_path / f"{name}.jsonl").rename(tmp_path / f"eval-{name}.jsonl")
    later = [one for one in lines(12) if one["group"] not in ("g0", "g1")]
    settings = replace(SETTINGS, data=replace(SETTINGS.data, eval_data=tmp_path / "eval-{adapter}.jsonl"))
    plans = plan_several(
        write(later), NAMES, invocation_text=INVOCATION, base=str(tiny_base.folder), settings=settings
    ).plans
    assert [len(plan.parts.held_out) for plan in plans.values()] == [4, 4]
    assert len({plan.parts.eval_sha256 for plan in plans.values()}) == 2


@pytest.mark.parametrize(("stage", "at", "there"), [("system, train", 8, []), ("system, base", 1, ["check"])])
def test_a_run_that_was_stopped_goes_on_exactly(
    tiny_base: BaseModel, write: Write, tmp_path: Path, stage: str, at: int, there: list[str]
) -> None:
    """In the midst of the steps, which all take together; and when the first adapter has been written."""
    data, out = write(lines(12)), tmp_path / "out"
    expected = run_several(tiny_base, data, tmp_path / "whole")

    def stop(told: str, *, done: int, total: int, note: str = "") -> None:
        if told == stage and done >= at:
            raise StopError

    with pytest.raises(StopError):
        run_several(tiny_base, data, out, progress=stop)
    assert sorted(path.name for path in out.glob("*")) == there
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = run_several(tiny_base, data, out)
    assert again.finished == there
    assert all(path.stat().st_mtime_ns == time for path, time in before.items() if path.is_file())
    assert again.adapters["system"].losses == expected.adapters["system"].losses
    for name in NAMES:
        torch.testing.assert_close(weights(out / name), weights(tmp_path / "whole" / name), rtol=0, atol=0)
    assert not (tmp_path / ".out.training").exists()


def test_what_is_already_there_is_left_out_and_the_rest_is_trained(
    tiny_base: BaseModel, write: Write, tmp_path: Path
) -> None:
    data, out = write(lines(12)), tmp_path / "out"
    run_several(tiny_base, data, out)
    (out / "system").rename(tmp_path / "system")
    again = run_several(tiny_base, data, out)
    assert again.finished == ["check"]
    torch.testing.assert_close(weights(out / "system"), weights(tmp_path / "system"), atol=1e-5, rtol=1e-4)


def test_passes_that_are_shared_and_passes_of_their_own_come_to_the_same(
    tiny_base: BaseModel, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By PiSSA, half of whose rank gets no gradient, with a step in several passes."""
    recipe = replace(SETTINGS.recipe, batch=4, micro_batch=3)
    settings = replace(SETTINGS, init="pissa", recipe=recipe)
    data = write(lines(12))
    ran: list[int] = []
    forward = Update.forward

    def counted(self: Update, *given: Any, **more: Any) -> Tensor:
        ran.append(len(self._spans))
        return forward(self, *given, **more)

    monkeypatch.setattr(Update, "forward", counted)
    together = run_several(tiny_base, data, tmp_path / "together", settings=settings)
    assert set(ran) == {2}
    ran.clear()
    monkeypatch.setattr("zoo.training.several.joinable", lambda store: False)
    apart = run_several(tiny_base, data, tmp_path / "apart", settings=settings)
    assert not ran
    for name in NAMES:
        first, second = together.adapters[name], apart.adapters[name]
        assert list(first.losses) == pytest.approx(list(second.losses), rel=1e-5)
        torch.testing.assert_close(weights(first.folder), weights(second.folder), atol=1e-5, rtol=1e-4)


def test_a_folder_of_another_training_is_not_taken_for_finished(
    tiny_base: BaseModel, write: Write, tmp_path: Path
) -> None:
    data = write(lines(12))
    run_several(tiny_base, data, tmp_path / "out")
    before = (tmp_path / "out" / "check" / "zoo.lock.json").read_bytes()
    for changes, said in (
        ({"settings": replace(SETTINGS, rank=SETTINGS.rank * 2)}, "another rank"),
        ({"settings": replace(SETTINGS, recipe=replace(SETTINGS.recipe, steps=3))}, "another recipe"),
        ({"invocation_text": "<|im_start|>the {adapter}\n"}, "another invocation"),
    ):
        with pytest.raises(UsageError, match=f"check is of a training with {said}") as caught:
            run_several(tiny_base, data, tmp_path / "out", **changes)
        assert caught.value.code == "ZD004"
    assert (tmp_path / "out" / "check" / "zoo.lock.json").read_bytes() == before
    assert run_several(tiny_base, data, tmp_path / "out").finished == list(NAMES)  # the control


def test_an_adapter_without_samples_to_choose_the_best_step_by_is_named(
    tiny_base: BaseModel, write: Write
) -> None:
    few = [one for one in lines(12) if one["adapter"] == "check" or one["group"] in ("g3", "g4")]
    refused = 0
    for seed in range(8):
        settings = replace(SETTINGS, recipe=replace(SETTINGS.recipe, seed=seed))
        how: dict[str, Any] = {"invocation_text": INVOCATION, "base": str(tiny_base.folder)}
        with suppress(SpecError):
            found = plan_several(write(few), NAMES, settings=settings, **how)
            assert all(plan.parts.validation for plan in found.plans.values())
            continue
        refused += 1
        with pytest.raises(SpecError, match=r"adapter 'system'|leaves nothing to train on") as caught:
            plan_several(write(few), NAMES, settings=settings, **how)
        assert caught.value.code == "ZD002"
    assert refused


def test_a_shared_a_is_one_for_the_library(tiny_base: BaseModel, write: Write, tmp_path: Path) -> None:
    settings = replace(SETTINGS, shared_a=11)
    done = run_several(tiny_base, write(lines(12)), tmp_path / "out", settings=settings)
    digests = {one.training.settings["shared_a_sha256"] for one in done.adapters.values()}
    assert len(digests) == 1
    first, second = (weights(done.adapters[name].folder) for name in NAMES)
    for key in first:
        assert torch.equal(first[key], second[key]) is ("lora_A" in key)
    other = plan_training(
        write(task(12)), invocation_text="<|im_start|>check\n", base=str(tiny_base.folder), settings=settings
    )
    assert digests == {digest_a(new_adapter(other, device="cpu", dtype="float32"))}


@pytest.mark.parametrize(
    ("names", "data", "said"),
    [
        (("check", "check"), lines(4), "twice"),
        (("check", "rewrite"), lines(12), "no samples of the adapter 'rewrite'"),
        (NAMES, [*lines(4), sample("no name", "yes")], "line 17 lacks `adapter`"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(
    tiny_base: BaseModel, write: Write, names: tuple[str, ...], data: list[Any], said: str
) -> None:
    with pytest.raises((UsageError, SpecError), match=said):
        plan_several(
            write(data), names, invocation_text=INVOCATION, base=str(tiny_base.folder), settings=SETTINGS
        )


def test_one_adapter_does_not_swallow_anothers_lines(tiny_base: BaseModel, write: Write) -> None:
    with pytest.raises(SpecError, match="line 1 is of the adapter 'check'") as caught:
        plan_training(
            write(lines(12)),
            invocation_text="<|im_start|>check\n",
            base=str(tiny_base.folder),
            settings=SETTINGS,
        )
    assert caught.value.code == "ZD001"


def test_the_command_trains_several_and_plans_them(
    tiny_base: BaseModel, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "train", str(write(lines(12))), str(tmp_path / "library"), "--adapters", "check, system",
        "--invocation", INVOCATION.replace("\n", r"\n"), "--base", str(tiny_base.folder),
        "--steps", "2", "--batch", "2", "--rank", "2", "--quiet",
    ]  # fmt: skip
    assert run([*command, "--dry-run"]) == 0
    assert "prefix tokens are run" in capsys.readouterr().out
    assert not (tmp_path / "library").exists()
    assert run([*command, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["adapters"]) == list(NAMES)
    assert (tmp_path / "library" / "system" / "zoo.yaml").is_file()
    assert run([*command, "--kind", "lora"]) == 2
    assert "ZD006" in capsys.readouterr().err
    for dry in ([], ["--dry-run"]):
        assert run([*command, "--name", "both", *dry]) == 2
        assert "--name and --adapters" in capsys.readouterr().err
