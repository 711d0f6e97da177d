"""The section with a program that tests any engine against the release's own numbers."""

from functools import cache
from pathlib import Path

from zoo.adapter import VECTORS_NAME
from zoo.cards.markdown import block
from zoo.cards.record import CardRecord
from zoo.cards.usage import load_base

TEMPLATE = Path(__file__).with_name("check_engine.py.j2")


def vectors(record: CardRecord) -> str:
    """How to test another engine; empty for a release without vectors."""
    if VECTORS_NAME not in record.files:
        return ""
    fetched = f"`{_download(record)}` fetches them" if record.hub_id else "they are in this folder"
    return (
        "## Check an engine\n\n"
        f"`{VECTORS_NAME}` holds a few prompts as token ids, the log-probabilities that the adapter must "
        "give after its invocation, those that mistakes would give (the base model, one token early or late, "
        "a plain LoRA), and tolerances for each dtype. The program below needs the release's files "
        f"({fetched}), numpy, safetensors and the engine, here PEFT; put another one into `log_probs`. "
        "It says for each prompt how far the engine is away and what it looks like, and exits with 1 when it "
        "deviates.\n\n"
        f"{block(program(record), 'python')}\n\n"
        "With alora-zoo, `zoo validate --replay .` does the same through PEFT, and compares the prefix KV."
    )


def _download(record: CardRecord) -> str:
    place = record.place
    only = f" --include '{place.folder}/*'" if place.folder else ""
    return f"hf download {place.repo} --revision {record.tag}{only} --local-dir ."


def program(record: CardRecord) -> str:
    """The program, at most 40 lines, loading the release's base model."""
    return _template().replace("{{ load_base }}", "\n".join(load_base(record, tokenizer=False)))


@cache
def _template() -> str:
    return TEMPLATE.read_text(encoding="utf-8").rstrip("\n")
