import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

import zoo
from tests.source_tree import ROOT, copy_sources, package_folders, project, shipped_files
from zoo.cli import COMMANDS
from zoo.validators.catalog import ALL_CHECKS

# What `zoo --help`, `zoo explain` and `zoo validate --help` load. Torch and transformers are not among them.
LIGHT_DEPENDENCIES = ("typer", "pydantic", "PyYAML", "rich", "filelock", "numpy", "safetensors")


def run(command: Sequence[str | Path], cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def listed_packages() -> set[str]:
    listed: list[str] = project()["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed)), "a package is listed twice"
    return set(listed)


def packages_in_tree(folders: dict[str, Path]) -> set[str]:
    found = set()
    for package, folder in folders.items():
        for init in folder.rglob("__init__.py"):
            below = init.parent.relative_to(folder).parts
            found.add(".".join((package, *below)))
    return found


def modules_without_package(folders: dict[str, Path]) -> set[str]:
    return {
        str(path)
        for folder in folders.values()
        for path in folder.rglob("*.py")
        if not (path.parent / "__init__.py").exists()
    }


def test_the_packages_list_is_the_tree() -> None:
    found = packages_in_tree(package_folders())
    missing, stale = sorted(found - listed_packages()), sorted(listed_packages() - found)
    assert not missing, f"add to [tool.setuptools] packages, or the wheel lacks them: {missing}"
    assert not stale, f"in [tool.setuptools] packages, but not in the tree: {stale}"
    assert not modules_without_package(package_folders()), "a folder with modules has no __init__.py"


def test_a_package_that_is_not_listed_is_named(tmp_path: Path) -> None:
    (tmp_path / "cards" / "new").mkdir(parents=True)
    (tmp_path / "cards" / "new" / "__init__.py").touch()
    assert packages_in_tree({"zoo.cards": tmp_path / "cards"}) - listed_packages() == {"zoo.cards.new"}


def test_every_top_level_package_is_mapped_to_its_folder() -> None:
    top = {name for name in listed_packages() if name.count(".") <= 1}
    beside = {name for name in top if not (ROOT / "zoo" / name.partition(".")[2]).is_dir()}
    assert beside == set(package_folders()) - {"zoo"}


def test_direct_dependencies_are_pinned() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    config = project()
    wanted = list(config["project"]["dependencies"])
    wanted += [line for extra in config["project"]["optional-dependencies"].values() for line in extra]
    wanted += config["dependency-groups"]["dev"]
    pins: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            pins[canonicalize_name(name)] = version
    for requirement in map(Requirement, wanted):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin, f"constraints.txt does not pin {requirement.name}"
        assert requirement.specifier.contains(pin), f"{requirement} excludes the tested {pin}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since setuptools leaves a build/ behind from which deleted files come back."""
    source = copy_sources(tmp_path_factory.mktemp("source"))
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist"], source)
    (path,) = (source / "dist").glob("*.whl")
    return path


def test_the_wheel_holds_the_whole_tree_and_no_top_level_validators(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in names} == {"zoo", f"alora_zoo-{zoo.__version__}.dist-info"}
    missing = sorted(shipped_files().keys() - names)
    assert not missing, f"in the tree but not in the wheel; see [tool.setuptools.package-data]: {missing}"
    extra = sorted(name for name in names - shipped_files().keys() if name.startswith("zoo/"))
    assert not extra, f"in the wheel but not in the tree: {extra}"


def test_the_version_has_one_source(wheel: Path) -> None:
    assert wheel.name.startswith(f"alora_zoo-{zoo.__version__}-")
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"] == ["version"]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheel, PyPI's `validators`, and no torch."""
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder / "env", with_pip=True)
    install = [str(folder / "env" / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    constrained = [*install, "--constraint", str(ROOT / "constraints.txt")]
    run([*constrained, "validators", *LIGHT_DEPENDENCIES], folder)
    run([*install, "--no-deps", wheel], folder)
    return folder / "env"


def test_pypi_validators_and_zoo_validators_work_side_by_side(installed: Path, tmp_path: Path) -> None:
    program = """
import validators, zoo, zoo.cards, zoo.ci, zoo.converters, zoo.validators
assert validators.url("https://example.org/")
assert not validators.url("no url")
assert zoo.validators is not validators
for module in (validators, zoo, zoo.cards, zoo.ci, zoo.converters, zoo.validators):
    assert "site-packages" in module.__file__, module.__file__
print(zoo.__version__, validators.__version__)
"""
    out = run([installed / "bin" / "python", "-c", program], tmp_path)
    assert out.split() == [zoo.__version__, "0.36.0"]


@pytest.mark.parametrize("script", ["zoo", "hf-zoo"])
def test_both_console_scripts_start_without_torch(installed: Path, tmp_path: Path, script: str) -> None:
    helptext = run([installed / "bin" / script, "--help"], tmp_path)
    for command in COMMANDS:
        assert command.__name__ in helptext


def test_explain_finds_its_pages_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    for check in (ALL_CHECKS[0], ALL_CHECKS[-1]):
        assert check.code in run([installed / "bin" / "zoo", "explain", check.code], tmp_path)


def test_the_installed_package_is_typed(installed: Path, tmp_path: Path) -> None:
    program = "import importlib.resources as r; assert (r.files('zoo') / 'py.typed').is_file()"
    run([installed / "bin" / "python", "-c", program], tmp_path)
