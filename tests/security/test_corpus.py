"""Hostile folders are stopped by the code for it; a sample here, all of them in tests.benchmarks.hostile."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.security.corpus import CORPUS
from tests.security.hostile import CANARY, Answer, Door, Hostile
from tests.source_tree import ROOT
from tests.validators.changes import relock
from zoo.cli import run
from zoo.models import BaseModel
from zoo.validators.explain import titles

EVERY = 9  # of the commands that need no torch, in this process; the rest costs a start of one each
SAMPLE = [case for case in CORPUS if case.door.light][::EVERY]


def answer(
    case: Hostile, release: Path, base: BaseModel, capsys: pytest.CaptureFixture[str], scratch: Path
) -> Answer:
    changed = case.change(release, base) or base
    if case.relock:
        relock(release, changed)
    capsys.readouterr()
    status = run(case.door.arguments(release, changed, scratch / "out"))
    said = capsys.readouterr()
    left = [path.name for path in (scratch / "out", Path(CANARY)) if path.exists()]
    return Answer(status=status, stdout=said.out, stderr=said.err, left=left)


@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: f"{case.family}: {case.name}")
def test_a_hostile_folder_is_stopped_by_its_code(
    case: Hostile,
    release: Path,
    tiny_base: BaseModel,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert not answer(case, release, tiny_base, capsys, tmp_path).faults(case)


@pytest.mark.parametrize(("door", "status"), [(Door.VALIDATE, 0), (Door.VALIDATE_ALONE, 3), (Door.CARD, 0)])
def test_the_untouched_folder_is_not_stopped(
    door: Door,
    status: int,
    release: Path,
    tiny_base: BaseModel,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    case = Hostile(family="control", name="untouched", code="", change=lambda folder, base: None, door=door)
    said = answer(case, release, tiny_base, capsys, tmp_path)
    assert said.status == status
    assert door is Door.CARD or not said.codes()


def test_an_answer_is_at_fault_for_each_thing_that_may_not_be() -> None:
    case = Hostile(family="a", name="b", code="ZF001", change=lambda folder, base: None, silent=("hush",))
    right = Answer(status=1, stdout="", stderr="zoo: ZF001: no\n")
    assert not right.faults(case)
    for wrong in (
        Answer(status=0, stdout="", stderr="zoo: ZF001: no\n"),
        Answer(status=4, stdout="", stderr="zoo: ZF001: no\n"),
        Answer(status=1, stdout="", stderr="zoo: ZF002: no\n"),
        Answer(status=1, stdout="", stderr="zoo: ZF001: hush\n"),
        Answer(status=1, stdout="", stderr="zoo: ZF001: \x1b[2J\n"),
        Answer(status=1, stdout="", stderr="zoo: ZF001: no\n", left=["canary"]),
    ):
        assert len(wrong.faults(case)) == 1


def test_the_corpus_is_large_and_each_folder_is_one_of_a_kind() -> None:
    assert len(CORPUS) >= 80
    names = Counter((case.family, case.name) for case in CORPUS)
    assert not [name for name, count in names.items() if count > 1]
    assert {case.code for case in CORPUS} <= titles().keys()
    assert {case.door for case in CORPUS} == set(Door)


def test_the_threat_page_names_every_code_of_the_corpus_and_no_other() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\bZ[A-Z]\d{3}\b", page))
    stopping = {case.code for case in CORPUS}
    also = {  # these flag a harmless detail of a hostile folder, or stand for a code that the page names
        "ZV001", "ZW002", "ZW004", "ZC002",
    }  # fmt: skip
    assert stopping - named <= also
    assert named - stopping == {"ZI008"}  # of prompts and not of folders; mostly a warning
