"""The base of a new project: what names it in `zoo.yaml`, and its template and tokenizer, but no weights."""

from dataclasses import dataclass
from pathlib import Path

from zoo import embedded, hub
from zoo.errors import BaseMissingError, MissingExtraError, NotFoundError
from zoo.hub.address import commit_of
from zoo.models import DEFAULT, BaseModel, resolve
from zoo.prompts import Prompter
from zoo.specs.release import BaseRef

NEEDED = ("config.json", "tokenizer.json", "tokenizer_config.json")
OPTIONAL = ("chat_template.jinja",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectBase:
    """A project's base.

    Attributes:
        reference: for `zoo.yaml`.
        option: what to give to `--base`; empty when it is the default.
        prompter: None where the embedded base is not installed.
        missing: why there is no prompter.
    """

    reference: BaseRef
    option: str
    prompter: Prompter | None
    missing: str = ""


def project_base(spec: str, scratch: Path) -> ProjectBase:
    """Finds a base without its weights.

    Args:
        spec: `org/name[@revision]` on the Hub, a folder, or the embedded base's name; empty for the default.
        scratch: an empty folder, for the downloads; it must outlast what is returned.

    Raises:
        NotFoundError: nothing of that name, or no such revision.
        BaseMissingError: it has no tokenizer.
        HubError: ZH007 no access, ZH008 no answer.
    """
    if spec in ("", DEFAULT):
        reference = BaseRef(id=embedded.HUB_ID, embedded=DEFAULT)
        try:
            return ProjectBase(reference=reference, option="", prompter=Prompter(resolve(DEFAULT)))
        except (BaseMissingError, MissingExtraError) as error:
            return ProjectBase(reference=reference, option="", prompter=None, missing=error.message)
    if Path(spec).expanduser().is_dir() or spec.count("/") != 1 or spec.startswith((".", "/", "~")):
        base = resolve(spec)
        return ProjectBase(reference=base.reference(), option=spec, prompter=Prompter(base))
    base = _downloaded(*spec.split("@", 1), scratch=scratch)
    option = f"{base.id}@{base.revision}"
    return ProjectBase(reference=base.reference(), option=option, prompter=Prompter(base))


def _downloaded(name: str, revision: str = "", *, scratch: Path) -> BaseModel:
    remote = hub.read_remote(name)
    if not remote.exists:
        raise NotFoundError(f"the Hub has no model {name}", hint="check the name, and your access to it")
    commit = commit_of(remote, name, revision)
    folder = scratch / "base"
    folder.mkdir(parents=True)
    for path in (*NEEDED, *OPTIONAL):
        content = hub.read_file(name, path, commit, scratch / "download")
        if content is not None:
            (folder / path).write_bytes(content)
        elif path in NEEDED:
            raise BaseMissingError(f"the base model {name} has no {path}", hint="name another --base")
    return BaseModel(id=name, revision=commit, folder=folder)
