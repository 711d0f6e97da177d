"""Making a project: what is there afterwards, what is never touched, and bases other than the embedded."""

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import build_tiny_base
from tests.hub.faults import Fault
from tests.hub.server import HubServer
from tests.hub.this_process import connect
from zoo.contracts.comparison import Comparison
from zoo.contracts.contract import read_contract
from zoo.errors import HubError, NotFoundError, RefusedError, SpecError, UsageError
from zoo.models import BaseModel
from zoo.scaffolds.kinds import kind_named
from zoo.scaffolds.project import render_project, scaffold

GUARDIAN = kind_named("guardian")
FILES = {
    ".github/workflows/zoo.yml", ".gitignore", "NOTES.md", "README.md", "data/requests.jsonl",
    "data/train.jsonl", "io.schema.json", "io.yaml", "release.schema.json", "zoo.yaml",
}  # fmt: skip
GRANITE = (
    "{% for m in messages %}{{ '<|start_of_role|>' + m['role'] + '<|end_of_role|>' + m['content'] "
    "+ '<|end_of_text|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}"
)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def project(tiny_base: BaseModel, tmp_path: Path) -> Path:
    return scaffold("guard", GUARDIAN, tmp_path / "guard", base=str(tiny_base.folder)).folder


def test_the_whole_project_is_there_and_nothing_beside_it(project: Path) -> None:
    assert set(files(project)) == FILES
    assert [path.name for path in project.parent.iterdir()] == ["guard"]


def test_editors_find_the_schemas(project: Path) -> None:
    from jsonschema import Draft202012Validator

    for name, schema in (("io.yaml", "io.schema.json"), ("zoo.yaml", "release.schema.json")):
        first, *_ = (project / name).read_text().splitlines()
        assert first == f"# yaml-language-server: $schema={schema}"
        validator = Draft202012Validator(json.loads((project / schema).read_text()))
        validator.validate(yaml.safe_load((project / name).read_text()))
        assert not validator.is_valid({"instructions": "misspelt"})


def test_the_workflow_and_the_readme_say_the_same_command(project: Path) -> None:
    workflow = yaml.safe_load((project / ".github/workflows/zoo.yml").read_text())
    steps = workflow["jobs"]["contract"]["steps"]
    (command,) = [step["run"] for step in steps if "zoo train" in step.get("run", "")]
    lines = (project / "README.md").read_text().splitlines()
    tried, written = [line for line in lines if line.startswith("zoo train")]
    assert command.strip() == tried == f"{written} --dry-run"
    assert shlex.split(written)[:6] == ["zoo", "train", "data/requests.jsonl", "release", "--project", "."]
    assert all(
        "@" in step["uses"] and len(step["uses"].split("@")[1]) == 40 for step in steps if "uses" in step
    )


