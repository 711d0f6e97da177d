"""Other environments' tokenizers: real ones, made-up ones, and what is no Python at all."""

import sys
from pathlib import Path

import pytest

from tests.validators.changes import FAKE_TOKENIZERS, NO_TRANSFORMERS, shim
from tests.validators.measured import number
from tests.validators.releases import static_results
from zoo.errors import UndecidedError
from zoo.models import BaseModel
from zoo.prompts import Prompter
from zoo.report import Flagged, Passed, Severity, Skipped
from zoo.validators.checks.drift import DRIFT_CHECKS
from zoo.validators.tokenizer_env import tokenise_in

TEXTS = ["<|im_start|>check\n", "é 灯台\n\n> 2023"]
# The real tokenizer, but one id of texts that hold a word is another: as when a release splits digits anew.
DRIFTED = """
import importlib.machinery, importlib.util, sys
path = [entry for entry in sys.path if not entry.endswith("-site")]
spec = importlib.machinery.PathFinder.find_spec("tokenizers", path)
real = importlib.util.module_from_spec(spec)
sys.modules["tokenizers"] = real
spec.loader.exec_module(real)
Real = real.Tokenizer
class Tokenizer:
    @staticmethod
    def from_file(name):
        made = Tokenizer()
        made.real = Real.from_file(name)
        return made
    def no_truncation(self): ...
    no_padding = no_truncation
    def encode(self, text, add_special_tokens):
        self.ids = self.real.encode(text, add_special_tokens=False).ids
        if "WORD" in text:
            self.ids[CHANGE] += 1
        return self
sys.modules["tokenizers"].Tokenizer = Tokenizer
"""


def drift(release: Path, base: BaseModel, *interpreters: Path | str) -> Passed | Flagged | Skipped:
    checks = static_results(release, base, DRIFT_CHECKS, environments=interpreters)
    found = checks[0].outcome
    assert isinstance(found, Passed | Flagged | Skipped)
    return found


def drifted(folder: Path, word: str, change: str) -> Path:
    path = folder / "drifted"
    source = DRIFTED.replace("WORD", word).replace("CHANGE", change)
    shim(path, {"tokenizers": source, **NO_TRANSFORMERS})
    return path


def test_our_own_environment_agrees_with_both_libraries(release: Path, tiny_base: BaseModel) -> None:
    import tokenizers
    import transformers

    found = drift(release, tiny_base, sys.executable)
    assert isinstance(found, Passed)
    assert found.measured["environment_1_tokenizers"] == f"tokenizers {tokenizers.__version__}"
    assert found.measured["environment_1_transformers"] == f"transformers {transformers.__version__}"
    assert number(found.measured["prompts_compared"]) > 100


def test_other_ids_of_text_are_a_warning_with_the_first_difference(
    release: Path, tiny_base: BaseModel, tmp_path: Path
) -> None:
    found = drift(release, tiny_base, drifted(tmp_path, "Besan", "5"))
    assert isinstance(found, Flagged)
    (finding,) = found.findings
    assert finding.severity is Severity.WARNING
    assert "gives other ids for 1 of" in finding.message
    assert "at token 5:" in finding.message


def test_an_invocation_that_is_lost_in_a_prompt_is_an_error(
    release: Path, tiny_base: BaseModel, tmp_path: Path
) -> None:
    found = drift(release, tiny_base, drifted(tmp_path, "Besan", "-1"))
    assert isinstance(found, Flagged)
    assert found.severity is Severity.ERROR
    assert "missing or elsewhere in 1 of" in found.findings[0].message


def test_an_environment_that_fails_does_not_hide_what_another_found(
    release: Path, tiny_base: BaseModel, tmp_path: Path
) -> None:
    shim(tmp_path / "fake", {"tokenizers": FAKE_TOKENIZERS, **NO_TRANSFORMERS})
    found = drift(release, tiny_base, "/no/such/python", tmp_path / "fake")
    assert isinstance(found, Flagged)
    assert [finding.severity for finding in found.findings] == [Severity.ERROR, Severity.WARNING]
    assert "not compared: /no/such/python does not run" in found.findings[1].message


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        ({"tokenizers": "raise ImportError", **NO_TRANSFORMERS}, "neither tokenizers nor transformers"),
        ({"tokenizers": "import os; os._exit(7)", **NO_TRANSFORMERS}, "ended with 7"),
        ({"tokenizers": "import os; os.write(1, b'{}'); os._exit(0)", **NO_TRANSFORMERS}, "cannot be read"),
    ],
    ids=["neither", "dies", "answers something else"],
)
def test_an_environment_that_gives_no_answer_decides_nothing(
    modules: dict[str, str], words: str, release: Path, tiny_base: BaseModel, tmp_path: Path
) -> None:
    shim(tmp_path / "python", modules)
    found = drift(release, tiny_base, tmp_path / "python")
    assert isinstance(found, Skipped)
    assert words in found.reason
    assert found.hint


def test_a_library_that_fails_is_said_and_decides_nothing(
    release: Path, tiny_base: BaseModel, tmp_path: Path
) -> None:
    broken = "__version__ = '0.1'\nclass AutoTokenizer:\n    pass\n"
    shim(tmp_path / "python", {"transformers": broken})
    found = drift(release, tiny_base, tmp_path / "python")
    assert isinstance(found, Skipped)
    assert "fails: AttributeError" in found.reason


def test_an_environment_that_hangs_is_given_up(
    tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zoo.validators.tokenizer_env.SECONDS", 1)
    shim(tmp_path / "python", {"tokenizers": "import time; time.sleep(60)", **NO_TRANSFORMERS})
    with pytest.raises(UndecidedError, match="no answer in 1 s"):
        tokenise_in(str(tmp_path / "python"), tiny_base.folder, TEXTS)


def test_no_secret_reaches_the_other_environment(
    tiny_base: BaseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    version = "__import__('os').environ.get('HF_TOKEN', 'none')"
    source = FAKE_TOKENIZERS.replace('"0.0.1"', version)
    shim(tmp_path / "python", {"tokenizers": source, **NO_TRANSFORMERS})
    (answer,) = tokenise_in(str(tmp_path / "python"), tiny_base.folder, TEXTS)
    assert answer.library == "tokenizers none"


def test_ids_come_back_as_they_are(tiny_base: BaseModel) -> None:
    for answer in tokenise_in(sys.executable, tiny_base.folder, TEXTS):
        assert not answer.error
        assert [tuple(ids) for ids in answer.ids] == [Prompter(tiny_base).encode(text) for text in TEXTS]
