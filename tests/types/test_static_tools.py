"""mypy and import-linter look at a link tree; here they must find what is planted in a copy of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.source_tree import ROOT, copy_sources, package_folders
from tests.types.link_tree import make_link_tree

BIN = Path(sys.executable).parent

PLANTED = '''"""Planted."""


def answer() -> int:
    """Returns what it should not."""
    return "text"
'''
USER = '''"""Uses the planted module."""

from zoo.cards.planted import answer

print(answer() + "text")
'''


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    return copy_sources(tmp_path / "copy")


def mypy(root: Path, *files: str) -> subprocess.CompletedProcess[str]:
    """Without what the packages' front doors import, which would lead mypy through all of torch."""
    for init in ("zoo/__init__.py", "cards/__init__.py"):
        (root / init).write_text("")
    make_link_tree(root)
    return subprocess.run([BIN / "mypy", *files], cwd=root, capture_output=True, text=True, timeout=300)


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    tree = make_link_tree(root)
    command = [str(BIN / "lint-imports"), "--no-cache", "--config", str(root / "pyproject.toml")]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=120)


def test_the_link_tree_has_every_package_below_zoo(sources: Path) -> None:
    tree = make_link_tree(sources)
    for package, folder in package_folders().items():
        assert tree.joinpath(*package.split(".")).resolve() == (
            tree / "zoo" if package == "zoo" else sources / folder.relative_to(ROOT)
        )
    assert (tree / "zoo" / "cards" / "__init__.py").is_file()


def test_a_module_that_is_gone_is_gone_from_the_link_tree(sources: Path) -> None:
    (sources / "zoo" / "gone.py").touch()
    assert (make_link_tree(sources) / "zoo" / "gone.py").exists()
    (sources / "zoo" / "gone.py").unlink()
    assert not (make_link_tree(sources) / "zoo" / "gone.py").is_symlink()


def test_mypy_finds_an_error_planted_in_cards_and_in_its_user(sources: Path) -> None:
    (sources / "cards" / "planted.py").write_text(PLANTED)
    (sources / "user.py").write_text(USER)
    done = mypy(sources, "build/types/zoo/cards/planted.py", "user.py")
    assert "build/types/zoo/cards/planted.py:6: error: Incompatible return value type" in done.stdout
    assert "user.py:5: error: Unsupported operand types" in done.stdout
    assert done.returncode == 1


def test_mypy_is_content_once_the_planted_errors_are_put_right(sources: Path) -> None:
    (sources / "cards" / "planted.py").write_text(PLANTED.replace('"text"', "42"))
    (sources / "user.py").write_text(USER.replace('"text"', "1"))
    done = mypy(sources, "build/types/zoo/cards/planted.py", "user.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_import_contracts_hold_and_see_an_upward_import(sources: Path) -> None:
    whole = lint_imports(sources)
    assert whole.returncode == 0, whole.stdout
    (sources / "converters" / "planted.py").write_text(
        '"""Planted."""\n\nfrom zoo.cli import main\n\nmain()\n'
    )
    done = lint_imports(sources)
    assert done.returncode == 1
    assert "zoo.converters.planted -> zoo.cli" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("zoo/report.py", "import torch", "needs no torch"),
        ("cards/planted.py", "import huggingface_hub", "Only zoo.hub"),
    ],
)
def test_the_import_contracts_see_a_forbidden_package(
    sources: Path, module: str, line: str, contract: str
) -> None:
    with (sources / module).open("a") as file:
        file.write(f"\n\ndef planted() -> None:\n    {line}\n")
    done = lint_imports(sources)
    assert done.returncode == 1
    broken = done.stdout.partition("Broken contracts")[2]
    assert contract in broken
