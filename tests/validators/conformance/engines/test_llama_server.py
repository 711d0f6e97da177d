"""The real llama-server on a tiny base: as known, and what breaks it."""

import dataclasses
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import build_adapter
from tests.validators.conformance.bench import (
    adapter_settings,
    build_base,
    context_of,
    invocation_ids,
    said,
)
from tests.validators.conformance.engines.conftest import judged
from tests.validators.measured import number
from zoo.activation import LLAMA_SERVER, PEFT, History, active_mask
from zoo.adapter import AdapterRepo
from zoo.converters.exporters import architectures
from zoo.errors import EngineError, MissingExtraError, NotFoundError, UsageError
from zoo.models import BaseModel
from zoo.report import Flagged, Passed, Severity, Skipped
from zoo.validators.check import Context
from zoo.validators.conformance.engines import kinds, llama_server
from zoo.validators.conformance.engines.engine import Request
from zoo.validators.conformance.engines.expectation import Expectations, apart, distance
from zoo.validators.conformance.engines.llama_server import LlamaServer


@pytest.fixture(scope="module")
def server(alora: Path, llama: BaseModel) -> Iterator[LlamaServer]:
    engine = LlamaServer.open(llama, AdapterRepo.open(alora), LLAMA_SERVER, {})
    yield engine
    engine.close()


@pytest.mark.parametrize("family", ["llama", "qwen2", "granite"])
def test_it_is_as_known_on_paired_and_unpaired_architectures(family: str, tmp_path: Path) -> None:
    base = build_base(tmp_path / "base", family)
    settings = {**adapter_settings(family), "alora_invocation_tokens": invocation_ids(base)}
    found = judged(context_of(build_adapter(base, tmp_path / "a", **settings), base), "llama-server")
    assert [type(found[code]) for code in ("ZE001", "ZE002", "ZE004", "ZE006")] == [Passed] * 4, found
    parity, rule, taint = found["ZE002"], found["ZE003"], found["ZE005"]
    assert isinstance(parity, Passed)
    assert isinstance(rule, Flagged)
    assert isinstance(taint, Flagged)
    assert number(parity.measured["llama-server_max_abs_log_prob_difference"]) < 1e-4
    assert rule.severity is Severity.WARNING
    assert "known deviation: activates one token early" in said(rule)
    assert taint.severity is Severity.WARNING
    assert len(taint.findings) == len(LLAMA_SERVER.taints)
    assert all("cache_prompt" in finding.fix for finding in taint.findings)


