"""Training through an io.yaml: what is trained on is what `zoo run` will read."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import INVOCATION_TEXT
from tests.training.test_train import SETTINGS
from zoo.errors import SpecError
from zoo.inference.shared_base import SharedBase
from zoo.intrinsic import Intrinsic
from zoo.intrinsic.intrinsic import open_base
from zoo.models import BaseModel, resolve
from zoo.prompts import Invocation, Prompter
from zoo.scaffolds.kinds import kind_named
from zoo.scaffolds.project import scaffold
from zoo.scaffolds.requests import read_requests
from zoo.specs.release import Position
from zoo.training.contract import Contract
from zoo.training.dataset import Encoded, Sample, encode, read_dataset
from zoo.training.optimise import Recipe
from zoo.training.parts import DataSettings
from zoo.training.plan import TrainingPlan, TrainSettings, plan_training
from zoo.training.project import Project
from zoo.training.train import train

SHORT = replace(SETTINGS, recipe=Recipe(steps=2, batch=2, micro_batch=2))
YES_NO = {
    "type": "object",
    "properties": {"answer": {"enum": ["yes", "no"]}, "why": {"type": "string"}},
    "required": ["answer", "why"],
}
TEXT = {"type": "string"}

MakeProject = Callable[[str], Path]


@pytest.fixture(scope="module")
def shared(tiny_base: BaseModel) -> SharedBase:
    return open_base(tiny_base)


@pytest.fixture
def make_project(tiny_base: BaseModel, tmp_path: Path) -> MakeProject:
    def make(kind: str) -> Path:
        folder = tmp_path / kind
        return scaffold("probe", kind_named(kind), folder, base=str(tiny_base.folder)).folder

    return make


def everything(plan: TrainingPlan) -> list[Encoded]:
    parts = plan.parts
    return sorted([*parts.train, *parts.validation, *parts.held_out], key=lambda one: one.line)


def plan_of(project: Path, base: BaseModel, **more: Any) -> TrainingPlan:
    options = {"project": Project.open(project), "base": str(base.folder), "settings": SHORT, **more}
    return plan_training(project / "data" / "requests.jsonl", **options)


@pytest.mark.parametrize(
    ("kind", "has"),
    [
        ("guardian", "an instruction with an argument"),
        ("answerability", "documents as a message"),
        ("citations", "sentence tags in the last message and in documents as JSON"),
    ],
)
def test_what_is_trained_on_is_what_inference_reads(
    kind: str, has: str, make_project: MakeProject, tiny_base: BaseModel, shared: SharedBase, tmp_path: Path
) -> None:
    project = make_project(kind)
    requests = project / "data" / "requests.jsonl"
    base = str(tiny_base.folder)
    done = train(requests, tmp_path / "out", project=Project.open(project), base=base, settings=SHORT)
    intrinsic = Intrinsic.load(done.folder, shared=shared)
    samples = everything(plan_of(project, tiny_base))
    examples = read_requests(requests)
    assert [one.line for one in samples] == [one.line for one in examples]
    for sample, example in zip(samples, examples, strict=True):
        _, prompt = intrinsic.prompt(example.request.as_request(), example.request.arguments)
        assert (sample.prefix, sample.lead) == (prompt.prefix, prompt.suffix), has
        said = intrinsic.speaker.prompter.encode(json.dumps(example.answer, ensure_ascii=False))
        assert sample.answer == said + intrinsic.speaker.prompter.end_ids
        constraint = intrinsic._constraint()
        assert constraint is not None
        assert constraint.takes(sample.answer)

    # control: the same messages without the contract
    bare = tmp_path / "bare.jsonl"
    rows = [json.loads(line) for line in requests.read_text().splitlines()]
    kept = [{"messages": row["messages"], "answer": json.dumps(row["answer"])} for row in rows]
    bare.write_text("".join(json.dumps(row) + "\n" for row in kept))
    plain = plan_training(bare, invocation_text=intrinsic.invocation.text, base=base, settings=SHORT)
    other = {one.line: one.prefix + one.lead for one in everything(plain)}
    assert all(other[one.line] != one.prefix + one.lead for one in samples)


def test_the_release_has_the_authors_files_and_its_record_their_digest(
    make_project: MakeProject, tiny_base: BaseModel, tmp_path: Path
) -> None:
    project = make_project("requirement_check")
    (project / "zoo.yaml").write_text(
        (project / "zoo.yaml").read_text() + "version: 1.2.3\nlicense: mit\nlanguages: [de]\n"
        "gate: {allowed_skips: {ZB001: because}}\n"
    )
    read = Project.open(project)
    data = project / "data" / "requests.jsonl"
    done = train(
        data, tmp_path / "out", project=read, base=str(tiny_base.folder), settings=SHORT, version="2.0.0"
    )
    made = Project.open(done.folder)
    assert read.spec is not None
    assert made.spec is not None
    assert made.spec == read.spec.model_copy(update={"version": "2.0.0"})
    assert len(made.spec.requests) > 1
    assert made.files == read.files
    assert set(made.files) == {"io.yaml", "NOTES.md"}
    assert made.contract is not None
    lock = json.loads((done.folder / "zoo.lock.json").read_text())
    assert done.training.settings["io_sha256"] == made.contract.sha256 == lock["files"]["io.yaml"]
    assert "NOTES.md" in lock["files"]


def test_a_reply_of_a_sample_is_judged_by_the_contract(
    make_project: MakeProject, tiny_base: BaseModel
) -> None:
    """Likelihoods are those of a reply in which every token is certain."""
    plan = plan_of(make_project("certainty"), tiny_base)
    read = plan.parts.read
    assert read is not None
    assert read('{"score": "9"}', 1) == {"certainty": 0.95}
    citations = plan_of(make_project("citations"), tiny_base).parts
    line = citations.train[0].line
    assert citations.read is not None
    (found,) = citations.read('[{"r": 0, "c": [0]}]', line)
    assert found["citation_text"]
    with pytest.raises(Exception, match="sentence"):
        citations.read('[{"r": 0, "c": [99]}]', line)


# ---------------------------------------------------------------- refusals


def contract(schema: Any = None, **fields: Any) -> Contract:
    known = {"model": None, "response_format": schema and json.dumps(schema), "transformations": None}
    return Contract.parse(json.dumps(known | fields).encode())


def sample(answer: Any, *, text: str = "question", **more: Any) -> Sample:
    messages = ({"role": "user", "content": text},)
    return Sample(line=7, messages=messages, answer=answer, group="g", **more)


def encoded(one: Sample, how: Contract, prompter: Prompter, invocation: Invocation) -> str:
    (found,) = encode([one], prompter, invocation, name="d.jsonl", max_tokens=400, contract=how)
    return prompter.decode(found.answer[: -len(prompter.end_ids)])


@pytest.mark.parametrize(
    ("answer", "schema", "said"),
    [
        ("yes", {"enum": ["yes", "no"]}, '"yes"'),
        ('"yes"', {"enum": ["yes", "no"]}, '"yes"'),
        ({"answer": "no", "why": "é"}, YES_NO, '{"answer": "no", "why": "é"}'),
        ('{"answer": "no", "why": ""}', YES_NO, '{"answer": "no", "why": ""}'),
        ("12", TEXT, '"12"'),
        (12, {"type": "integer"}, "12"),
        (False, None, "false"),
        ("as it is", None, '"as it is"'),
    ],
)  # fmt: skip
def test_an_answer_is_the_replys_json_or_its_text(
    answer: Any, schema: Any, said: str, prompter: Prompter, invocation: Invocation
) -> None:
    assert encoded(sample(answer), contract(schema), prompter, invocation) == said


@pytest.mark.parametrize(
    ("one", "how", "code"),
    [
        (sample("maybe"), contract({"enum": ["yes", "no"]}), "ZO122"),
        (sample('{"answer": "perhaps", "why": ""}'), contract(YES_NO), "ZO122"),
        (sample({"why": "", "answer": "no"}), contract(YES_NO), "ZD020"),
        (sample('{"answer":"no","why":""}'), contract(YES_NO), "ZD020"),
        (sample('"quoted"'), contract(TEXT), "ZD001"),
        (sample("yes", text="Is it?"), contract(TEXT, instruction="Is it?"), "ZD001"),
        (sample("yes", text="<r0> x"), contract(TEXT, sentence_boundaries={"last_message": "r"}), "ZO104"),
        (sample("yes", arguments={"n": 1}), contract(TEXT), "ZO106"),
        (sample("yes"), contract(TEXT, instruction="is {n} right?"), "ZO105"),
        (sample("yes", text=f"x {INVOCATION_TEXT}"), contract(TEXT), "ZO152"),
        (sample("yes", documents=({"title": "no text"},)), contract(TEXT), "ZO100"),
    ],
)
def test_what_the_contract_refuses_names_the_line(
    one: Sample, how: Contract, code: str, prompter: Prompter, invocation: Invocation
) -> None:
    with pytest.raises(SpecError, match=r"d\.jsonl, line 7") as caught:
        encoded(one, how, prompter, invocation)
    assert caught.value.code == code


def test_documents_that_the_template_has_no_place_for_are_refused(
    prompter: Prompter, invocation: Invocation
) -> None:
    with pytest.raises(SpecError, match=r"d\.jsonl") as caught:
        encoded(sample("yes", documents=({"text": "x"},)), contract(TEXT), prompter, invocation)
    assert caught.value.code == "ZO158"


def test_a_caller_writes_the_invocation_where_nobody_else_does(prompter: Prompter) -> None:
    text = "<req>:"
    inside = Invocation(text=text, ids=prompter.encode(text), position=Position.IN_MESSAGE)
    assert encoded(sample("yes", text=f"{text} x"), contract(TEXT), prompter, inside) == '"yes"'
    how = contract(TEXT, instruction=f"{text} relevant?")
    with pytest.raises(SpecError) as caught:  # the instruction writes it, so the caller's own would move it
        encoded(sample("yes", text=f"{text} x"), how, prompter, inside)
    assert caught.value.code == "ZO152"


def test_answers_other_than_text_want_a_contract(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "x"}], "answer": {"score": "yes"}}\n')
    with pytest.raises(SpecError, match="--io") as caught:
        read_dataset(path)
    assert caught.value.code == "ZD001"
    assert read_dataset(path, values=True).samples[0].answer == {"score": "yes"}


def test_the_plan_shows_what_is_read_and_said(make_project: MakeProject, tiny_base: BaseModel) -> None:
    settings = TrainSettings(data=DataSettings(held_out=0.25, validation=0.2))
    lines = plan_of(make_project("guardian"), tiny_base, settings=settings).lines()
    assert any("those of zoo run" in line for line in lines)
    (shown,) = [line for line in lines if line.startswith("line ")]
    read, _, said = shown.partition(" → ")
    assert read.endswith(r"Is it true of the last message?<|im_end|>\n<|im_start|>probe\n'")
    assert said in {repr(json.dumps({"score": word}) + "<|im_end|>") for word in ("yes", "no")}


def test_a_tokenizer_that_grammars_misread_is_blamed_and_not_the_answer(
    tiny_base: BaseModel, invocation: Invocation, tmp_path: Path
) -> None:
    """Such a decoder as transformers 5.17 gives a byte-level tokenizer that it reads from a GGUF."""
    folder = tmp_path / "base"
    shutil.copytree(tiny_base.folder, folder)
    path = folder / "tokenizer.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["decoder"] = {
        "type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}, document["decoder"]],
    }  # fmt: skip
    path.write_text(json.dumps(document), encoding="utf-8")
    one = sample({"answer": "no", "why": "it is so"})
    assert encoded(one, contract(YES_NO), Prompter(tiny_base), invocation)
    with pytest.raises(SpecError, match=r"line 7: .*tokenizer\.json .* not in order") as caught:
        encoded(one, contract(YES_NO), Prompter(resolve(str(folder))), invocation)
    assert caught.value.code == "ZD020"