def test_an_existing_folder_is_never_written_into(project: Path, tiny_base: BaseModel) -> None:
    before = files(project)
    (project.parent / "hidden").mkdir()
    (project.parent / "hidden" / ".git").mkdir()
    (project.parent / "file").write_text("mine")
    for taken in ("guard", "hidden", "file"):
        with pytest.raises(UsageError) as refused:
            scaffold("guard", GUARDIAN, project.parent / taken, base=str(tiny_base.folder))
        assert refused.value.code == "ZO221"
    assert files(project) == before
    assert (project.parent / "file").read_text() == "mine"


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tiny_base: BaseModel, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    inode = (tmp_path / "here").stat().st_ino
    scaffold("guard", GUARDIAN, tmp_path / "here", base=str(tiny_base.folder))
    assert set(files(tmp_path / "here")) == FILES
    assert (tmp_path / "here").stat().st_ino == inode  # a shell that stands in it stays where it was
    assert not [path for path in (tmp_path / "here").iterdir() if "zoo-init" in path.name]


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_leaves_nothing(
    tmp_path: Path, tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    half = {Path("zoo.yaml"): "written", Path("io.yaml"): None}  # the second cannot be written
    monkeypatch.setattr("zoo.scaffolds.project._files", lambda *_: half)
    if there:
        (tmp_path / "guard").mkdir()
    with pytest.raises(TypeError):
        scaffold("guard", GUARDIAN, tmp_path / "guard", base=str(tiny_base.folder))
    assert [path.name for path in tmp_path.rglob("*")] == ["guard"] * there


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-x", "ü", "x" * 97])
def test_a_name_that_no_release_can_have(name: str, tmp_path: Path, tiny_base: BaseModel) -> None:
    with pytest.raises(SpecError) as refused:
        scaffold(name, GUARDIAN, tmp_path / "out", base=str(tiny_base.folder))
    assert refused.value.code == "ZM001"
    assert list(tmp_path.iterdir()) == []


def test_rendering_again_changes_nothing_until_something_changed(project: Path) -> None:
    before = (project / "data/train.jsonl").read_bytes()
    assert render_project(project) == 14
    assert (project / "data/train.jsonl").read_bytes() == before
    text = (project / "io.yaml").read_text()
    (project / "io.yaml").write_text(text.replace("Criterion:", "Rule:"))
    render_project(project)
    assert b"Rule: " in (project / "data/train.jsonl").read_bytes()


def test_what_cannot_be_rendered_leaves_the_old_file(project: Path, tmp_path: Path) -> None:
    before = (project / "data/train.jsonl").read_bytes()
    with (project / "data/requests.jsonl").open("a") as stream:
        stream.write('{"messages": [{"role": "user", "content": "x"}], "answer": {"score": "maybe"}}\n')
    with pytest.raises(SpecError, match="line 15"):
        render_project(project)
    assert (project / "data/train.jsonl").read_bytes() == before
    with pytest.raises(NotFoundError):
        render_project(tmp_path)


def test_a_project_is_compared_with_its_release(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "next")
    old, new = read_contract(project), read_contract(tmp_path / "next")
    assert old.inputs.arguments == {"criteria"}
    assert Comparison.of(old, new).verdict == "identical"
    text = (tmp_path / "next" / "io.yaml").read_text()
    (tmp_path / "next" / "io.yaml").write_text(text.replace("{criteria}", "{criterion}"))
    found = Comparison.of(old, read_contract(tmp_path / "next"))
    assert [(one.part, one.place) for one in found.changes if one.breaking] == [
        ("input", "criterion"),
        ("input", "criteria"),
    ]


# ---------------------------------------------------------------- bases


def other_base(folder: Path, template: str) -> Path:
    build_tiny_base(folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def test_the_invocation_is_spelt_as_the_base_spells_turns(tmp_path: Path) -> None:
    base = other_base(tmp_path / "base", GRANITE)
    made = scaffold("guard", GUARDIAN, tmp_path / "guard", base=str(base))
    assert made.text == "<|start_of_role|>guard<|end_of_role|>"
    assert made.invocation is not None
    assert f"--base {base}" in made.train
    spec = yaml.safe_load((made.folder / "zoo.yaml").read_text())
    assert spec["invocation"] == {"text": made.text}


def test_a_template_without_an_assistants_turn_is_refused(tmp_path: Path) -> None:
    base = other_base(tmp_path / "base", "{% for m in messages %}{{ m['content'] }}{% endfor %}")
    with pytest.raises(RefusedError) as refused:
        scaffold("guard", GUARDIAN, tmp_path / "guard", base=str(base))
    assert refused.value.code == "ZO222"


def test_an_invocation_that_also_stands_elsewhere_is_refused(tmp_path: Path, tiny_base: BaseModel) -> None:
    with pytest.raises(RefusedError, match="not once") as refused:
        scaffold("user", GUARDIAN, tmp_path / "guard", base=str(tiny_base.folder))  # <|im_start|>user
    assert refused.value.code == "ZO222"
    assert list(tmp_path.iterdir()) == []


def test_without_the_embedded_base_it_says_what_was_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoo.errors import BaseMissingError

    def missing(_: str) -> BaseModel:
        raise BaseMissingError("the package that carries the weights is not installed")

    monkeypatch.setattr("zoo.scaffolds.base.resolve", missing)
    made = scaffold("guard", GUARDIAN, tmp_path / "guard")
    assert made.invocation is None
    assert made.text == "<|im_start|>guard\n"
    assert "not tried: the package" in "\n".join(made.lines())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_base: BaseModel) -> Iterator[HubServer]:
    """A Hub with the tiny base, and the client of this process told to use it."""
    with HubServer() as server:
        connect(server, tmp_path / "home", monkeypatch)
        server.store.create("org/base")
        server.store.commit("org/base", {path.name: path.read_bytes() for path in tiny_base.folder.iterdir()})
        yield server


def test_of_a_base_on_the_hub_no_weights_are_downloaded(hub: HubServer, tmp_path: Path) -> None:
    made = scaffold("guard", GUARDIAN, tmp_path / "guard", base="org/base")
    spec = yaml.safe_load((made.folder / "zoo.yaml").read_text())
    assert spec["base"] == {"id": "org/base", "revision": hub.store.head("org/base")}
    assert made.invocation is not None
    assert not [one for one in hub.requests if "safetensors" in one.path]
    for missing in ("org/nobody", "org/base@v9", "org/base@dev", f"org/base@{'0' * 40}", "./gone", "gone"):
        with pytest.raises(NotFoundError):
            scaffold("guard", GUARDIAN, tmp_path / "other", base=missing)
    hub.faults.add(Fault(status=503, times=None))
    with pytest.raises(HubError):
        scaffold("guard", GUARDIAN, tmp_path / "other", base="org/base")
    assert not (tmp_path / "other").exists()
