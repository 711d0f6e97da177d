"""A new adapter project on disk, made whole or not at all; and its training data made anew."""

import json
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.adapter import IO_NAME, NOTES_NAME, RELEASE_NAME
from zoo.embedded import INSTALL
from zoo.errors import NotFoundError, UsageError
from zoo.prompts import Invocation
from zoo.scaffolds.base import ProjectBase, project_base
from zoo.scaffolds.invocation import check_invocation, invocation_text
from zoo.scaffolds.kinds import Kind
from zoo.scaffolds.requests import Example, read_requests, rendered, training_text
from zoo.specs.document import check
from zoo.specs.io_file import EDITOR_LINE, read_io
from zoo.specs.published import schema_text
from zoo.specs.release import InvocationSpec, ReleaseSpec, dump_release
from zoo.staging import staged_folder, write_file

REQUESTS = Path("data") / "requests.jsonl"
TRAINING = Path("data") / "train.jsonl"
TEMPLATES = Path(__file__).parent / "templates"
SHOWN = 3  # sample requests in zoo.yaml; the whole data is beside it
STAGE = ".zoo-init"
IGNORED = "release/\n.release.training/\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A project that was made.

    Attributes:
        folder: where it is.
        kind: of intrinsic.
        samples: in its data.
        base: its base model's id.
        text: the invocation.
        invocation: as token ids, found in every prompt; None when there was no tokenizer to try it with.
        missing: why.
        train: the command that trains it.
    """

    folder: Path
    kind: Kind
    samples: int
    base: str
    text: str
    invocation: Invocation | None
    missing: str
    train: str

    def document(self) -> dict[str, Any]:
        """The same as plain data."""
        ids = list(self.invocation.ids) if self.invocation else None
        return {
            "format": 1,
            "folder": str(self.folder),
            "kind": self.kind.name,
            "base": self.base,
            "invocation": {"text": self.text, "ids": ids},
            "not_tried": self.missing or None,
            "samples": self.samples,
            "train": self.train,
        }

    def lines(self, *, written: bool = True) -> list[str]:
        """What was made, checked and not checked, a line a fact.

        Args:
            written: it is there; else it only would be.
        """
        if self.invocation is not None:
            placed = f" = {list(self.invocation.ids)}, once at the end of all {self.samples} prompts"
        else:
            placed = f"; not tried: {self.missing}"
        return [
            f"{'written      ' if written else 'would write  '}{self.folder} ({self.kind.name})",
            f"base         {self.base}",
            f"invocation   {self.text!r}{placed}",
            f"data         {self.samples} requests in {REQUESTS}; what a trainer reads of them: {TRAINING}",
            "checked      io.yaml and zoo.yaml load; every answer is what the schema allows",
            "not checked  all that needs weights: train, then zoo validate release",
            f"next         cd {shlex.quote(str(self.folder))} && {self.train}",
        ]


def scaffold(name: str, kind: Kind, target: Path, *, base: str = "", dry_run: bool = False) -> Project:
    """Makes a project.

    Args:
        name: of the intrinsic; it becomes the invocation's.
        kind: what it is to be.
        target: its folder; missing or empty.
        base: base model, see `project_base`.
        dry_run: tries all of it, and writes nothing.

    Raises:
        UsageError: ZO221, `target` is not empty; ZM001, a name that `zoo.yaml` does not take.
        RefusedError: ZO222, no invocation for this base.
        ZooError: the base is not there, see `project_base`.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(
            f"{target} is there already, and not empty", hint="name another folder with --out", code="ZO221"
        )
    with tempfile.TemporaryDirectory(prefix="zoo-init-") as scratch:
        found = project_base(base, Path(scratch))
        text = invocation_text(name, found.prompter)
        release = _release(name, kind, found, text, read_requests(kind.requests_path))
        rows = rendered(
            read_io(kind.io_path), read_requests(kind.requests_path), name=kind.requests_path.name
        )
        prompts = [row["messages"] for row in rows]
        invocation = check_invocation(text, prompts, found.prompter) if found.prompter else None
    option = f" --base {shlex.quote(found.option)}" if found.option else ""
    train = f"zoo train {REQUESTS} release --project .{option}"
    files = _files(kind, release, rows, {"train": train, "check": f"zoo validate . --static{option}"})
    if not dry_run:
        _write(target, files)
    return Project(
        folder=target,
        kind=kind,
        samples=len(rows),
        base=release.base.id,
        text=text,
        invocation=invocation,
        missing=found.missing,
        train=train,
    )


