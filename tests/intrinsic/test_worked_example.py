"""The worked example of a contract: made by running the release, and shown in its card."""

import ast
from pathlib import Path

import pytest

from tests.hub.server import HubServer
from tests.hub.this_process import connect
from tests.intrinsic.conftest import ASK, LIKELIHOOD, YES_NO, MakeRelease, write_io
from zoo.adapter import AdapterRepo
from zoo.cards.card import render_card
from zoo.errors import RefusedError
from zoo.hub import create_tag
from zoo.inference.shared_base import SharedBase
from zoo.intrinsic import Intrinsic
from zoo.models import BaseModel
from zoo.publishing.example import worked_example
from zoo.specs.lock import BaseLock, Lock, dump_lock
from zoo.specs.release import SampleRequest, dump_release

IO = {"response_format": YES_NO, "transformations": LIKELIHOOD}


def with_request(folder: Path, base: BaseModel) -> Path:
    spec = AdapterRepo.open(folder).release
    assert spec is not None
    asked = SampleRequest.model_validate({"messages": ASK})
    (folder / "zoo.yaml").write_text(dump_release(spec.model_copy(update={"requests": [asked]})))
    return folder


def test_the_example_is_what_the_release_answers(
    make_release: MakeRelease,
    shared: SharedBase,
    tiny_base: BaseModel,
) -> None:
    folder = with_request(make_release(io=IO), tiny_base)
    made = worked_example(folder, base=str(tiny_base.folder))
    assert made is not None
    answer = Intrinsic.load(folder, shared=shared).raw(ASK)
    assert made.reply == answer.text
    assert made.result == pytest.approx(answer.result, abs=1e-5)
    assert (made.prefix_tokens, made.suffix_tokens) == (answer.prefix_tokens, answer.suffix_tokens)
    lock = Lock(
        zoo_version="0",
        files={},
        base=BaseLock(id="x", tokenizer_sha256="0" * 64, chat_template_sha256="0" * 64),
        example=made,
    )
    assert "One call" not in render_card(AdapterRepo.open(folder), None)  # nothing without evidence
    (folder / "zoo.lock.json").write_text(dump_lock(lock))
    card = render_card(AdapterRepo.open(folder), None)
    assert card.index("## What it does") < card.index("## Contract") < card.index("## Invocation")
    assert f"The adapter wrote:\n\n```text\n{made.reply}\n```" in card
    assert "the expected value over" in card
    assert f"The base model read {made.prefix_tokens} tokens" in card


def test_without_a_contract_or_a_request_there_is_none(
    make_release: MakeRelease, tiny_base: BaseModel
) -> None:
    plain = with_request(make_release("plain"), tiny_base)
    assert worked_example(plain, base=str(tiny_base.folder)) is None
    assert worked_example(make_release("mute", io=IO), base=str(tiny_base.folder)) is None
    assert "## Contract" not in render_card(AdapterRepo.open(plain), None)


def test_a_release_that_cannot_answer_itself_is_refused(
    make_release: MakeRelease, tiny_base: BaseModel
) -> None:
    folder = with_request(make_release(io=IO), tiny_base)
    write_io(folder, response_format=YES_NO, transformations=LIKELIHOOD, instruction="Say {word}")
    with pytest.raises(RefusedError) as refused:
        worked_example(folder, base=str(tiny_base.folder))
    assert refused.value.code == "ZH014"


def test_the_cards_program_asks_through_the_contract_and_runs_as_printed(
    make_release: MakeRelease,
    shared: SharedBase,
    tiny_base: BaseModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = with_request(make_release(io=IO), tiny_base)
    with HubServer() as hub:
        connect(hub, tmp_path / "home", monkeypatch)
        for repo, place in ((tiny_base.id, tiny_base.folder), ("org/relevance", folder)):
            hub.store.create(repo)
            hub.store.commit(repo, {path.name: path.read_bytes() for path in place.iterdir()})
        create_tag("org/relevance", "v0.1.0", hub.store.head("org/relevance"))
        card = render_card(AdapterRepo.open(folder), None, hub_id="org/relevance")
        program = card[card.index("## How to use") :].split("```python\n")[1].split("\n```")[0]
        assert 'Intrinsic.load("org/relevance@v0.1.0")' in program
        capsys.readouterr()
        exec(compile(program, "card", "exec"), {})
    printed = ast.literal_eval(capsys.readouterr().out)
    assert printed == pytest.approx(Intrinsic.load(folder, shared=shared).raw(ASK).result, abs=1e-5)
    assert "zoo.intrinsic" not in render_card(AdapterRepo.open(make_release("plain")), None)
