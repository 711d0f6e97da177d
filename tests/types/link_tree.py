"""Makes build/types/zoo: symlinks in the shape that the installed package has.

Static tools know nothing of setuptools' package-dir map, so mypy and import-linter look at this tree, in
which the folder cards/ is `zoo.cards`. Run it in the project's root, or give the root as the argument.
"""

import shutil
import sys
import tomllib
from pathlib import Path


def make_link_tree(root: Path) -> Path:
    """Links every top-level package of `root/pyproject.toml` into a new root/build/types."""
    tree = root / "build" / "types"
    shutil.rmtree(tree, ignore_errors=True)
    folders = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
    for package, folder in sorted(folders.items()):
        target = tree.joinpath(*package.split("."))
        if package == "zoo":
            target.mkdir(parents=True)
            for entry in (root / folder).iterdir():
                (target / entry.name).symlink_to(entry.resolve())
        else:
            target.symlink_to((root / folder).resolve())
    return tree


if __name__ == "__main__":
    make_link_tree(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
