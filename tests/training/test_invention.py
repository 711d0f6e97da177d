import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import INVOCATION_TEXT
from zoo.conversion import apply, convert, plan_conversion
from zoo.errors import RefusedError, SpecError, UsageError
from zoo.models import BaseModel
from zoo.prompts import Prompter
from zoo.provenance import sha256_file
from zoo.specs.release import SampleRequest
from zoo.training.contract import Contract
from zoo.training.distil_settings import DistilSettings
from zoo.training.invention import drafting, invention, sieve
from zoo.training.invention.balance import chosen, enough
from zoo.training.invention.exemplars import exemplars
from zoo.training.invention.invention import InventionSettings
from zoo.training.invention.samples import SampleRequests
from zoo.training.invention.script import Gap, Script
from zoo.training.invention.sieve import Sieve

YES_NO = b'response_format: |\n  {"type": "string", "enum": ["yes", "no"]}\ntransformations: []\nmodel: ~\n'


def request(*said: str, documents: Sequence[str] = (), **arguments: str) -> SampleRequest:
    roles = ("user", "assistant")
    return SampleRequest.model_validate(
        {
            "messages": [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)],
            "documents": [{"text": text} for text in documents],
            "arguments": arguments,
        }
    )


# ---------------------------------------------------------------- exemplars


def test_common_labels_divide_a_text_and_it_is_put_together_again() -> None:
    texts = [
        "Judge it.\n\nPassage: One. Note: x\n\nQuestion: Who?",
        "Judge it.\n\nPassage: Two.\n\nQuestion: Why?",
    ]
    first, second = exemplars([request(text) for text in texts])
    assert [(part.title, part.written) for part in first.parts] == [
        ("User", False), ("Passage", True), ("Question", True),
    ]  # fmt: skip
    assert first.filled([part.text for part in first.written])["messages"][0]["content"] == texts[0]
    made = first.filled(["Three.", "When?"])["messages"][0]["content"]
    assert made == "Judge it.\n\nPassage: Three.\n\nQuestion: When?"
    assert second.crossable == 1


def test_a_label_that_one_sample_lacks_divides_nothing() -> None:
    found = exemplars([request("Passage: One.\nQuestion: Who?"), request("Passage: Two.")])
    assert [[part.title for part in one.parts] for one in found] == [["Passage"], ["Passage"]]


def test_documents_and_conversation_are_crossed_and_turns_are_not() -> None:
    (with_document,) = exemplars([request("Who?", documents=["A text."])])
    assert [part.title for part in with_document.written] == ["Document", "User"]
    assert with_document.crossable == 1
    (conversation,) = exemplars([request("Who?", "He.", "Why?")])
    assert len(conversation.written) == 3
    assert conversation.crossable == 0


