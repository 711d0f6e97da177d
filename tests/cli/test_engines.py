"""`zoo engines`: what it lists, and what it says of one adapter."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.models import BaseModel

Make = Callable[..., Path]
Run = Callable[..., tuple[int, str, str]]
INVOCATION = [1, 300, 2]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    from zoo.cli import run as run_zoo

    monkeypatch.delenv("ZOO_VLLM_PYTHON", raising=False)

    def zoo(*arguments: str | Path) -> tuple[int, str, str]:
        code = run_zoo(["engines", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return zoo


def verdicts(run: Run, adapter: Path) -> dict[str, str]:
    code, out, _ = run(adapter, "--json")
    assert code == 0
    return {row["engine"]: row["adapter"]["verdict"] for row in json.loads(out)}


def test_the_table(run: Run) -> None:
    import peft

    code, out, _ = run()
    assert code == 0
    assert f"peft  {peft.__version__}  (peft)" in out
    assert "llama-server  2026.10.11549  (xllamacpp)" in out
    assert "sglang  not run by zoo" in out
    assert "this adapter" not in out


@pytest.mark.parametrize("columns", [40, 80])
def test_it_fits_a_narrow_terminal(columns: int, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    longest = max(run()[1].splitlines(), key=len)
    assert len(longest) <= columns or " " not in longest.strip()  # one long word is not broken


def test_json(run: Run) -> None:
    rows: list[dict[str, Any]] = json.loads(run("--json")[1])
    llama = next(row for row in rows if row["engine"] == "llama-server")
    assert llama["installed"] is True
    assert llama["alora"]["shift"] == -1
    assert "later_turn" in llama["alora"]["taints"]
    assert all("adapter" not in row for row in rows)


def test_what_each_would_do_with_an_adapter(run: Run, make_adapter: Make) -> None:
    assert verdicts(run, make_adapter(alora_invocation_tokens=INVOCATION)) == {
        "reference": "by the rule",
        "peft": "by the rule",
        "transformers": "base only",
        "llama-server": "shifted",
        "vllm": "refused",
        "alora": "shifted",
        "sglang": "every token",
    }


def test_adapters_that_an_engine_cannot_serve(run: Run, make_adapter: Make, tiny_base: BaseModel) -> None:
    missed = make_adapter("missed", alora_invocation_tokens=[7, 1, 7])
    assert verdicts(run, missed)["llama-server"] == "base only"
    rslora = make_adapter("rslora", alora_invocation_tokens=INVOCATION, use_rslora=True)
    assert verdicts(run, rslora)["llama-server"] == "cannot load"
    assert "zoo convert folds" in " ".join(run(rslora)[1].split())
    assert set(verdicts(run, make_adapter("plain")).values()) == {"every token"}
    untyped = make_adapter("untyped", alora_invocation_tokens=INVOCATION)
    config = untyped / "adapter_config.json"
    config.write_text(config.read_text().replace('"CAUSAL_LM"', '"SEQ_CLS\\u001b[31m"'))
    assert verdicts(run, untyped)["peft"] == "base only"
    assert "\x1b" not in run(untyped)[1]


def test_an_unknown_architecture(run: Run, make_adapter: Make, tmp_path: Path) -> None:
    adapter, base = make_adapter(alora_invocation_tokens=INVOCATION), tmp_path / "strange"
    base.mkdir()
    (base / "config.json").write_text('{"model_type": "strange"}')
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(base)
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert verdicts(run, adapter)["llama-server"] == "cannot load"


def test_no_adapter_there(run: Run, tmp_path: Path) -> None:
    assert run(tmp_path)[0] == 2
