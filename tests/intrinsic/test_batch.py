import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.intrinsic.conftest import ASK, LIKELIHOOD, YES_NO, MakeRelease
from zoo.errors import NotFoundError, UsageError
from zoo.inference.shared_base import SharedBase
from zoo.intrinsic import Intrinsic
from zoo.intrinsic.batch import run_batch

Line = Mapping[str, Any] | str


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


LINES: list[Line] = [
    asked("is it relevant?", id="first"),
    "{broken",
    asked("and the context?"),
    "",
    {"messages": []},
    asked("and this?", documents=[{"text": "no place for it"}]),
    asked("yes?", id=7),
]
CODES = [None, "ZO150", None, "ZO151", "ZO158", None]


def write(path: Path, lines: list[Line]) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_line_gives_one_in_order_and_what_fails_says_why(yes_no: Intrinsic, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", LINES), tmp_path / "deep" / "out.jsonl"
    told: list[tuple[int, int]] = []
    done = run_batch(
        yes_no, source, target, progress=lambda _, *, done, total, note="": told.append((done, total))
    )
    found = read(target)
    assert [one["line"] for one in found] == [1, 2, 3, 5, 6, 7]  # the fourth is blank
    assert [one.get("error", {}).get("code") for one in found] == CODES
    assert [one.get("id") for one in found] == ["first", None, None, None, None, 7]
    assert found[0]["result"] == yes_no.raw(asked("is it relevant?")["messages"]).result
    assert found[4]["error"]["path"] == ["extra_body", "documents"]
    assert (done.lines, done.found, done.failed) == (6, 0, 3)
    assert told == [(number, 6) for number in range(7)]


def test_a_run_that_was_cut_anywhere_ends_with_the_same_file(
    yes_no: Intrinsic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = write(tmp_path / "in.jsonl", LINES), tmp_path / "out.jsonl"
    run_batch(yes_no, source, target)
    whole = target.read_bytes()
    calls: list[int] = []
    answers = {json.dumps(one["messages"]): one for one in LINES if isinstance(one, dict)}
    known = {key: yes_no.ask(one) for key, one in answers.items() if "id" in one or "and the" in key}
    real = Intrinsic.ask

    def remembered(self: Intrinsic, request: Mapping[str, Any], arguments: Any = None, **how: Any) -> Any:
        calls.append(1)
        return known.get(json.dumps(request["messages"])) or real(self, request, arguments, **how)

    monkeypatch.setattr(Intrinsic, "ask", remembered)
    for cut in range(0, len(whole) + 1, 7):
        target.write_bytes(whole[:cut])
        calls.clear()
        done = run_batch(yes_no, source, target)
        assert target.read_bytes() == whole
        assert (done.found, done.failed) == (whole[:cut].count(b"\n"), 3)
        assert len(calls) <= 5 - min(done.found, 1)  # what is there is not asked again
    target.write_bytes(whole)
    calls.clear()
    assert run_batch(yes_no, source, target).found == 6
    assert not calls


def test_a_run_that_dies_at_a_line_keeps_those_before(
    yes_no: Intrinsic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "in.jsonl", [asked(f"question {n}") for n in range(5)])
    wanted, target = tmp_path / "wanted.jsonl", tmp_path / "out.jsonl"
    run_batch(yes_no, source, wanted)
    real, left = Intrinsic.ask, [3]

    def dying(self: Intrinsic, *given: Any, **how: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(self, *given, **how)

    monkeypatch.setattr(Intrinsic, "ask", dying)
    with pytest.raises(KeyboardInterrupt):
        run_batch(yes_no, source, target)
    assert target.read_bytes() == b"".join(wanted.read_bytes().splitlines(keepends=True)[:3])
    monkeypatch.undo()
    assert run_batch(yes_no, source, target).found == 3
    assert [one["line"] for one in read(target)] == [1, 2, 3, 4, 5]


Change = Callable[[Path, Path], dict[str, Any]]


def other_line(source: Path, target: Path) -> dict[str, Any]:
    source.write_text(source.read_text().replace("first", "1st"))
    return {}


def fewer_lines(source: Path, target: Path) -> dict[str, Any]:
    source.write_text("".join(source.read_text().splitlines(keepends=True)[:2]))
    return {}


def other_arguments(source: Path, target: Path) -> dict[str, Any]:
    return {"arguments": {"a": "b"}}


def nonsense(source: Path, target: Path) -> dict[str, Any]:
    target.write_text("my notes\n" + target.read_text())
    return {}


@pytest.mark.parametrize("change", [other_line, fewer_lines, other_arguments, nonsense])
def test_results_of_something_else_are_left_alone(yes_no: Intrinsic, tmp_path: Path, change: Change) -> None:
    source, target = write(tmp_path / "in.jsonl", LINES), tmp_path / "out.jsonl"
    run_batch(yes_no, source, target)
    more = change(source, target)
    before = target.read_bytes()
    with pytest.raises(UsageError) as caught:
        run_batch(yes_no, source, target, **more)
    assert caught.value.code == "ZO161"
    assert target.read_bytes() == before


def test_another_adapters_results_are_left_alone(
    yes_no: Intrinsic, make_release: MakeRelease, shared: SharedBase, tmp_path: Path
) -> None:
    source, target = write(tmp_path / "in.jsonl", LINES[:1]), tmp_path / "out.jsonl"
    run_batch(yes_no, source, target)
    io = {"response_format": YES_NO, "transformations": LIKELIHOOD}
    other = Intrinsic.load(make_release("other", io=io, strength=0.6), shared=shared)
    with pytest.raises(UsageError) as caught:
        run_batch(other, source, target)
    assert caught.value.code == "ZO161"


def test_files_that_cannot_be_used(yes_no: Intrinsic, tmp_path: Path) -> None:
    source, target = write(tmp_path / "in.jsonl", LINES[:1]), tmp_path / "out.jsonl"
    with pytest.raises(NotFoundError):
        run_batch(yes_no, tmp_path / "nothing", target)
    with pytest.raises(UsageError, match="the output is the input"):
        run_batch(yes_no, source, source)
    with FileLock(tmp_path / ".out.jsonl.lock"), pytest.raises(UsageError, match="another run") as caught:
        run_batch(yes_no, source, target)
    assert caught.value.code == "ZO161"


def test_arguments_of_a_line_go_before_those_of_all(
    make_release: MakeRelease, shared: SharedBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    io = {"instruction": "{tone}?", "response_format": YES_NO}
    intrinsic = Intrinsic.load(make_release(io=io), shared=shared)
    lines: list[Line] = [
        {"messages": ASK, "arguments": {"tone": "kind"}},
        {"messages": ASK},
        {"messages": ASK, "arguments": 3},
    ]
    seen: list[Any] = []
    real = Intrinsic.ask

    def heard(self: Intrinsic, request: Any, arguments: Any = None, **how: Any) -> Any:
        seen.append(arguments)
        return real(self, request, arguments, **how)

    monkeypatch.setattr(Intrinsic, "ask", heard)
    run_batch(intrinsic, write(tmp_path / "in", lines), tmp_path / "out", arguments={"tone": "stern"})
    assert seen == [{"tone": "kind"}, {"tone": "stern"}]
    assert read(tmp_path / "out")[2]["error"]["code"] == "ZO150"
