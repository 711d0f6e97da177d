"""Code, keys that load code, and what training leaves lying about."""

import json
from typing import Any

from tests.security.hostile import TOKEN, Door, Hostile, put
from tests.validators.changes import config

REMOTE: dict[str, Any] = {"auto_map": {"AutoModel": "modeling.Evil"}}
DEBRIS = (
    "optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "trainer_state.json",
    "checkpoint-100/adapter_model.safetensors", "global_step10/mp_rank_00_model_states.pt",
    "wandb/output.log", "runs/events.out.tfevents.1", "events.out.tfevents.1", "zero_to_fp32.py", "latest",
    "nohup.out", ".DS_Store", ".ipynb_checkpoints/a-checkpoint.ipynb", "train.jsonl",
)  # fmt: skip
FILES = (
    "modeling.py", "__init__.py", "sitecustomize.py", "lib.so", "install.sh", "demo.ipynb", "setup.cfg",
    "requirements.txt", "index.html", "page.svg", "handler.js", ".gitmodules", ".lfsconfig", "conftest.py",
    "config.json", "generation_config.json", "a.exe", "pytorch_model.bin.index.json", "adapter.zip",
)  # fmt: skip


def _config(name: str, door: Door = Door.VALIDATE_ALONE, code: str = "ZC011", **keys: object) -> Hostile:
    return Hostile(family="remote code", name=name, code=code, change=config(**keys), door=door)


def _tokenizer(name: str, file_name: str, content: object) -> Hostile:
    return Hostile(
        family="remote code",
        name=name,
        code="ZC011",
        change=put(file_name, json.dumps(content).encode()),
        door=Door.VALIDATE_ALONE,
    )


CODE = (
    _config("auto_map", **REMOTE),
    _config("auto_map below another key", runtime_config={"inner": [REMOTE]}),
    _config("trust_remote_code", trust_remote_code=True),
    _config("a module to import", megatron_core="evil"),
    _config("a class to import", auto_mapping={"base_model_class": "X", "parent_library": "evil"}),
    _config("a target to make", eva_config={"_target_": "os.system", "_args_": ["touch canary"]}),
    _config("custom pipelines", custom_pipelines={"x": {"impl": "evil.Pipe"}}),
    _config("a file of another folder", loftq_config={"path": "../../.ssh/id_rsa"}, code="ZC012"),
    _config("an address", eva_config={"state": "https://example.org/state.bin"}, code="ZC012"),
    _config("the base lies beside it", base_model_name_or_path="../base", code="ZC012"),
    _config("the base lies in the home", base_model_name_or_path="~/models/base", code="ZC012"),
    _config("the base has an address", base_model_name_or_path="https://example.org/a/b", code="ZC012"),
    _tokenizer("auto_map of the tokenizer", "tokenizer_config.json", REMOTE),
    _tokenizer("auto_map in special tokens", "special_tokens_map.json", {"a": REMOTE}),
    _tokenizer("trust_remote_code of the tokenizer", "tokenizer_config.json", {"trust_remote_code": True}),
    *(
        Hostile(family="code file", name=name, code="ZF001", change=put(name, b"x = 1\n"))
        for name in FILES
    ),
    *(
        Hostile(family="training debris", name=name, code="ZF001", change=put(name, b"{}\n"))
        for name in DEBRIS
    ),
    Hostile(
        family="code file", name=".env", code="ZF005", change=put(".env", f"T={TOKEN}\n".encode()),
        silent=(TOKEN,),
    ),
)  # fmt: skip