def test_without_the_reordered_rows_parity_fails(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.converters.exporters import gguf_adapter

    plain = dataclasses.replace(architectures.ARCHITECTURES["llama"], paired=False)
    monkeypatch.setattr(
        gguf_adapter, "architecture", lambda config: plain
    )  # the adapter's file, not the base's
    found = judged(context, "llama-server")
    assert isinstance(found["ZE002"], Flagged)
    assert "new deviation: it fits no mask" in said(found["ZE003"])


@pytest.mark.parametrize(
    ("shift", "words"),
    [(0, "new deviation: it computes one token early"), (-2, "it computes one token early")],
)
def test_data_that_say_something_else_make_it_news(
    shift: int, words: str, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(LLAMA_SERVER, shift=shift)
    monkeypatch.setattr("zoo.activation.LLAMA_SERVER", other)
    found = judged(context, "llama-server")
    assert isinstance(found["ZE002"], Flagged)
    rule = found["ZE003"]
    assert isinstance(rule, Flagged)
    assert rule.severity is Severity.ERROR
    assert words in said(rule)


def test_taints_that_the_data_do_not_know_are_errors(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.activation.LLAMA_SERVER", dataclasses.replace(LLAMA_SERVER, taints=frozenset()))
    taint = judged(context, "llama-server")["ZE005"]
    assert isinstance(taint, Flagged)
    assert {finding.severity for finding in taint.findings} == {Severity.ERROR}
    assert f"new taint: {History.LATER_TURN.value}" in said(taint)


def test_the_matcher_misses_what_its_convention_says(server: LlamaServer, context: Context) -> None:
    session = context.session
    prompt, expectations = session.short_prompts[0], Expectations(session)
    ids = (*prompt.ids, session.invocation[-1])
    assert True not in active_mask(ids, session.invocation, LLAMA_SERVER)
    answer = server.log_probs(Request(ids=ids))
    assert distance(answer, expectations.after(ids, [False] * len(ids))) < 1e-4
    assert distance(answer, expectations.after(ids, active_mask(ids, session.invocation, PEFT))) > 1e-2


def test_start_at_the_first_token_and_the_second(server: LlamaServer, context: Context) -> None:
    session, expectations = context.session, Expectations(context.session)
    for before in ((), (5,)):
        ids = (*before, *session.invocation, 7)
        answer = server.log_probs(Request(ids=ids))
        assert distance(answer, expectations.after(ids, [True] * len(ids))) < 1e-4


def test_a_base_request_after_the_adapter_is_the_base(server: LlamaServer, context: Context) -> None:
    ids = context.session.short_prompts[0].ids
    cold = server.log_probs(Request(ids=ids, adapter=False))
    adapted = server.log_probs(Request(ids=ids))
    assert apart(server.log_probs(Request(ids=ids, adapter=False, reuse=True)), cold) < 1e-5
    assert apart(adapted, cold) > 1e-2


def test_a_supplied_prefix_is_reused(server: LlamaServer, context: Context) -> None:
    prompt = context.session.short_prompts[-1]
    server.log_probs(Request(ids=prompt.ids, prefix=prompt.start))
    assert server.reused == prompt.start - 1
    server.log_probs(Request(ids=prompt.ids))
    assert server.reused == 0


def test_a_prefix_is_the_bases_even_where_an_earlier_turn_invoked(
    server: LlamaServer, context: Context
) -> None:
    first, invocation = context.session.short_prompts[-1].ids, context.session.invocation
    prefix = (*first, *first[: -len(invocation)])
    ids = (*prefix, *invocation)
    cold = server.log_probs(Request(ids=ids))
    assert apart(server.log_probs(Request(ids=ids, prefix=len(prefix))), cold) < 1e-4
    assert server.reused == len(prefix) - 1
    server.log_probs(Request(ids=prefix))
    assert apart(server.log_probs(Request(ids=ids, reuse=True)), cold) > 1e-3  # the known taint


def test_a_server_that_dies_says_why(alora: Path, llama: BaseModel) -> None:
    engine = LlamaServer.open(llama, AdapterRepo.open(alora), LLAMA_SERVER, {})
    engine._child.process.kill()
    engine._child.process.wait()
    with pytest.raises(EngineError, match=r"ended with status -9; it last said: .*listening"):
        engine.log_probs(Request(ids=(1, 2, 3)))
    engine.close()
    engine.close()
    assert not engine._child.scratch.exists()


def test_a_file_that_is_no_gguf(alora: Path, llama: BaseModel, tmp_path: Path, context: Context) -> None:
    broken = tmp_path / "x.gguf"
    broken.write_bytes(b"nothing" * 100)
    found = judged(dataclasses.replace(context, engine_options={"gguf": str(broken)}), "llama-server")
    assert isinstance(found["ZE001"], Skipped)
    assert "magic" in said(found["ZE001"])
    assert isinstance(found["ZE006"], Skipped)


@pytest.mark.parametrize(
    ("options", "error"), [({"gguf": "/nowhere/x.gguf"}, NotFoundError), ({"gguf-type": "q9"}, UsageError)]
)
def test_options_that_name_nothing(
    options: dict[str, str], error: type[Exception], alora: Path, llama: BaseModel
) -> None:
    with pytest.raises(error):
        LlamaServer.open(llama, AdapterRepo.open(alora), LLAMA_SERVER, options)


def test_not_installed_is_skipped_with_the_command(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "_package", lambda *_: lambda: None)
    found = judged(context, "llama-server")["ZE001"]
    assert isinstance(found, Skipped)
    assert found.hint == llama_server.INSTALL
    monkeypatch.setattr(llama_server, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError):
        LlamaServer.open(context.known_base, context.repo, LLAMA_SERVER, {})


WRAPPER = """\
#!{python}
import json, sys
sys.path.insert(0, {engines!r})
if sys.argv[1] == "--version":
    print("version: 6789 (abcdef)", file=sys.stderr)
    sys.exit(0)
flags = dict(zip(sys.argv[1::2], sys.argv[2::2])) if "--no-warmup" not in sys.argv else None
if flags is None:
    rest = [word for word in sys.argv[1:] if word != "--no-warmup"]
    flags = dict(zip(rest[::2], rest[1::2]))
assert (flags["--cache-type-k"], flags["--cache-type-v"], flags["--flash-attn"]) == ("f32", "f32", "off")
import threading, xllamacpp
wanted = xllamacpp.CommonParams()
wanted.model.path, wanted.port = flags["--model"], int(flags["--port"])
wanted.n_parallel = int(flags["--parallel"])
wanted.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(flags["--lora"], 1.0)]
wanted.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
wanted.cache_type_k = wanted.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
server = xllamacpp.Server(wanted)
threading.Event().wait()
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program with llama-server's flags, around the same server."""
    path = tmp_path / "llama-server"
    path.write_text(WRAPPER.format(python=sys.executable, engines=str(tmp_path)))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("ZOO_LLAMA_SERVER", raising=False)
    return path


def test_a_program_on_the_path_comes_first(program: Path, context: Context) -> None:
    installed = kinds.kind_of("llama-server").find()
    assert installed == kinds.Installed(version="b6789", place=str(program))
    found = judged(context, "llama-server")
    assert isinstance(found["ZE002"], Passed), said(found["ZE001"])


def test_a_program_that_fails_at_once(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "broken"
    path.write_text("#!/bin/sh\necho no such luck >&2\nexit 7\n")
    path.chmod(0o755)
    monkeypatch.setenv("ZOO_LLAMA_SERVER", str(path))
    found = judged(context, "llama-server")["ZE001"]
    assert isinstance(found, Skipped)
    assert "ended with status 7; it last said: no such luck" in found.reason


def alive(process: int) -> bool:
    """Whether a process runs; a zombie, whose parent is gone, does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("wrapped", [False, True], ids=["package", "program"])
def test_it_does_not_outlive_a_zoo_that_is_killed(
    wrapped: bool, alora: Path, llama: BaseModel, request: pytest.FixtureRequest
) -> None:
    if wrapped:
        request.getfixturevalue("program")
    script = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from zoo.activation import LLAMA_SERVER
        from zoo.adapter import AdapterRepo
        from zoo.models import resolve
        from zoo.validators.conformance.engines.llama_server import LlamaServer
        engine = LlamaServer.open(resolve({str(llama.folder)!r}), AdapterRepo.open(Path({str(alora)!r})),
                                  LLAMA_SERVER, {{}})
        child = engine._child.process.pid
        print(engine._child.scratch)
        print(child, *Path(f"/proc/{{child}}/task/{{child}}/children").read_text().split(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    scratch, *numbers = done.stdout.split()
    left = [int(number) for number in numbers]
    assert len(left) == 1 + wrapped, done.stderr
    deadline = time.monotonic() + 20
    while any(alive(process) for process in left) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(process) for process in left)
    assert not Path(scratch).exists()
