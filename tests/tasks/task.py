"""A real task as an intrinsic's project: what `zoo init` makes, with real requests and held-out ones beside.

Run: python -m tests.tasks.task NAME OUT [--base BASE]   writes a project, and prints what trains it
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.tasks import rows
from tests.tasks.texts import Row, Split
from zoo.adapter import IO_NAME, RELEASE_NAME
from zoo.scaffolds.kinds import FOLDER, Kind
from zoo.scaffolds.project import scaffold
from zoo.scaffolds.requests import read_requests, rendered, training_text
from zoo.specs.document import read_yaml
from zoo.specs.io_file import EDITOR_LINE, read_io
from zoo.specs.release import ReleaseSpec, dump_release

CONTRACTS = Path(__file__).parent / "contracts"
EVALS = "evals 3.0.1.post1 (PyPI)"
ARTICLES = f"{EVALS}, schelling_point: beginnings of web articles, openwebtext"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task.

    Attributes:
        name: of the intrinsic.
        does: what it says, in one sentence.
        wants: what the conversation must be.
        source: where the text is from.
        license: under which licence, in words.
        contract: its io.yaml.
        question: what the base model is asked in words, in the place of an invocation.
        rows: makes the data.
        closed: whether the answers are a closed set.
        steps: of a training.
    """

    name: str
    does: str
    wants: str
    source: str
    license: str
    contract: Path
    question: str
    rows: Callable[[], Split]
    closed: bool = True
    steps: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _RealKind(Kind):
    """A kind whose contract and data are a task's."""

    contract: Path
    requests: Path

    @property
    def io_path(self) -> Path:
        return self.contract

    @property
    def requests_path(self) -> Path:
        return self.requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A task's project on disk.

    Attributes:
        task: of which.
        folder: with `io.yaml`, `zoo.yaml` and `data`.
        invocation: its text.
        base: what `--base` takes.
    """

    task: Task
    folder: Path
    invocation: str
    base: str

    @property
    def train(self) -> Path:
        """Requests to train on."""
        return self.folder / "data" / "requests.jsonl"

    @property
    def held_out(self) -> Path:
        """Requests that are only measured on."""
        return self.folder / "data" / "held_out.jsonl"

    @property
    def asked(self) -> Path:
        """The held-out requests as prompts, the question asked in words."""
        return self.folder / "data" / "asked.jsonl"


def write_project(task: Task, folder: Path, *, base: str = "", sizes: tuple[int, int] = (0, 0)) -> Project:
    """Writes a task's project; the folder must be missing or empty.

    Args:
        task: which.
        folder: where.
        base: see `zoo init --base`.
        sizes: rows to train on and rows held out, at most, in whole groups; 0 is all.
    """
    parts = [_first(part, size) for part, size in zip(task.rows(), sizes, strict=True)]
    folder.parent.mkdir(parents=True, exist_ok=True)
    files = [folder.parent / f".{folder.name}-{part}.jsonl" for part in ("train", "held-out")]
    for path, part in zip(files, parts, strict=True):
        path.write_text(training_text(part), encoding="utf-8")
    kind = _RealKind(
        name=task.name.replace("-", "_"),
        does=task.does,
        wants=task.wants,
        data=f"Real text: {task.source}. Licence: {task.license}.",
        contract=task.contract,
        requests=files[0],
    )
    made = scaffold(task.name, kind, folder, base=base)
    held_out = rendered(read_io(task.contract), read_requests(files[1]), name="held-out requests")
    project = Project(task=task, folder=folder, invocation=made.text, base=base)
    for row in held_out:
        _ask(row["messages"], task.question)
    project.asked.write_text(training_text(held_out), encoding="utf-8")
    files[0].unlink()
    files[1].rename(project.held_out)
    _name_source(project)
    return project


def _ask(messages: list[dict[str, str]], question: str) -> None:
    """Adds a question in words: to the user's last message when it is the last, else as one of its own."""
    if messages[-1]["role"] == "user":
        messages[-1]["content"] += f"\n\n{question}"
    else:
        messages.append({"role": "user", "content": question})


