import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.ci.gate import Gate, chosen, gate
from zoo.errors import NotFoundError
from zoo.report import Crashed, Finding, Flagged, Passed, Report, Result, Skipped
from zoo.validators.library import adapter_folders


def report(*outcomes: Passed | Flagged | Skipped | Crashed) -> Report:
    results = [Result(code=f"ZX{n:03}", title="x", outcome=outcome) for n, outcome in enumerate(outcomes)]
    return Report(subject="a", digest="0" * 64, results=results)


GOOD = report(Passed())
BAD = report(Flagged(findings=[Finding(message="bad")]))
OPEN = report(Skipped(reason="no base"))
BROKEN = report(Crashed(error="oops"))


@pytest.mark.parametrize(
    ("reports", "code"),
    [
        ([GOOD, GOOD], 0),
        ([GOOD, OPEN], 3),
        ([OPEN, BAD], 1),
        ([BAD, BROKEN], 4),
        ([report()], 3),
        ([], 3),
    ],
)
def test_the_most_telling_report_decides(reports: list[Report], code: int) -> None:
    assert Gate(reports=reports).exit_code == code


def test_adapters_finds_each_once_and_refuses_an_empty_folder(
    make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    source = make_adapter()
    library = tmp_path / "library"
    for place in ("relevance/tiny/alora", "certainty/alora/tiny", "rewrite_lora"):
        shutil.copytree(source, library / place)

    found = adapter_folders([library, library / "rewrite_lora"])

    assert [path.relative_to(library).as_posix() for path in found] == [
        "certainty/alora/tiny",
        "relevance/tiny/alora",
        "rewrite_lora",
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match="holds no adapter"):
        adapter_folders([library, tmp_path / "empty"])


def test_a_broken_adapter_does_not_stop_the_others(make_adapter: Callable[..., Path], tmp_path: Path) -> None:
    library = tmp_path / "library"
    shutil.copytree(make_adapter(), library / "first_lora")
    shutil.copytree(library / "first_lora", library / "second_lora")
    config = library / "first_lora" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"r": 10**7}))

    reports = list(gate(chosen([library])))

    assert [Path(r.subject).name for r in reports] == ["first_lora", "second_lora"]
    assert "ZC001" in {result.code for result, _ in reports[0].findings()}
    assert "ZC001" not in {result.code for result, _ in reports[1].findings()}
    assert {r.exit_code for r in reports} <= {1, 3}