def test_system_messages_and_repeated_arguments_are_not_written_anew() -> None:
    requests = [request(f"Reply {n}.", rule=rule) for n, rule in enumerate(("short", "short", "polite"))]
    found = exemplars(requests)
    assert [part.title for part in found[0].parts] == ["Rule", "User"]
    assert [part.title for part in found[0].written] == ["User"]
    system = SampleRequest.model_validate(
        {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello there."}]}
    )
    assert [part.title for part in exemplars([system])[0].written] == ["User"]


def test_each_of_a_few_arguments_is_drawn_as_often_as_another(tiny_base: BaseModel) -> None:
    rules = ("short", "short", "short", "short", "polite", "rhymed")
    few = exemplars([request(f"Reply {n}.", rule=rule) for n, rule in enumerate(rules)])
    own = exemplars([request(f"Reply {n}.", rule=f"rule {n}") for n in range(6)])  # each written anew
    plain = exemplars([request(f"Reply {n}.") for n in range(6)])

    assert [len(alike) for alike in drafting.by_arguments(few)] == [4, 1, 1]
    assert [len(alike) for alike in drafting.by_arguments(own)] == [6]
    assert [len(alike) for alike in drafting.by_arguments(plain)] == [6]
    written = drafting.Drafting(few, Prompter(tiny_base), longest=512).round(count=300, seed="0").rows
    counts = Counter(draft.exemplar.request["arguments"]["rule"] for draft in written)
    assert all(70 <= count <= 130 for count in counts.values())  # 200, 50 and 50 by the samples


def test_an_invocation_written_by_the_caller_stays_at_the_end() -> None:
    (one,) = exemplars([request("Is it so? <req>: x")], tail="<req>:")
    assert one.filled(["Was it?"])["messages"][0]["content"] == "Was it?<req>: x"


# ---------------------------------------------------------------- scripts


def play(script: Script, said: str) -> list[int]:
    """Feeds a script characters as ids; what it forces goes before. Returns what it took back, by event."""
    taken = []
    for character in said:
        while (forced := script.forced()) is not None:
            assert script.take(forced) == 0
        if script.ended:
            break
        if back := script.take(ord(character)):
            taken.append(back)
    return taken


def make(*most: int, stop: Any = drafting.STOP, least: int = 0) -> Script:
    gaps = [Gap(before=tuple(map(ord, f"<{at}>")), least=least, most=size) for at, size in enumerate(most)]
    return Script(
        gaps, lambda ids: "".join(map(chr, ids)), stop=stop, ends={0}, prose=torch.ones(128, dtype=torch.bool)
    )


def test_a_gap_ends_where_a_headline_begins_which_is_taken_back() -> None:
    script = make(50, 50)
    assert play(script, "One two.\n\n#Three?\n\n#") == [3, 3]
    assert script.texts == ["One two.", "Three?"]
    assert script.ended
    assert not script.failure


def test_a_gap_ends_at_an_end_id_and_what_is_too_long_is_cut_behind_a_sentence() -> None:
    script = make(12, 12)
    assert play(script, "Abc.\x00First one. Sec") == [1, 2]
    assert script.texts == ["Abc.", "First one."]


def test_a_gap_without_end_or_content_is_given_up() -> None:
    endless, empty = make(6), make(6)
    play(endless, "abcdefgh")
    play(empty, "\n#")
    assert (endless.failure, empty.failure) == ("endless", "empty")
    assert endless.ended
    assert empty.ended


def test_before_its_least_tokens_a_gap_may_not_end() -> None:
    script = make(20, least=3)
    assert script.allowed() is not None
    play(script, "abc")
    assert script.allowed() is None


# ---------------------------------------------------------------- sieve and balance


def test_each_rule_of_the_sieve_rejects_and_a_new_text_passes() -> None:
    samples = exemplars([request("Where is the old lighthouse of the northern island, and who built it?")])
    wanted = "When was the stone bridge over the wide river opened again for heavy carts?"
    cases = {
        "short": "Where now?",
        "special tokens": f"{wanted} <|im_end|>",
        "in circles": "to be or not " * 8,
        "other script": " ".join(chr(0x431 + n) * 5 for n in range(12)),
        "like another": "Where is the old lighthouse of the northern island, and who built it now?",
    }
    passed = Sieve(samples, foreign=["<|im_end|>"])
    for reason, text in cases.items():
        assert not passed.passes(samples[0], [text])
        assert passed.rejected[reason] == 1, reason
    assert passed.passes(samples[0], [wanted])
    assert not passed.passes(samples[0], [wanted])


def test_closed_answers_are_balanced_as_far_as_they_go_and_open_ones_are_not() -> None:
    rows = [{"answer": "yes" if n % 5 else "no", "n": n} for n in range(40)]
    assert not enough(rows, 20)
    assert enough(rows, 16)
    taken = chosen(rows, 20)
    assert [sum(row["answer"] == side for row in taken) for side in ("yes", "no")] == [12, 8]
    assert [row["n"] for row in taken] == sorted(row["n"] for row in taken)
    unlike = [{"answer": f"text {n}"} for n in range(40)]
    assert chosen(unlike, 20) == unlike[:20]
    assert not enough([{"answer": "no"}] * 40, 20)  # one answer alone may be all that was found so far


# ---------------------------------------------------------------- the whole


@pytest.fixture
def lax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights write random bytes: the rules for people's text are off."""
    monkeypatch.setattr(sieve, "LOOP", 0.0)
    monkeypatch.setattr(sieve, "LEAST", 0)
    monkeypatch.setattr(drafting, "AGAIN", 0.0)


SETTINGS = InventionSettings(samples=16, batch=48, answer_tokens=8, max_tokens=1024)


def make_plan(tiny_base: BaseModel, make_adapter: Callable[..., Path]) -> Any:
    return plan_conversion(
        make_adapter(), base=str(tiny_base.folder), invocation_text=INVOCATION_TEXT, name="invented"
    )


@pytest.mark.usefixtures("lax")
def test_auto_makes_data_recovers_on_them_and_says_that_nobody_checked(
    tiny_base: BaseModel, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    plan = make_plan(tiny_base, make_adapter)
    settings = DistilSettings.of(steps=2, control=False)
    how: dict[str, Any] = {"recover": "auto", "invention": SETTINGS, "settings": settings}
    done = apply(plan, tmp_path / "out", contract=Contract.parse(YES_NO), **how)
    path = tmp_path / "out.invented.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) >= 16
    assert {row["answer"] for row in rows} <= {"yes", "no"}
    record = json.loads((tmp_path / "out.invented.json").read_text())
    assert record["sha256"] == sha256_file(path)
    assert sum(record["answers"].values()) == len(rows)
    lock = json.loads((tmp_path / "out" / "zoo.lock.json").read_text())
    assert lock["training"]["settings"]["invented"] == record
    assert any("nobody checked" in line for line in done.lines())

    # the same once more takes the file; measured on given requests it says so
    real = tmp_path / "real.jsonl"
    real.write_text(
        "".join(
            json.dumps(
                {"messages": [{"role": "user", "content": f"Is {n} odd?"}], "answer": ("no", "yes")[n % 2]}
            )
            + "\n"
            for n in range(12)
        )
    )
    (tmp_path / "out").rename(tmp_path / "first")
    before = path.stat().st_mtime_ns
    checked = DistilSettings.of(steps=2, control=False, eval_data=real)
    again = apply(plan, tmp_path / "out", contract=Contract.parse(YES_NO), **{**how, "settings": checked})
    assert path.stat().st_mtime_ns == before
    assert not any("nobody checked" in line for line in again.lines())
    assert any("--eval-data" in line for line in again.lines())


@pytest.mark.usefixtures("lax")
def test_a_killed_invention_goes_on_and_ends_with_the_same_bytes(
    tiny_base: BaseModel, make_adapter: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.conversion import _relabelled
    from zoo.converters.fold import fold

    plan = make_plan(tiny_base, make_adapter)
    settings = InventionSettings(samples=40, batch=32, answer_tokens=8, max_tokens=1024)
    monkeypatch.setattr(invention, "enough", lambda rows, samples: len(rows) >= samples)
    rounds: list[int] = []

    def run(name: str, *, seed: int = 0, stop_after: int = 0) -> bytes:
        def told(stage: str, *, done: int, total: int, note: str = "") -> None:
            if stage == "invented samples":
                rounds.append(done)
                if len(rounds) == stop_after:
                    raise KeyboardInterrupt

        with _relabelled(plan, fold(plan.checkpoint, plan.base.linears)) as relabelled:
            made = invention.invent(
                tmp_path / f"{name}.jsonl",
                base=plan.base,
                relabelled=relabelled,
                invocation=plan.invocation,
                samples=SampleRequests(),
                contract=Contract.parse(YES_NO),
                settings=InventionSettings(**{**_fields(settings), "seed": seed}),
                work=tmp_path / "work" / str(seed),
                progress=told,
            )
        return made.path.read_bytes()

    with pytest.raises(KeyboardInterrupt):
        run("killed", stop_after=2)
    with (tmp_path / "work" / "0" / "invented" / "rounds.jsonl").open("ab") as file:
        file.write(b'{"rows": [{"mess')  # and a line that was being written
    rounds.clear()
    resumed = run("killed")
    (tmp_path / "work" / "0" / "invented" / "rounds.jsonl").unlink()
    rounds.clear()
    assert run("whole") == resumed
    assert len(rounds) > 2
    assert run("other", seed=1) != resumed


def _fields(settings: InventionSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in InventionSettings.__slots__}


@pytest.mark.usefixtures("lax")
def test_a_file_that_was_changed_is_not_overwritten(
    tiny_base: BaseModel, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    plan = make_plan(tiny_base, make_adapter)
    (tmp_path / "out.invented.jsonl").write_text("mine\n")
    with pytest.raises(UsageError, match="ZD032"):
        apply(plan, tmp_path / "out", recover="auto", invention=SETTINGS)
    assert (tmp_path / "out.invented.jsonl").read_text() == "mine\n"


def test_too_little_of_use_is_refused_with_the_reasons(
    tiny_base: BaseModel, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    settings = InventionSettings(samples=16, batch=16, answer_tokens=2)
    with pytest.raises(RefusedError, match=r"ZD031.*\d+ endless"):
        convert(
            make_adapter(), tmp_path / "out", recover="auto", invention=settings,
            base=str(tiny_base.folder), invocation_text=INVOCATION_TEXT, name="x",
        )  # fmt: skip
    assert not (tmp_path / "out.invented.jsonl").exists()


# ---------------------------------------------------------------- sample requests


def test_sample_requests_of_a_release_and_of_lines(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "Who?"}], "answer": 3, "group": "g"}
    lines = tmp_path / "requests.jsonl"
    lines.write_text(json.dumps(row) + "\n\n")
    found = SampleRequests.read(lines)
    assert [one.messages[0].content for one in found.requests] == ["Who?"]
    assert found.origin == "1 sample requests of requests.jsonl"
    assert SampleRequests.beside(tmp_path) == SampleRequests()
    lines.write_text("{}\n")
    with pytest.raises(SpecError, match="ZD030"):
        SampleRequests.read(lines)


def test_documents_without_a_contract_are_refused(
    tiny_base: BaseModel, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(json.dumps(request("Who?", documents=["A text."]).model_dump(mode="json")) + "\n")
    with pytest.raises(SpecError, match="ZD030"):
        apply(make_plan(tiny_base, make_adapter), tmp_path / "out", recover="auto", requests=path)
