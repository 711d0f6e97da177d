"""What the tests of packaging, types and style know about the project's own folders."""

import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def package_folders() -> dict[str, Path]:
    """The folder of each top-level package: `zoo.cards` lives in cards/."""
    mapping: dict[str, str] = project()["tool"]["setuptools"]["package-dir"]
    return {package: ROOT / folder for package, folder in mapping.items()}


def shipped_files() -> dict[str, Path]:
    """Every file of the packages, by the name it must have in the wheel."""
    found: dict[str, Path] = {}
    for package, folder in package_folders().items():
        prefix = package.replace(".", "/")
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found[f"{prefix}/{path.relative_to(folder).as_posix()}"] = path
    return found


def modules() -> Iterator[tuple[str, Path]]:
    """Every module's dotted name with its file."""
    for name, path in sorted(shipped_files().items()):
        if path.suffix == ".py":
            yield name.removesuffix(".py").removesuffix("/__init__").replace("/", "."), path


def copy_sources(target: Path) -> Path:
    """Copies what a build or a static tool reads into `target`, without what earlier builds left."""
    target.mkdir(parents=True, exist_ok=True)
    for folder in package_folders().values():
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(folder, target / folder.relative_to(ROOT), ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, target / name)
    return target
