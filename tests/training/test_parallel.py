"""Several processes that train one adapter: against one process, killed, refused.

What they compute is tested with threads for processes, each with a model of its own: that costs no starts.
The real ones are started twice, by `accelerate launch` and by ourselves.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.multiprocessing.spawn import ProcessExitedException

from tests.conftest import INVOCATION_TEXT
from tests.training.conftest import sample, task
from tests.training.test_train import SETTINGS
from zoo.cli import run
from zoo.errors import UndecidedError, UsageError, VerdictError, ZooError
from zoo.models import BaseModel
from zoo.specs.lock import Lock
from zoo.training import prefix
from zoo.training.launch import launch
from zoo.training.parts import DataSettings
from zoo.training.peers import Peers, check_count
from zoo.training.plan import TrainSettings
from zoo.training.request import Request
from zoo.training.several import train_several
from zoo.training.train import Trained, new_adapter, train
from zoo.training.work import claimed_work

# 17 samples to train on: one of them is of no lane
LONG = replace(SETTINGS, recipe=replace(SETTINGS.recipe, steps=24, check_every=6, micro_batch=3))
WEIGHTS = "adapter_model.safetensors"
ROUNDING = 1e-5  # relative, of the weights after all steps; the control is a hundred times as far


@dataclass
class Table:
    """Where threads that stand for processes meet."""

    count: int
    said: list[Any] = field(default_factory=list)
    sums: bool = True

    def __post_init__(self) -> None:
        self.said = [None] * self.count
        self.barrier = threading.Barrier(self.count, timeout=60)

    def exchange(self, index: int, value: Any) -> list[Any]:
        self.said[index] = value
        self.barrier.wait()
        found = list(self.said)
        self.barrier.wait()
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Seated(Peers):
    table: Table

    def add(self, tensors: Sequence[Tensor]) -> None:
        every = self.table.exchange(self.index, [tensor.clone() for tensor in tensors])
        if self.table.sums:
            for place, tensor in enumerate(tensors):
                tensor.copy_(torch.stack([one[place] for one in every]).sum(dim=0))

    def gather(self, value: Any) -> list[Any]:
        return self.table.exchange(self.index, value)


Together = Callable[..., list[Any]]


@pytest.fixture
def together(monkeypatch: pytest.MonkeyPatch) -> Together:
    """Runs a training in threads that take each other for processes; their results or errors, in order."""
    here, loading = threading.local(), threading.Lock()

    def new_adapter_in_turn(*args: Any, **more: Any) -> Any:
        with loading:  # transformers' loading changes torch's defaults on its way
            return new_adapter(*args, **more)

    for module in ("train", "several"):
        monkeypatch.setattr(f"zoo.training.{module}.peers_here", lambda _: here.peers)
        monkeypatch.setattr(f"zoo.training.{module}.new_adapter", new_adapter_in_turn)

    def all_at_once(work: Callable[[], Any], *, count: int = 2, sums: bool = True) -> list[Any]:
        table = Table(count=count, sums=sums)

        def one(index: int) -> Any:
            here.peers = Seated(index=index, count=count, table=table)
            try:
                return work()
            except Exception as error:
                if not isinstance(error, ZooError):  # those all raise, each when it comes to it
                    table.barrier.abort()
                return error

        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(one, range(count)))

    return all_at_once


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parallel") / "data.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in task(14)))
    return path


def train_here(base: BaseModel, data: Path, out: Path, **changes: Any) -> Trained:
    return train(
        data,
        out,
        **{"invocation_text": INVOCATION_TEXT, "base": str(base.folder), "settings": LONG, **changes},
    )


def apart(first: Path, second: Path) -> float:
    """The largest relative difference of one tensor."""
    one, two = load_file(first / WEIGHTS), load_file(second / WEIGHTS)
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).norm() / one[name].norm()) for name in one)


@pytest.mark.parametrize(("count", "kind"), [(2, "alora"), (4, "alora"), (8, "lora")])
def test_several_take_the_steps_of_one(
    tiny_base: BaseModel, data: Path, tmp_path: Path, together: Together, count: int, kind: Any
) -> None:
    settings = replace(LONG, kind=kind)
    found = together(
        lambda: train_here(tiny_base, data, tmp_path / "several", settings=settings), count=count
    )
    assert all(isinstance(one, Trained) for one in found), found
    alone = together(lambda: train_here(tiny_base, data, tmp_path / "one", settings=settings), count=1)[0]
    assert list(found[0].losses) == pytest.approx(list(alone.losses), rel=1e-6)
    assert apart(tmp_path / "one", tmp_path / "several") < ROUNDING
    assert found[0].behaviour == alone.behaviour
    for (step, values), (again, others) in zip(found[0].looks, alone.looks, strict=True):
        assert step == again
        assert values == pytest.approx(others, rel=1e-6)
    assert [one.losses for one in found] == [found[0].losses] * count
    assert [bool(one.plot) for one in found] == [True] + [False] * (count - 1)
    assert not (tmp_path / ".several.training").exists()


def test_without_the_sum_they_drift_apart_and_it_is_noticed(
    tiny_base: BaseModel, data: Path, tmp_path: Path, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = together(lambda: train_here(tiny_base, data, tmp_path / "out"), sums=False)
    for error in (first, second):
        assert isinstance(error, VerdictError), error
        assert error.code == "ZD009"
        assert "process 1 of 2" in error.message
        assert "step 3" in error.message  # the first checkpoint
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / ".out.training" / "state.json").exists()

    monkeypatch.setattr(Seated, "agree", lambda *_: None)
    drifted = together(lambda: train_here(tiny_base, data, tmp_path / "drifted"), sums=False)
    assert isinstance(drifted[0], Trained), drifted
    together(lambda: train_here(tiny_base, data, tmp_path / "one"), count=1)
    assert apart(tmp_path / "one", tmp_path / "drifted") > 100 * ROUNDING


def test_every_prefix_is_run_by_one_process_but_for_samples_of_no_lane(
    tiny_base: BaseModel, data: Path, tmp_path: Path, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    compute = prefix.PrefixStore._compute

    def count(self: Any, pack: Any, found: Any) -> None:
        counted.extend(len(self.tree.segments[number].ids) for number in pack)
        compute(self, pack, found)

    monkeypatch.setattr(prefix.PrefixStore, "_compute", count)
    monkeypatch.setattr(prefix, "CPU_PACK_TOKENS", 1)
    totals = []
    for processes in (1, 2):
        counted.clear()
        out = tmp_path / str(processes)
        done = together(lambda out=out: train_here(tiny_base, data, out), count=processes)
        assert isinstance(done[0], Trained), done
        totals.append(sum(counted))
    assert totals[1] < 1.35 * totals[0]  # tiny prefixes begin alike; twice would be each its own copy


def test_several_adapters_come_out_as_with_one_process(
    tiny_base: BaseModel, tmp_path: Path, together: Together
) -> None:
    path = tmp_path / "data.jsonl"
    lines = [
        sample(f"shared conversation number {group} is long enough", answer, adapter=name, group=f"g{group}")
        for group in range(12)
        for name in ("check", "system")
        for answer in ("yes", "no")[: 1 + group % 2]
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def work(out: Path) -> Any:
        return train_several(
            path, out, ("check", "system"), about={"version": "0.1.0", "license": "apache-2.0"},
            invocation_text="<|im_start|>{adapter}\n", base=str(tiny_base.folder), settings=SETTINGS,
        )  # fmt: skip

    found = together(lambda: work(tmp_path / "two"))
    assert not any(isinstance(one, Exception) for one in found), found
    together(lambda: work(tmp_path / "one"), count=1)
    for name in ("check", "system"):
        assert apart(tmp_path / "one" / name, tmp_path / "two" / name) < ROUNDING


def test_a_folder_that_another_run_has_is_refused_to_all(
    tiny_base: BaseModel, data: Path, tmp_path: Path, together: Together
) -> None:
    with claimed_work(tmp_path / "out"):
        found = together(lambda: train_here(tiny_base, data, tmp_path / "out"))
    assert [type(one) for one in found] == [UsageError] * 2
    assert {one.code for one in found} == {"ZD007"}


def test_an_unfinished_run_of_other_processes_is_not_resumed(
    tiny_base: BaseModel, data: Path, tmp_path: Path, together: Together
) -> None:
    class StopError(Exception):
        pass

    def stop(stage: str, *, done: int, total: int, note: str = "") -> None:
        if stage == "train" and done == 8:
            raise StopError

    together(lambda: train_here(tiny_base, data, tmp_path / "out", progress=stop), count=1)
    assert (tmp_path / ".out.training" / "state.json").is_file()
    found = together(lambda: train_here(tiny_base, data, tmp_path / "out"))
    assert {one.code for one in found} == {"ZD004"}
    assert "processes" in found[0].message


@pytest.mark.parametrize(
    ("count", "device", "kind"),
    [(3, "cpu", UsageError), (16, "cpu", UsageError), (2, "cuda:0", UsageError), (2, "cuda", UndecidedError)],
)
def test_processes_that_cannot_share_are_refused(
    count: int, device: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(kind):
        check_count(count, device, here=count)
    check_count(2, "cpu", here=2)


def test_a_launched_process_launches_none(
    tiny_base: BaseModel, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "x"}.items():
        monkeypatch.setenv(name, value)
    command = [
        "train", str(data), str(tmp_path / "out"), "--invocation", INVOCATION_TEXT,
        "--base", str(tiny_base.folder), "--processes",
    ]  # fmt: skip
    assert run([*command, "3"]) == 2
    assert "2, 4 or 8" in capsys.readouterr().err
    monkeypatch.setenv("MASTER_PORT", "1")
    assert run([*command, "2"]) == 2
    assert "leave --processes out" in capsys.readouterr().err


def request(base: BaseModel, data: Path, out: Path) -> Request:
    """What the command of the test below asks for, with processes that we start."""
    return Request(
        data=data, out=out, name="check", base=str(base.folder), invocation=INVOCATION_TEXT,
        position="after_prompt", version="0.1.0", license="apache-2.0", description="", adapters=(),
        repeat=None, project=None, io=None, device="cpu", dtype="float32", tracker=None, processes=2,
        settings=TrainSettings.of(
            steps=40, batch=4, micro_batch=3, rank=4, learning_rate=5e-3, data=DataSettings()
        ),
    )  # fmt: skip


@pytest.mark.slow
def test_real_processes_are_killed_and_resumed_exactly(
    tiny_base: BaseModel, data: Path, tmp_path: Path, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Started by us, killed, and gone on with by accelerate: bit for bit what two threads do in one go."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def kill(stage: str, *, done: int, total: int, note: str = "") -> None:
        if stage == "train" and done > 21:
            victims = [child for child in multiprocessing.active_children() if child.is_alive()]
            for victim in victims[-1:]:  # none is left once it has died, and what it said is still told
                os.kill(victim.pid or 0, 9)

    asked = request(tiny_base, data, tmp_path / "out")
    with pytest.raises(UndecidedError, match="was killed by signal 9") as caught:
        asked.run(kill)
    assert caught.value.code == "ZD010"
    assert not multiprocessing.active_children()
    assert not (tmp_path / "out").exists()
    assert json.loads((tmp_path / ".out.training" / "state.json").read_text())["step"] == 20

    launcher = subprocess.run(
        [
            sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
            "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "-m", "zoo",
            "train", str(data), str(tmp_path / "out"), "--name", "check", "--invocation", INVOCATION_TEXT,
            "--base", str(tiny_base.folder), "--json",
            "--steps", "40", "--batch", "4", "--micro-batch", "3", "--rank", "4", "--lr", "5e-3",
        ],
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert launcher.returncode == 0, launcher.stderr[-2000:]
    said = json.loads(launcher.stdout)  # one document: the second process says nothing
    lock = Lock.model_validate_json((tmp_path / "out" / "zoo.lock.json").read_text())
    assert lock.training is not None
    assert lock.training.settings["environment"]["processes"] == 2

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        whole = together(lambda: train_here(tiny_base, data, tmp_path / "whole", settings=asked.settings))
    finally:
        torch.set_num_threads(threads)
    assert said["losses"] == list(whole[0].losses)
    assert (tmp_path / "whole" / WEIGHTS).read_bytes() == (tmp_path / "out" / WEIGHTS).read_bytes()


def test_what_a_process_raises_comes_back() -> None:
    with pytest.raises(TypeError, match="PathLike"):
        launch(os.fspath, 1, device="cpu")  # type: ignore[arg-type]  # no progress is a path


@dataclass
class Lost:
    """What torch has of two processes, of which the second was lost; the first may have returned."""

    said: Sequence[tuple[str, Any]]
    processes: Sequence[Any] = tuple(SimpleNamespace(exitcode=code, kill=lambda: None) for code in (0, -6))

    def start(self, run: Any, args: tuple[Any, ...], *_: Any, **__: Any) -> "Lost":
        for what in self.said:
            args[4][0].send(what)
        return self

    def join(self, *_: float) -> bool:
        raise ProcessExitedException("lost", error_index=1, error_pid=0, exit_code=-6)


def test_who_is_lost_when_all_is_done_has_done_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def launched(said: Sequence[tuple[str, Any]]) -> str:
        spawn = sys.modules["torch.multiprocessing.spawn"]  # the attribute is a function of this name
        monkeypatch.setattr(spawn, "start_processes", Lost(said).start)
        found: str = launch(str, 2, device="cpu")
        return found

    assert launched([("result", "done")]) == "done"
    with pytest.raises(UndecidedError, match="process 1 of 2 was killed by signal 6"):
        launched([])
    with pytest.raises(UsageError, match="told"):
        launched([("error", UsageError("told", hint="")), ("result", "done")])