def render_project(folder: Path, *, dry_run: bool = False) -> int:
    """Makes a project's training data anew from its requests, through its `io.yaml`.

    Args:
        folder: the project.
        dry_run: write nothing.

    Returns:
        How many samples it has.

    Raises:
        NotFoundError: it is no project.
        SpecError: ZO223, or `io.yaml` breaks its specification; the old file stays.
        RefusedError: ZO224, documents would be left out.
    """
    for path in (Path(IO_NAME), REQUESTS):
        if not (folder / path).is_file():
            raise NotFoundError(
                f"{folder} is no project: it has no {path}", hint="make one with zoo init NAME --kind KIND"
            )
    rows = rendered(read_io(folder / IO_NAME), read_requests(folder / REQUESTS), name=str(REQUESTS))
    if not dry_run:
        write_file(folder / TRAINING, training_text(rows).encode())
    return len(rows)


def _write(target: Path, files: Mapping[Path, str]) -> None:
    """Writes the files, all of them or none.

    A new folder is renamed into place. An empty one is filled from a folder inside it: somebody's shell may
    stand in it, and must not be left in one that is gone.
    """
    inside = target.is_dir()
    with staged_folder(target / STAGE if inside else target) as stage:
        for path, content in files.items():
            (stage / path).parent.mkdir(parents=True, exist_ok=True)
            (stage / path).write_text(content, encoding="utf-8")
    if inside:
        for entry in (target / STAGE).iterdir():
            entry.rename(target / entry.name)
        (target / STAGE).rmdir()


def _release(name: str, kind: Kind, base: ProjectBase, text: str, examples: list[Example]) -> ReleaseSpec:
    shown = _shown(examples)
    content = {
        "name": name,
        "base": base.reference.model_dump(),
        "invocation": InvocationSpec(text=text).model_dump(),
        "description": kind.does,
        "training_data": ["to be written: where the data is from"],
        "requests": [example.request.model_dump(exclude_defaults=True) for example in shown],
    }
    return check(content, ReleaseSpec, name=RELEASE_NAME, code="ZM001")


def _shown(examples: list[Example]) -> list[Example]:
    """A few that differ in their answers."""
    by_answer = {json.dumps(example.answer): example for example in reversed(examples)}
    return list(reversed(by_answer.values()))[:SHOWN]


def _files(
    kind: Kind, release: ReleaseSpec, rows: list[dict[str, Any]], commands: Mapping[str, str]
) -> Mapping[Path, str]:
    variables = {
        "name": release.name,
        "kind": kind,
        "base_id": release.base.id,
        "invocation": release.invocation.text.replace("\n", "\\n"),
        "embedded": bool(release.base.embedded),
        "install": INSTALL,
        **commands,
    }
    return {
        Path(RELEASE_NAME): f"{EDITOR_LINE}release.schema.json\n{dump_release(release)}",
        Path(IO_NAME): f"{EDITOR_LINE}io.schema.json\n{kind.io_path.read_text(encoding='utf-8')}",
        Path("release.schema.json"): schema_text("release"),
        Path("io.schema.json"): schema_text("io"),
        REQUESTS: kind.requests_path.read_text(encoding="utf-8"),
        TRAINING: training_text(rows),
        Path("README.md"): _filled("README.md.j2", variables),
        Path(NOTES_NAME): _filled("NOTES.md.j2", variables),
        Path(".github/workflows/zoo.yml"): _filled("zoo.yml.j2", variables),
        Path(".gitignore"): IGNORED,
    }


def _filled(template: str, variables: Mapping[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Text files for people and for git; nothing of them is HTML.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template(template).render(variables)
