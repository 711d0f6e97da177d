"""What GitHub Actions is told of each adapter, as it takes it."""

from pathlib import Path

import pytest

from tests.render.reports import FULL, with_results
from zoo.cli import announcing
from zoo.report import Report


def announced(report: Report, capsys: pytest.CaptureFixture[str]) -> str:
    announcing.announce(report, as_json=True)
    return capsys.readouterr().err


def test_annotations_name_files_from_the_repositorys_top(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the gate runs in a folder of it."""
    (tmp_path / "library").mkdir()
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    monkeypatch.chdir(tmp_path / "library")
    assert "file=library/adapters/check/adapter_config.json" in announced(FULL, capsys)
    monkeypatch.delenv("GITHUB_WORKSPACE")
    assert "file=adapters/check/adapter_config.json" in announced(FULL, capsys)


def test_a_summary_that_is_full_keeps_every_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GitHub would show nothing at all of a larger one."""
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setattr(announcing, "SUMMARY_BYTES", 20_000)
    monkeypatch.setattr(announcing, "LINES_BYTES", 8_000)
    report = with_results("ZX001", "ZX002")
    for _ in range(40):
        announcing.announce(report, as_json=True)
    text = summary.read_text()
    assert len(text.encode()) <= 20_000
    assert 1 < text.count("## zoo validate") < 40
    assert text.count("failed") >= 40
