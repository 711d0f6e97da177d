"""Every scaffold: its contract passes the static checks, and its data is what the contract wants."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import build_adapter
from zoo.adapter import AdapterRepo
from zoo.contracts.contract import read_contract
from zoo.errors import NotFoundError, RefusedError, SpecError
from zoo.io import conversation, process, rewrite
from zoo.io.prompt import Asked, place
from zoo.models import BaseModel
from zoo.prompts import Prompter
from zoo.report import Flagged, NotApplicable, Outcome, Passed, Severity, Skipped
from zoo.scaffolds.kinds import FOLDER, KINDS, Kind, kind_named
from zoo.scaffolds.project import scaffold
from zoo.scaffolds.requests import Example, read_requests, rendered
from zoo.specs.io import IOSpec
from zoo.specs.io_file import read_io
from zoo.specs.io_upstream import UPSTREAMS, refusal
from zoo.specs.yaml_tree import read_tree
from zoo.training.dataset import encode, read_dataset
from zoo.training.plan import plan_training
from zoo.training.project import Project
from zoo.validators.catalog import STATIC_CHECKS
from zoo.validators.check import Check, Context, required_by
from zoo.validators.engine import run_checks
from zoo.validators.library import chosen_folders
from zoo.validators.validate import validate

each_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
LABELS = {
    "answerability": lambda answer: answer,
    "query_clarification": lambda answer: answer["clarification"] == "CLEAR",
    "certainty": lambda answer: answer["score"],
    "requirement_check": lambda answer: answer["score"],
    "guardian": lambda answer: answer["score"],
    "context_relevance": lambda answer: answer,
}
RESULTS = {
    "answerability": {"$.answerability": "string"},
    "query_rewrite": {"$.rewritten_question": "string"},
    "query_clarification": {"$.clarification": "string"},
    "certainty": {"$.certainty": "number"},
    "requirement_check": {"$.requirement_check.score": "number"},
    "guardian": {"$.guardian.score": "number"},
    "context_relevance": {"$.context_relevance": "string"},
    "hallucination_detection": {"$[].response_begin": "integer", "$[].faithfulness": "string"},
    "citations": {"$[].citation_doc_id": "null or string", "$[].citation_text": "string"},
}


def examples(kind: Kind) -> list[Example]:
    return read_requests(kind.requests_path)


def spec(kind: Kind) -> IOSpec:
    return read_io(kind.io_path)


def test_each_kind_has_its_files_and_each_folder_its_kind() -> None:
    assert {kind.name for kind in KINDS} == {path.name for path in FOLDER.iterdir()} == set(RESULTS)
    assert kind_named("query-rewrite").name == "query_rewrite"


# ---------------------------------------------------------------- the contract


def outcomes(release: Path, base: BaseModel, checks: tuple[Check, ...] = STATIC_CHECKS) -> dict[str, Outcome]:
    context = Context(repo=AdapterRepo.open(release), base=base, static=True)
    return {result.code: result.outcome for result in run_checks(context, checks)}


Release = Callable[..., Path]


@pytest.fixture
def release(tiny_base: BaseModel, tmp_path: Path) -> Release:
    """Makes a project, and of it the release that training would leave, with random weights."""

    def make(kind: Kind, name: str = "probe") -> Path:
        project = scaffold(name, kind, tmp_path / name, base=str(tiny_base.folder))
        assert project.invocation is not None
        folder = tmp_path / f"{name}-release"
        ids = list(project.invocation.ids)
        build_adapter(tiny_base, folder, alora_invocation_tokens=ids, lora_alpha=4)
        for file in ("zoo.yaml", "io.yaml", "NOTES.md"):
            shutil.copy(project.folder / file, folder / file)
        return folder

    return make


@each_kind
def test_a_release_made_of_it_passes_the_static_checks(
    kind: Kind, release: Release, tiny_base: BaseModel
) -> None:
    results = outcomes(release(kind), tiny_base)
    wrong = {
        code: [finding.message for finding in outcome.findings]
        for code, outcome in results.items()
        if isinstance(outcome, Flagged)
        and outcome.severity is Severity.ERROR
        and code not in {"ZL001", "ZL002", "ZL003"}  # no lock: nothing was trained
    }
    assert wrong == {}
    passed = {code for code, outcome in results.items() if isinstance(outcome, Passed)}
    assert passed >= {"ZO020", "ZO021", "ZO022", "ZO027", "ZI004", "ZI005"}


@each_kind
def test_the_project_itself_passes_before_it_is_trained(
    kind: Kind, tiny_base: BaseModel, tmp_path: Path
) -> None:
    project = scaffold("probe", kind, tmp_path / "probe", base=str(tiny_base.folder)).folder
    before = sorted(path for path in project.rglob("*"))
    report = validate(project, base=str(tiny_base.folder), static=True)
    assert report.exit_code == 0
    results = {one.code: one.outcome for one in report.results}
    assert not [one for one in results.values() if isinstance(one, Skipped)]
    assert {code for code, one in results.items() if isinstance(one, Passed)} >= {
        "ZM001", "ZT001", "ZI004", "ZI005", "ZO020", "ZO021", "ZO022", "ZO027",
    }  # fmt: skip
    assert isinstance(results["ZW001"], NotApplicable)
    assert sorted(path for path in project.rglob("*")) == before


def test_a_spoilt_project_does_not_pass(tiny_base: BaseModel, tmp_path: Path) -> None:
    made = scaffold("probe", kind_named("guardian"), tmp_path / "probe", base=str(tiny_base.folder))
    contract = made.folder / "io.yaml"
    whole = contract.read_text()
    for old, new, code in (
        ('"no": 0.0', '"maybe": 0.0', "ZO022"),
        ("{criteria}", "{criteria} {", "ZO023"),
        ("{criteria}", "{criteria} {other}", "ZO027"),
    ):
        assert old in whole
        contract.write_text(whole.replace(old, new))
        report = validate(made.folder, base=str(tiny_base.folder), static=True)
        assert report.exit_code == 1
        assert code in {result.code for result, _ in report.findings()}


def test_only_the_static_checks_take_a_project(tiny_base: BaseModel, tmp_path: Path) -> None:
    base = str(tiny_base.folder)
    project = scaffold("probe", kind_named("guardian"), tmp_path / "probe", base=base).folder
    with pytest.raises(NotFoundError, match="is not an adapter") as refused:
        validate(project, base=base)
    assert "--static" in refused.value.hint
    assert chosen_folders([project], [], static=True) == [project]
    (project / "zoo.yaml").unlink()
    with pytest.raises(NotFoundError):
        validate(project, base=base, static=True)


def test_a_spoilt_scaffold_does_not_pass(release: Release, tiny_base: BaseModel) -> None:
    folder = release(kind_named("guardian"))
    text = (folder / "io.yaml").read_text()
    (folder / "io.yaml").write_text(text.replace('"no": 0.0', '"maybe": 0.0'))
    wanted = required_by(STATIC_CHECKS, ["ZO022"])
    results = outcomes(folder, tiny_base, wanted)
    assert isinstance(results["ZO022"], Flagged)


@each_kind
def test_both_published_executors_would_load_it(kind: Kind) -> None:
    raw = read_tree(kind.io_path.read_bytes(), name="io.yaml").data
    assert {upstream: refusal(raw, upstream) for upstream in UPSTREAMS} == dict.fromkeys(UPSTREAMS, "")


@each_kind
def test_its_result_is_the_one_people_know(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "io.yaml").write_bytes(kind.io_path.read_bytes())
    found = read_contract(tmp_path).result
    assert found is not None
    for place_, types in RESULTS[kind.name].items():
        assert found[place_].describe() == types


# ---------------------------------------------------------------- the data


@each_kind
def test_there_is_enough_of_it_and_no_label_is_rare(kind: Kind) -> None:
    rows = examples(kind)
    assert len(rows) >= 12
    assert len({json.dumps([one.request.model_dump(), one.answer]) for one in rows}) == len(rows)
    if label := LABELS.get(kind.name):
        counts = Counter(label(one.answer) for one in rows)
        assert len(set(counts.values())) == 1, counts
        assert len(counts) >= 2


def test_verdicts_on_sentences_are_balanced() -> None:
    rows = examples(kind_named("hallucination_detection"))
    counts = Counter(one["f"] for row in rows for one in row.answer)
    assert max(counts.values()) <= 1.5 * min(counts.values())


@each_kind
def test_a_group_never_shares_a_document_with_another(kind: Kind) -> None:
    groups: dict[str, set[str]] = {}
    for row in examples(kind):
        for document in row.request.documents:
            groups.setdefault(document.text, set()).add(row.group)
    assert all(len(found) == 1 for found in groups.values())


@pytest.mark.parametrize("name", ["hallucination_detection", "citations"])
def test_sentence_numbers_are_those_of_the_tags(name: str) -> None:
    kind = kind_named(name)
    for row in examples(kind):
        messages, _ = conversation(rewrite(spec(kind), row.request.as_request()))
        said = len(re.findall(r"<r\d+>", messages[-1]["content"]))
        shown = len(re.findall(r"<c\d+>", messages[0]["content"]))
        numbers = [one["r"] for one in row.answer]
        if name == "citations":
            assert all(0 <= c < shown for one in row.answer for c in one["c"]), row.line
            assert all(number < said for number in numbers), row.line
        else:
            assert numbers == list(range(said)), row.line  # every sentence is judged


@each_kind
def test_every_answer_becomes_a_result(kind: Kind) -> None:
    contract = spec(kind)
    likely = any(step.type == "likelihood" for step in contract.transformations)
    for row in examples(kind):
        text = json.dumps(row.answer)
        reply: Any = text
        if likely:  # every token certain
            parts = ['{"score": "', row.answer["score"], '"}']
            assert "".join(parts) == text
            sure = [{"token": part, "logprob": 0.0} for part in parts]
            tokens = [{**one, "top_logprobs": [one]} for one in sure]
            reply = {"message": {"content": text}, "logprobs": {"content": tokens}}
        result = process(contract, reply, row.request.as_request())
        if kind.name == "certainty":
            assert result == {"certainty": pytest.approx(0.05 + int(row.answer["score"]) / 10)}
        elif likely:
            assert result == {kind.name: {"score": pytest.approx(float(row.answer["score"] == "yes"))}}
        if kind.name == "citations" and row.answer:
            texts = {document.text for document in row.request.documents}
            assert all(any(one["citation_text"].strip() in text for text in texts) for one in result)


@each_kind
def test_training_reads_what_inference_reads(kind: Kind, tiny_base: BaseModel, tmp_path: Path) -> None:
    """The prompt that `zoo train` makes of a line is the one that `zoo run` makes of its request."""
    project = scaffold("probe", kind, tmp_path / "probe", base=str(tiny_base.folder))
    trained = read_dataset(project.folder / "data" / "train.jsonl")
    assert project.invocation is not None
    prompter, invocation = Prompter(tiny_base), project.invocation
    rows = examples(kind)
    assert len(trained.samples) == len(rows) == project.samples
    prompts = prompter.prompts([sample.messages for sample in trained.samples], invocation)
    for row, sample, prompt in zip(rows, trained.samples, prompts, strict=True):
        rewritten = rewrite(spec(kind), row.request.as_request(), **row.request.arguments)
        messages, documents = conversation(rewritten)
        asked = Asked(messages=messages, documents=documents)
        assert place([asked], prompter, invocation)[0].ids == prompt.ids
        assert json.loads(sample.answer) == row.answer


@each_kind
def test_zoo_train_takes_the_data(kind: Kind, embedded_base: BaseModel, tmp_path: Path) -> None:
    project = scaffold("probe", kind, tmp_path / "probe")
    assert project.invocation is not None
    data = project.folder / "data"
    plan = plan_training(data / "requests.jsonl", project=Project.open(project.folder))
    assert plan.invocation.ids == project.invocation.ids
    assert plan.base.id == project.base == embedded_base.id
    assert len(plan.parts.train) >= 7
    made = read_dataset(data / "train.jsonl").samples
    rendered_ = encode(made, Prompter(embedded_base), project.invocation, name="train.jsonl", max_tokens=4096)
    known = {one.line: (one.prefix, one.lead, one.answer) for one in rendered_}
    for one in (*plan.parts.train, *plan.parts.validation, *plan.parts.held_out):
        assert (one.prefix, one.lead, one.answer) == known[one.line]


# ---------------------------------------------------------------- what is refused

GOOD: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Is it open?"}],
    "documents": [{"doc_id": "1", "text": "It is."}],
    "answer": "answerable",
}


def answerability(tmp_path: Path, *rows: Any, **changed: Any) -> list[dict[str, Any]]:
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    contract = spec(kind_named("answerability")).model_copy(update=changed)
    return rendered(contract, read_requests(path), name=path.name)


def test_a_good_row_is_rendered(tmp_path: Path) -> None:
    (row,) = answerability(tmp_path, GOOD)
    assert row["answer"] == '"answerable"'
    assert [message["role"] for message in row["messages"]] == ["user", "user"]


@pytest.mark.parametrize(
    "row",
    [
        "{",
        "[]",
        "{}",
        {**GOOD, "answer": "perhaps"},
        {**GOOD, "answer": {"answer": "answerable"}},
        {**GOOD, "arguments": {"requirement": "x"}},
        {**GOOD, "documents": [{"text": "no id"}]},
        {**GOOD, "messages": []},
        {**GOOD, "messages": [{"role": "user"}]},
        {**GOOD, "grup": "a"},
        {**GOOD, "group": 1},
        "[" * 100_000,
    ],
    ids=str,
)
def test_a_bad_row_is_named(tmp_path: Path, row: Any) -> None:
    with pytest.raises(SpecError, match="line 2") as refused:
        answerability(tmp_path, GOOD, row)
    assert refused.value.code == "ZO223"


def test_no_rows_are_no_data(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="holds no requests"):
        answerability(tmp_path, "", "  ")


def test_documents_that_the_prompt_would_lack_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError) as refused:
        answerability(tmp_path, GOOD, docs_as_message=None)
    assert refused.value.code == "ZO224"