def _first(part: Sequence[Row], size: int) -> list[Row]:
    """The first rows, so many or a few more: a group is not cut."""
    groups: dict[str, list[Row]] = {}
    for row in part:
        groups.setdefault(row["group"], []).append(row)
    kept: list[Row] = []
    for group in groups.values():
        if size and len(kept) >= size:
            break
        kept += group
    return kept


def _name_source(project: Project) -> None:
    """Says in `zoo.yaml` where the data is from, which `zoo init` cannot know."""
    path = project.folder / RELEASE_NAME
    spec = read_yaml(path, ReleaseSpec, code="ZM001")
    said = f"{project.task.source}; {project.task.license}"
    text = dump_release(spec.model_copy(update={"training_data": [said]}))
    path.write_text(f"{EDITOR_LINE}release.schema.json\n{text}", encoding="utf-8")


TASKS = (
    Task(
        name="context-relevance",
        does="Says whether a document is the one that the user's question was asked about.",
        wants="A conversation that ends with the user's question, and one document.",
        source=f"{EVALS}, unsolvable_questions: encyclopaedia passages with questions asked about them",
        license="not stated by the package; passages in the style of SQuAD 2.0 (CC BY-SA 4.0)",
        contract=CONTRACTS / "relevance.yaml",
        question='Is the document relevant to my question? Answer "relevant" or "irrelevant".',
        rows=rows.relevance,
        steps=200,
    ),
    Task(
        name="satire",
        does="Says whether a headline is satire or news.",
        wants="A conversation whose last message is a headline.",
        source=f"{EVALS}, sarcasm: headlines of a satirical paper and of a news site",
        license="not stated by the package",
        contract=CONTRACTS / "satire.yaml",
        question='Is this headline satire or news? Answer "satire" or "news".',
        rows=rows.satire,
        steps=300,
    ),
    Task(
        name="register",
        does="Says whether a text is written like an encyclopaedia's article or like a web page.",
        wants="A conversation whose last message is the text.",
        source=f"{EVALS}, schelling_point: beginnings of articles, wikipedia and openwebtext",
        license="CC BY-SA 3.0 (wikipedia) and CC0 (openwebtext), as the package says",
        contract=CONTRACTS / "register.yaml",
        question='Is this text from an encyclopaedia or from a web page? Answer "encyclopaedia" or "web".',
        rows=rows.register,
        steps=200,
    ),
    Task(
        name="requirement-check",
        does="Says how likely the assistant's last reply meets a requirement.",
        wants="A conversation that ends with the assistant's reply, and the argument `requirement`.",
        source=f"{ARTICLES}; the labels are computed",
        license="CC0, as the package says",
        contract=FOLDER / "requirement_check" / IO_NAME,
        question='Answer {"score": "yes"} or {"score": "no"}.',
        rows=rows.requirements,
        steps=600,
    ),
    Task(
        name="proofreading",
        does="Finds the misspelt word of the user's last message, and says how it is written.",
        wants="A conversation that ends with the user's text, in which one word is misspelt.",
        source=f"{ARTICLES}; one word misspelt by a rule",
        license="CC0, as the package says",
        contract=CONTRACTS / "proofreading.yaml",
        question="Which word of this text is misspelt, and how is it written? Answer in JSON: "
        '{"wrong": "recieve", "right": "receive"}',
        rows=rows.misspellings,
        closed=False,
        steps=300,
    ),
)


def task_named(name: str) -> Task:
    """The task of a name."""
    return {task.name: task for task in TASKS}[name]


def main() -> None:
    """Writes one project and prints what trains it."""
    parser = argparse.ArgumentParser(description="Write a real task as a project.")
    parser.add_argument("name", choices=[task.name for task in TASKS])
    parser.add_argument("out", type=Path)
    parser.add_argument("--base", default="", help="org/name@revision or a folder; the embedded base if not")
    options = parser.parse_args()
    project = write_project(task_named(options.name), options.out, base=options.base)
    base = f" --base {options.base}" if options.base else ""
    print(
        f"zoo train {project.train} {project.folder}/release --project {project.folder}"
        f" --eval-data {project.held_out}{base}"
    )


if __name__ == "__main__":
    main()
