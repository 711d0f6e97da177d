"""`zoo run`, as it is typed."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import INVOCATION_TEXT, build_adapter
from tests.hub.server import HubServer
from tests.hub.this_process import connect
from tests.intrinsic.conftest import ASK, LIKELIHOOD, YES_NO, write_io
from zoo.hub import create_tag
from zoo.models import BaseModel
from zoo.prompts import Prompter
from zoo.specs.release import BaseRef, InvocationSpec, ReleaseSpec, dump_release

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def release(tiny_base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    ids = list(Prompter(tiny_base).encode(INVOCATION_TEXT))
    folder = build_adapter(
        tiny_base, tmp_path_factory.mktemp("run") / "relevance", alora_invocation_tokens=ids
    )
    spec = ReleaseSpec(
        name="relevance", base=BaseRef(id=tiny_base.id), invocation=InvocationSpec(text=INVOCATION_TEXT)
    )
    (folder / "zoo.yaml").write_text(dump_release(spec))
    write_io(folder, response_format=YES_NO, transformations=LIKELIHOOD)
    return folder


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    release: Path,
    tiny_base: BaseModel,
) -> Run:
    from zoo.cli import run as run_zoo

    def zoo(*arguments: str | Path, stdin: str = "", adapter: Path = release) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capsys.readouterr()
        code = run_zoo(["run", str(adapter), "--base", str(tiny_base.folder), *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return zoo


REQUEST = json.dumps({"messages": ASK})


def test_the_result_is_the_only_thing_on_stdout(run: Run, tmp_path: Path) -> None:
    code, out, err = run(stdin=REQUEST)
    assert (code, err) == (0, "")
    assert 0 < json.loads(out)["answer"] < 1
    (tmp_path / "request.json").write_text(REQUEST)
    code, again, err = run("--request", tmp_path / "request.json", "-v")
    assert (code, again) == (0, out)
    assert "tokens read" in err


def test_the_json_form_has_times_and_the_raw_form_the_text(run: Run) -> None:
    code, out, _ = run("--json", stdin=REQUEST)
    document = json.loads(out)
    assert code == 0
    assert document["seconds"].keys() == {"prompt", "prefill", "decode", "process", "total"}
    assert document["tokens"]["prefix"] > 10
    code, raw, _ = run("--raw", stdin=REQUEST)
    assert raw == document["text"] + "\n"
    code, streamed, err = run("--raw", "--stream", stdin=REQUEST)
    assert (streamed, err) == (raw, "")
    code, out, err = run("--stream", stdin=REQUEST)
    assert (json.loads(out), err) == (document["result"], raw)
    code, out, _ = run("--free-blanks", "--raw", stdin=REQUEST)
    assert json.loads(out)["answer"] in ("yes", "no")


@pytest.mark.parametrize(
    ("arguments", "stdin", "status", "said"),
    [
        (["--request", "nothing.json"], "", 2, "nothing.json does not exist"),
        (["--request", "."], "", 2, ". is a directory"),
        ([], "{", 2, "ZO150"),
        ([], "", 2, "ZO150"),
        ([], "[]", 2, "ZO150"),
        ([], '{"documents": [], "extra_body": {"documents": []}}', 2, "two places"),
        ([], "{}", 1, "ZO100"),
        ([], '{"messages": []}', 1, "ZO151"),
        (["--arg", "x=1"], REQUEST, 1, "ZO106"),
        (["--arg", "x"], REQUEST, 2, "no argument"),
        (["--input", "x"], "", 2, "go together"),
        (["--input", "nothing", "--output", "x"], "", 2, "does not exist"),
        (["--chat", "--json"], "", 2, "--chat reads"),
        (["--json", "--raw"], REQUEST, 2, "--json is of one result"),
        (["somewhere"], REQUEST, 2, "for --chat"),
    ],
)
def test_wrong_input_is_one_sentence(
    run: Run, arguments: list[str], stdin: str, status: int, said: str
) -> None:
    code, out, err = run(*arguments, stdin=stdin)
    assert (code, out) == (status, "")
    assert said in err
    assert "Traceback" not in err


def test_a_base_or_an_adapter_that_is_not_there(run: Run, tmp_path: Path) -> None:
    assert run("--base", tmp_path / "none", stdin=REQUEST)[0] == 2
    assert run(adapter=tmp_path / "none", stdin=REQUEST)[0] == 2


def test_a_chat_over_a_pipe(run: Run) -> None:
    lines = "/user is it relevant?\n/relevance\n/nothing\n/show\n/quit\n/never\n"
    code, out, err = run("--chat", stdin=lines)
    assert code == 0
    assert json.loads(out.splitlines()[0])["answer"]
    assert out.splitlines()[1:] == ["user: is it relevant?"]
    assert "there is no /nothing" in err
    assert "never" not in err
    code, out, err = run("--chat", "--quiet", stdin=lines)
    assert (code, err) == (0, "")


def test_a_killed_batch_goes_on(release: Path, tiny_base: BaseModel, run: Run, tmp_path: Path) -> None:
    source, target, wanted = (tmp_path / name for name in ("in.jsonl", "out.jsonl", "wanted.jsonl"))
    requests: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": f"question {n}"}], "id": n} for n in range(40)
    ]
    requests[3] = {"messages": []}
    source.write_text("".join(json.dumps(one) + "\n" for one in requests))
    base = ["--base", str(tiny_base.folder)]
    command = [sys.executable, "-c", "from zoo.cli import main; main()", "run", str(release), *base, "-q"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--input", str(source), "--output", str(target)],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    limit = time.monotonic() + 120
    while (
        time.monotonic() < limit
        and process.poll() is None
        and (not target.exists() or target.read_bytes().count(b"\n") < 5)
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = target.read_bytes()
    assert 5 <= before.count(b"\n") < 40
    code, out, err = run("--input", source, "--output", target, "-q")
    assert (code, out) == (1, "")  # one line failed
    assert f"40 lines answered, {before.count(bytes([10]))} of them before; 1 failed" in err
    assert target.read_bytes().startswith(before[: before.rindex(b"\n") + 1])
    run("--input", source, "--output", wanted, "-q")
    found, alone = ([json.loads(line) for line in path.read_text().splitlines()] for path in (target, wanted))
    assert [one.get("id") for one in found] == [None if n == 3 else n for n in range(40)]
    for mine, other in zip(found, alone, strict=True):
        assert {**mine, "result": 0} == {**other, "result": 0}
        # in how many parts the base read a prompt shows in a likelihood's last digits
        if "result" in other:
            assert mine["result"]["answer"] == pytest.approx(other["result"]["answer"], abs=1e-5)


def test_a_version_is_the_hubs_even_where_a_folder_is_called_so(
    run: Run, release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of that name is an unfinished one: only what was published can answer."""
    monkeypatch.chdir(tmp_path)
    name = "org/relevance@v1.0.0"
    with HubServer() as hub:
        connect(hub, tmp_path / "home", monkeypatch)
        hub.store.create("org/relevance")
        files = {path.name: path.read_bytes() for path in release.iterdir()}
        create_tag("org/relevance", "v1.0.0", hub.store.commit("org/relevance", files))
        (tmp_path / name).mkdir(parents=True)
        code, out, err = run(adapter=Path(name), stdin=REQUEST)
        assert (code, set(json.loads(out))) == (0, {"answer"})
        assert f"{name} is taken from the Hub; ./{name} is the folder of that name here" in err
        (tmp_path / name).rmdir()
        code, again, err = run(adapter=Path(name), stdin=REQUEST)
        assert (code, again) == (0, out)
        assert "taken from the Hub" not in err
