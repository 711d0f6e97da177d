"""Values in `adapter_config.json` that make a loader hang, swell, or match for ever."""

import json
from pathlib import Path
from typing import Any

from tests.security.hostile import Change, Door, Hostile, put
from tests.validators.changes import config
from zoo.models import BaseModel

CONFIG = "adapter_config.json"


def text(old: str, new: str) -> Change:
    def change(folder: Path, base: BaseModel) -> None:
        path = folder / CONFIG
        content = json.dumps(json.loads(path.read_text()))
        assert old in content
        path.write_text(content.replace(old, new, 1))

    return change


def added(value: str) -> Change:
    """A key of its own, with a value that json.dumps would not write."""
    return text("{", '{"added": ' + value + ", ")


def _case(
    name: str, change: Change, code: str = "ZC001", *, family: str = "config", door: Door = Door.VALIDATE
) -> Hostile:
    return Hostile(family=family, name=name, code=code, change=change, door=door)


def _regex(name: str, door: Door = Door.VALIDATE, code: str = "ZC008", **keys: Any) -> Hostile:
    return _case(name, config(**keys), code, family="regex", door=door)


BACKTRACKING = "(.*)*Z(.*)*Y(.*)*X"
CONFIGS = (
    _case("a rank of ten million", config(r=10_000_000)),
    _case("a rank of ten million, converted", config(r=10_000_000), door=Door.CONVERT),
    _case("a rank of five million for one module", config(rank_pattern={"q_proj": 5_000_000})),
    _case("a negative rank", config(r=-1)),
    _case("a rank that is true", config(r=True)),
    _case("alpha is not a number", config(lora_alpha=float("nan"))),
    _case("alpha is 1e999", text('"lora_alpha": 4', '"lora_alpha": 1e999')),
    _case("a number of 5,000 digits", added("9" * 5000)),
    _case("a hundred thousand brackets", added("[" * 100_000 + "]" * 100_000)),
    _case("five megabytes", added(json.dumps("x" * 5_000_000))),
    _case("a million numbers", added("[" + "0," * 1_000_000 + "0]")),
    _case("300,000 unknown keys", text("{", "{" + "".join(f'"k{i}":0,' for i in range(300_000)))),
    _case(
        "200 unknown keys and two million lines",
        text(
            "{", "{" + "".join(f'"k{i}":0,' for i in range(200)) + "\n" * 3_000_000 + '"auto_map": {"a": 1},'
        ),
        "ZC011",
    ),
    _case("10,000 maps of code", config(runtime_config=[{"auto_map": {"a": 1}}] * 10_000), "ZC011"),
    _case("a key twice", text('"r": 4', '"r": 4, "r": 4')),
    _case("a million invocation ids", config(alora_invocation_tokens=[1] * 1_000_000)),
    _case("an id of 2^70", config(alora_invocation_tokens=[2**70])),
    _case("a hundred thousand target modules", config(target_modules=["q_proj"] * 100_000)),
    _case("a module's name of a megabyte", config(target_modules=["q" * 1_000_000])),
    _case("a million replicated layers", config(layer_replication=[[0, 2]] * 200_000)),
    _case("two thousand replicated layers", config(layer_replication=[[0, 2]] * 2000), "ZC006"),
    _case("a list for a config", put(CONFIG, b"[]")),
    _case("no text", put(CONFIG, b"\xff\xfe\x00\x00")),
    _case("nothing", put(CONFIG, b"")),
    _regex("targets", target_modules=BACKTRACKING),
    _regex("exclusions", exclude_modules="(a|a)*$"),
    _regex("ranks", rank_pattern={"(.*)*x": 4}),
    _regex("scales", alpha_pattern={"((a+)+)+b": 4.0}),
    _regex("layers", layers_pattern="(.*)*[0-9]+"),
    _regex("a repeat of a repeat", target_modules="((a{1,500}){1,500}){1,500}"),
    _regex("ranks, converted", Door.CONVERT, "ZV020", rank_pattern={BACKTRACKING: 4}),
    _regex("scales, inspected", Door.INSPECT, "ZV020", alpha_pattern={"((a|.)*)*Z": 4.0}),
)
