"""Ready files for other people's CI: an action, workflows, hooks; shipped here, written on demand."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from zoo import __version__
from zoo.errors import UsageError
from zoo.staging import write_file

Kind = Literal["library", "hub", "hooks"]
KINDS: tuple[Kind, ...] = get_args(Kind)
HERE = Path(__file__).parent
# Where a file goes in a repository, and which of ours it is.
PLACES: Mapping[Kind, Mapping[str, str]] = {
    "library": {
        ".github/workflows/adapters.yml": "workflows/library.yml",
        ".github/actions/zoo-gate/action.yml": "action.yml",
    },
    "hub": {
        ".github/workflows/hub.yml": "workflows/hub.yml",
        ".github/zoo-hub.sh": "workflows/zoo-hub.sh",
    },
    "hooks": {".pre-commit-config.yaml": "workflows/hooks.yml"},
}
# Of an action's input, and of an environment: the version that wrote the files goes in.
_VERSIONS = ('          version: ""\n', '          ZOO_VERSION: ""\n')


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Files for one kind of repository.

    Attributes:
        kind: of repository.
        files: content by path from the repository's top.
    """

    kind: Kind
    files: Mapping[str, str]

    @classmethod
    def of(cls, kind: Kind) -> "Ready":
        """Reads them, with this version of zoo written in."""
        files = {place: (HERE / name).read_text(encoding="utf-8") for place, name in PLACES[kind].items()}
        return cls(kind=kind, files={place: _versioned(text) for place, text in files.items()})

    def write(self, folder: Path) -> list[Path]:
        """Writes them below a repository's top.

        Raises:
            UsageError: there is no such folder, or one of the files is there with another content; nothing is
                written then.
        """
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder", hint="give the top of the repository")
        other = [
            place
            for place, text in self.files.items()
            if (folder / place).exists() and (folder / place).read_bytes() != text.encode()
        ]
        if other:
            raise UsageError(
                f"{', '.join(other)} is there already, and differs",
                hint="put it aside, write ours, and bring over what you had changed",
            )
        written = []
        for place, text in self.files.items():
            path = folder / place
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, text.encode())
            written.append(path)
        return written


def _versioned(text: str) -> str:
    for line in _VERSIONS:
        text = text.replace(line, line.replace('""', f'"{__version__}"'))
    return text
