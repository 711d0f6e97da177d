"""The worked example on a real (tiny, untrained) base model with real adapters."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import INVOCATION_TEXT, build_adapter, build_tiny_base
from tests.flows.conftest import EXAMPLE
from zoo.adapter import AdapterRepo
from zoo.cli import run as run_command
from zoo.errors import UsageError
from zoo.flows.execution import Answered, Call, run_flow
from zoo.flows.flow import Flow
from zoo.flows.models import Models
from zoo.flows.request import read_request
from zoo.inference.shared_base import SharedBase
from zoo.intrinsic import Intrinsic
from zoo.models import BaseModel, resolve
from zoo.prompts import Prompter
from zoo.specs.flow import BASE, Step

ADAPTERS = ("query_rewrite", "answerability", "citations", "faithfulness")
REQUEST: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "Is the passage relevant?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Does it answer the question?"},
    ],
    "documents": [{"text": "A context. It answers the question.", "doc_id": "a"}],
}


@pytest.fixture(scope="module")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """Its template opens the assistant's turn with a letter: an untrained model repeats what it read last."""
    folder = build_tiny_base(tmp_path_factory.mktemp("base") / "tiny")
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant\n", "assistant: a"))
    return resolve(str(folder))


@pytest.fixture(scope="module")
def project(tiny_base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with weights: four adapters that differ in rank."""
    folder = Path(shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("flows") / "careful"))
    ids = list(Prompter(tiny_base).encode(INVOCATION_TEXT))
    for rank, name in enumerate(ADAPTERS, start=2):
        build_adapter(tiny_base, folder / name, r=rank, strength=2.0, alora_invocation_tokens=ids)
        (folder / name / "zoo.yaml").write_text(
            f"format: 1\nname: {name}\nbase: {{id: {tiny_base.id}}}\n"
            f"invocation: {json.dumps({'text': INVOCATION_TEXT})}\n"
        )
    flow = folder / "flow.yaml"
    flow.write_text(flow.read_text().replace("\nsteps:", f"\nbase: {tiny_base.folder}\n\nsteps:"))
    return folder


@pytest.fixture(scope="module")
def models(project: Path) -> Models:
    return Models.open(Flow.open(project))


class Alone:
    """Answers every step on a base of its own, which shares nothing with any other."""

    def __init__(self, project: Path, base: BaseModel) -> None:
        self.project, self.base = project, base

    def __call__(self, step: Step, call: Call) -> Answered:
        shared = SharedBase.open(self.base, device="cpu", dtype="float32")
        if step.use == BASE:
            flow = Flow.open(self.project)
            return Models(flow, Models.open(flow)._shared)(step, call)
        intrinsic = Intrinsic(AdapterRepo.open(self.project / step.use), shared)
        answer = intrinsic.raw(call.messages, call.documents, **call.arguments)
        return Answered(result=answer.result, text=answer.text)


def forced(project: Path, label: str) -> Flow:
    """The flow with a condition under which its untrained model answers."""
    flow = Flow.open(project)
    answer = flow.spec.steps[2].model_copy(update={"when": f'answerable.answerability == "{label}"'})
    steps = [answer if step.id == "answer" else step for step in flow.spec.steps]
    document = flow.document.__class__(
        spec=flow.spec.model_copy(update={"steps": steps}), tree=flow.document.tree
    )
    return Flow(path=flow.path, document=document, contracts=flow.contracts, faults=flow.faults)


def test_all_steps_share_one_cache_and_it_changes_nothing(
    project: Path, models: Models, tiny_base: BaseModel
) -> None:
    request = read_request(REQUEST)
    said = run_flow(Flow.open(project).spec, request, models).result("answerable")["answerability"]
    flow = forced(project, said)

    shared = run_flow(flow.spec, request, models)
    alone = run_flow(flow.spec, request, Alone(project, tiny_base))

    assert [step.state for step in shared.steps] == ["ran"] * 5
    assert [step.result for step in shared.steps] == [step.result for step in alone.steps]
    assert shared.output == alone.output
    by_step = {step.id: step.answered for step in shared.steps if step.answered}
    for later in ("answerable", "answer", "check"):
        answered = by_step[later]
        assert 30 < answered.reused_tokens < answered.prompt_tokens, later
    assert by_step["check"].result["faithfulness"] == pytest.approx(0.5, abs=0.5)
    assert by_step["citations"].result[0]["citation_doc_id"] == "a"
    # the control: another adapter in a step's place says something else
    other = shutil.copytree(project, project.parent / "other", dirs_exist_ok=True)
    shutil.copy(
        project / "citations" / "adapter_config.json", other / "query_rewrite" / "adapter_config.json"
    )
    shutil.copy(
        project / "citations" / "adapter_model.safetensors",
        other / "query_rewrite" / "adapter_model.safetensors",
    )
    changed = run_flow(Flow.open(other).spec, request, Models.open(Flow.open(other)))
    assert changed.result("rewrite") != shared.result("rewrite")


@pytest.mark.parametrize("form", [None, "string", "json", "roles"])
def test_the_base_reads_the_documents(form: Any, project: Path, models: Models) -> None:
    step = Flow.open(project).spec.steps[2].model_copy(update={"docs_as_message": form})
    call = Call(messages=REQUEST["messages"], documents=[{"text": "An answer."}], arguments={})
    bare = Call(messages=REQUEST["messages"], documents=[], arguments={})
    assert models(step, call).prompt_tokens > models(step, bare).prompt_tokens + 3


def test_a_base_that_the_adapters_are_not_for(project: Path, embedded_base: BaseModel) -> None:
    flow = Flow.open(project)
    other = Flow(path=flow.path, document=flow.document, contracts=flow.contracts, faults=flow.faults)
    spec = flow.spec.model_copy(update={"base": embedded_base.embedded})
    object.__setattr__(other, "document", flow.document.__class__(spec=spec, tree=flow.document.tree))
    with pytest.raises(UsageError, match="is for tests/tiny-llama") as caught:
        Models.open(other)
    assert caught.value.code == "ZO306"


# ---------------------------------------------------------------- the command


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    def says(self, code: int, *words: str) -> None:
        assert self.code == code, self.err
        assert "Traceback" not in self.err
        for word in words:
            assert word in self.out + self.err


Zoo = Callable[..., Done]


@pytest.fixture
def zoo(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Zoo:
    """The command line, in this process."""

    def call(*arguments: str, cwd: Path) -> Done:
        monkeypatch.chdir(cwd)
        capsys.readouterr()
        code = run_command(["flow", *arguments])
        said = capsys.readouterr()
        return Done(code=code, out=said.out, err=said.err)

    return call


def test_run_as_text_and_as_json(project: Path, zoo: Zoo) -> None:
    (project / "request.json").write_text(json.dumps(REQUEST))

    zoo("run", "flow.yaml", "--request", "request.json", cwd=project).says(
        0, "rewrite:", "prompt tokens were in the cache"
    )
    document = json.loads(zoo("run", ".", "--request", "request.json", "--json", cwd=project).out)
    assert document["steps"][0]["state"] == "ran"
    assert document["steps"][1]["tokens"]["reused"] > 0


def test_score_keeps_records_and_goes_on(project: Path, tmp_path: Path, zoo: Zoo) -> None:
    lines = [
        {**REQUEST, "answerable": True},
        {**REQUEST, "documents": [{"text": "No."}], "answerable": False},
    ]
    lines[1]["documents"] = [{"text": "No.", "doc_id": "n"}]
    data, kept = tmp_path / "data.jsonl", tmp_path / "records.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in lines))
    command = ("score", ".", "--data", str(data), "--records", str(kept))

    first = zoo(*command, "--json", cwd=project)
    first.says(0, '"n": 2')
    document = json.loads(first.out)
    variants = ["flow", "without rewrite", "without answerable", "without citations", "bare"]
    assert list(document["figures"]) == variants
    assert not any(figure["failed"] for figure in document["figures"].values())
    assert len(kept.read_text().splitlines()) == 1 + 2 * 5
    zoo(*command, cwd=project).says(0, "JAFS", "F1 unanswerable", "without rewrite", "a model's judgement")
    assert zoo(*command, "--json", cwd=project).out == first.out
    assert len(kept.read_text().splitlines()) == 1 + 2 * 5
    # another flow's records are not taken for this one's
    flow = project / "flow.yaml"
    before = flow.read_text()
    flow.write_text(before.replace("max_new_tokens: 12", "max_new_tokens: 13"))
    zoo(*command, cwd=project).says(2, "ZO312", "another flow")
    flow.write_text(before)


def test_documents_that_an_adapter_would_never_see_end_the_run(
    project: Path, tmp_path: Path, zoo: Zoo
) -> None:
    folder = Path(shutil.copytree(project, tmp_path / "careful"))
    io_file = folder / "answerability" / "io.yaml"
    io_file.write_text(io_file.read_text().replace("docs_as_message: string\n", ""))
    (tmp_path / "data.jsonl").write_text(json.dumps({**REQUEST, "answerable": True}) + "\n")
    zoo("score", str(folder), "--data", "data.jsonl", cwd=tmp_path).says(1, "ZO158")


WRONG: list[tuple[list[str], int, list[str]]] = [
    (["check", "no/such"], 2, ["no/such does not exist"]),
    (["run", ".", "--request", "none.json"], 2, ["none.json does not exist"]),
    (["run", ".", "--request", "flow.yaml"], 2, ["ZO313", "not JSON"]),
    (["score", "."], 2, ["--data"]),
    (["score", ".", "--data", "none.jsonl"], 2, ["none.jsonl does not exist"]),
    (["score", ".", "--data", "flow.yaml"], 2, ["ZO310", "line 1 is not JSON"]),
    (["tell", "."], 2, ["tell"]),
    (["check"], 2, ["FLOW"]),
]


@pytest.mark.parametrize(("arguments", "code", "words"), WRONG)
def test_wrong_input_ends_in_a_sentence(
    arguments: list[str], code: int, words: list[str], project: Path, zoo: Zoo
) -> None:
    zoo(*arguments, cwd=project).says(code, *words)


def test_a_wrong_flow_is_not_run(project: Path, tmp_path: Path, zoo: Zoo) -> None:
    folder = Path(shutil.copytree(project, tmp_path / "careful"))
    flow = folder / "flow.yaml"
    flow.write_text(flow.read_text().replace('== "answerable"', '== "yes"'))
    zoo("check", ".", cwd=folder).says(1, "FAILED", "ZO315", "never holds")
    zoo("run", ".", cwd=folder).says(1, "ZO315", "flow.yaml:22", "zoo flow check")
