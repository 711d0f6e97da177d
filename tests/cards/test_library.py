import json
from pathlib import Path

import pytest

from tests.releases import failed, record_evidence, report_on, write_release
from zoo.cards.library import render_library
from zoo.cli import run as run_zoo
from zoo.errors import NotFoundError
from zoo.specs.release import InvocationSpec


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Four adapters: checked, failed, changed since it was checked, and broken."""
    root = tmp_path / "lib"
    for name in ("a_alora", "b_alora", "c_alora", "d_alora"):
        folder = write_release(root / name)
        record_evidence(
            folder, report_on(folder, failed("ZB001")) if name == "b_alora" else report_on(folder)
        )
    (root / "c_alora" / "NOTES.md").write_text("newer than the evidence")
    (root / "d_alora" / "zoo.yaml").write_text("name: [")
    return root


def rows(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line.startswith("| [")]
    return {line.split("](")[1].split(")")[0]: line for line in lines}


def test_every_adapter_has_a_row_that_says_how_it_stands(library: Path) -> None:
    found = rows(render_library(library))
    assert list(found) == ["a_alora", "b_alora", "c_alora", "d_alora"]
    assert "| passed |" in found["a_alora"]
    assert "**failed**" in found["b_alora"]
    assert "**not recorded**" in found["c_alora"]
    assert "**unreadable**" in found["d_alora"]
    assert "passed" not in found["b_alora"] + found["c_alora"] + found["d_alora"]


def test_a_measured_accuracy_is_shown_with_its_n_and_no_other(library: Path) -> None:
    path = library / "a_alora" / "zoo.lock.json"
    lock = json.loads(path.read_text())
    lock["behaviour"] = {"status": "unverified", "samples": 0, "agreement": {}, "accuracy": {}}
    path.write_text(json.dumps(lock))
    assert "|  |  | passed" in rows(render_library(library))["a_alora"]
    lock["behaviour"] |= {"status": "measured", "samples": 1234, "accuracy": {"base": 0.1, "trained": 0.875}}
    path.write_text(json.dumps(lock))
    assert "| 0.875 | 1,234 |" in rows(render_library(library))["a_alora"]


def test_a_pipe_ends_no_cell_and_invented_figures_are_no_accuracy(library: Path) -> None:
    folder = write_release(library / "e_alora", invocation=InvocationSpec(text="<|start|>x"))
    row = rows(render_library(library))["e_alora"]
    assert r"`<\|start\|>x`" in row
    assert row.replace(r"\|", "").count("|") == 9
    path = folder / "zoo.lock.json"
    lock = json.loads(path.read_text())
    lock["training"]["settings"]["invented"] = {"sha256": lock["behaviour"]["data_sha256"]}
    path.write_text(json.dumps(lock))
    assert "|  |  |" in rows(render_library(library))["e_alora"]


def test_a_folder_without_adapters_has_no_page(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        render_library(tmp_path)


def test_check_fails_on_drift_and_only_then(library: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, more in ((library / "a_alora", []), (library, ["--library"])):
        assert run_zoo(["card", str(path), "--check", *more]) == 1  # there is none yet
        assert run_zoo(["card", str(path), "--write", *more]) == 0
        assert run_zoo(["card", str(path), "--check", *more]) == 0
        card = path / "README.md"
        card.write_text(card.read_text() + "Trust me.\n")
        capsys.readouterr()
        assert run_zoo(["card", str(path), "--check", *more]) == 1
        assert "-Trust me." in capsys.readouterr().err
        assert run_zoo(["card", str(path), "--check", "--write", *more]) == 2
        assert card.read_text().endswith("Trust me.\n")
