"""The four folder layouts in which libraries of adapters are published, and finding one adapter in them.

flat                               adapter_config.json in the folder itself
<intrinsic>/<base>/<lora|alora>    granitelib
<intrinsic>/<lora|alora>/<base>    rag-intrinsics-lib
<name>_lora/                       one folder per adapter, suffix `_lora` or `_alora`
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import NotFoundError, UsageError

CONFIG_NAME = "adapter_config.json"
MAX_DEPTH = 4
MAX_FOLDERS = 10_000
TECHNOLOGIES = ("lora", "alora")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One adapter's place in a library.

    Attributes:
        folder: the folder that holds `adapter_config.json`.
        intrinsic: the intrinsic's name, from the layout; the folder's own name in a flat one.
        base: the base model's short name where the layout has it, else empty.
        technology: `lora` or `alora` where the layout has it, else empty.
    """

    folder: Path
    intrinsic: str
    base: str = ""
    technology: str = ""


def placements(root: Path) -> list[Placement]:
    """Every adapter at or below a folder, in path order.

    Raises:
        NotFoundError: `root` is not a folder.
        UsageError: more than 10,000 folders lie below it.
    """
    if not root.is_dir():
        raise NotFoundError(f"{root} is not a folder", hint="give the folder that holds adapter_config.json")
    if (root / CONFIG_NAME).is_file():
        return [place(root, root)]
    return [place(folder, root) for folder in sorted(_folders(root)) if (folder / CONFIG_NAME).is_file()]


def find_adapter(path: Path) -> Placement:
    """The one adapter at or below a path.

    Args:
        path: an adapter folder, or a folder in a library layout that holds exactly one adapter.

    Raises:
        NotFoundError: no such folder, or no adapter in it.
        UsageError: there are several; the message lists them.
    """
    if not path.exists():
        raise NotFoundError(f"{path} does not exist", hint="check the path")
    found = placements(path)
    if not found:
        raise NotFoundError(
            f"{path} is not an adapter: no {CONFIG_NAME} in it, nor in any folder of a known layout below",
            hint="give the folder that PEFT's save_pretrained wrote; a project: zoo validate --static",
        )
    if len(found) > 1:
        listed = ", ".join(str(place.folder.relative_to(path)) for place in found[:6])
        raise UsageError(
            f"{path} holds {len(found)} adapters: {listed}{', …' if len(found) > 6 else ''}",
            hint=f"name one of them, for example {found[0].folder}",
        )
    return found[0]


def place(folder: Path, root: Path) -> Placement:
    """Reads intrinsic, base and technology off an adapter folder's path within its library.

    Args:
        folder: holds `adapter_config.json`.
        root: the library; parts above it say nothing, unless the folder is the root itself, whose own
            parents are then read.
    """
    parts = folder.resolve().parts[-3:] if folder == root else folder.relative_to(root).parts[-3:]
    match parts:
        case (intrinsic, base, technology) if technology in TECHNOLOGIES:
            return Placement(folder=folder, intrinsic=intrinsic, base=base, technology=technology)
        case (intrinsic, technology, base) if technology in TECHNOLOGIES:
            return Placement(folder=folder, intrinsic=intrinsic, base=base, technology=technology)
    name = parts[-1] if parts else folder.name
    for technology in reversed(TECHNOLOGIES):  # `_alora` also ends in `lora`
        if name.endswith(f"_{technology}"):
            intrinsic = name.removesuffix(f"_{technology}")
            return Placement(folder=folder, intrinsic=intrinsic, technology=technology)
    return Placement(folder=folder, intrinsic=name)


def _folders(root: Path) -> Iterator[Path]:
    seen = 0
    pending = [(root, 0)]
    while pending:
        folder, depth = pending.pop()
        with os.scandir(folder) as entries:
            children = [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False) and e.name[0] != "."]
        seen += len(children)
        if seen > MAX_FOLDERS:
            raise UsageError(
                f"{root} holds more than {MAX_FOLDERS:,} folders", hint="name one adapter folder"
            )
        yield from children
        if depth + 1 < MAX_DEPTH:
            pending.extend((child, depth + 1) for child in children)
