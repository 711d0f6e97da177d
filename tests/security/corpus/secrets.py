"""Access tokens and keys in every place where text can lie; no output may repeat one."""

import json
import struct
import zlib
from pathlib import Path

from tests.security.corpus.pickles import WEIGHTS, png
from tests.security.hostile import TOKEN, Change, Door, Hostile, put
from tests.validators.changes import config, lock, spec
from zoo.models import BaseModel

# Shapes of tokens, put together here so that no scanner of this repository takes one for real.
_A, _B = "qZ7kP2mX9rT4vB6n", "W1sD3fG5hJ8lC0yE"
KINDS = {
    "the Hub": TOKEN,
    "an organisation of the Hub": "api_org_" + "qZ7" * 11 + "q",
    "GitHub": "ghp_" + "qZ7" * 12,
    "GitHub, fine-grained": "github_pat_" + "qZ7" * 27,
    "GitLab": "glpat-" + "qZ7kP2mX9rT4vB6nW1sD",
    "AWS": "AKIA" + "Q7ZK2MX9RT4VB6NW",
    "AWS, temporary": "ASIA" + "Q7ZK2MX9RT4VB6NW",
    "OpenAI": "sk-proj-" + _A + _B + _A,
    "Anthropic": "sk-ant-api03-" + _A + _B + _A,
    "Slack": "xoxb-" + "123456789012-" + _A,
    "Google": "AIza" + "SyQ7ZK2MX9RT4VB6NW1sD3fG5hJ8lC0yEab",
    "npm": "npm_" + "qZ7" * 12,
    "an identity of a CI job": "eyJhbGciOiJSUzI1NiJ9." + "eyJzdWIiOiJyZXBvOm9yZy9hIn0." + _A + _B,
    "the package index": "pypi-AgEIcHlwaS5vcmc" + _A + _B * 3,
    "Weights & Biases": "WANDB_API_KEY=" + "0123456789abcdef" * 2 + "01234567",
    "AWS, the other half": "aws_secret_access_key = " + _A + _B + "Qz7Kp2Mx",
    "an address with a password": "https://user:" + _A + "@example.org/x.git",
    "a private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIE" + _A,
    "a private key of OpenSSH": "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl" + _A,
    "a private key of PGP": "-----BEGIN PGP PRIVATE KEY BLOCK-----\nlQOY" + _A,
}


def in_metadata(folder: Path, base: BaseModel) -> None:
    from safetensors.torch import load_file, save_file

    save_file(load_file(folder / WEIGHTS), folder / WEIGHTS, metadata={"format": "pt", "hub": TOKEN})


def in_tensor_name(folder: Path, base: BaseModel) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    save_file({**load_file(folder / WEIGHTS), TOKEN: torch.ones(1)}, folder / WEIGHTS)


def picture_words() -> bytes:
    words = b"tEXtComment\0" + TOKEN.encode()
    chunk = struct.pack(">I", len(words) - 4) + words + struct.pack(">I", zlib.crc32(words))
    whole = png()
    return whole[:33] + chunk + whole[33:]


def in_policy(folder: Path, base: BaseModel) -> None:
    (folder.parent / "zoo-gate.yaml").write_text(f"{TOKEN}: 1\n")


def _case(name: str, change: Change, *secrets: str, door: Door = Door.VALIDATE, code: str = "ZF005",
          relock: bool = True) -> Hostile:  # fmt: skip
    secrets = tuple(word for secret in secrets or (TOKEN,) for word in secret.split() if len(word) > 20)
    return Hostile(
        family="secret", name=name, code=code, change=change, door=door, silent=secrets, relock=relock
    )


SECRETS = (
    *(_case(f"of {kind}", put("NOTES.md", f"see\n{text}\n".encode()), text) for kind, text in KINDS.items()),
    _case("80,000 times", put("NOTES.md", lambda: f"{TOKEN}\n".encode() * 80_000)),
    _case("in the card", put("README.md", f"---\ntoken: {TOKEN}\n---\n".encode())),
    _case("in a licence", put("LICENSE.txt", TOKEN.encode())),
    _case("in git's settings", put(".gitattributes", f"# {TOKEN}\n".encode())),
    _case("in zoo.yaml", spec(description=f"login with {TOKEN}")),
    _case("in a key that zoo.yaml lacks", spec(**{TOKEN: "x"})),
    _case("in the config", config(note=TOKEN)),
    _case("in a key of the config", config(**{TOKEN: 1})),
    _case("in the base's name", config(base_model_name_or_path=f"https://user:{TOKEN}@example.org/a/b")),
    _case("in a module's name", config(target_modules=[TOKEN])),
    _case("in the tokenizer's settings", put("tokenizer_config.json", json.dumps({"auth": TOKEN}).encode())),
    _case("in a signature", put("provenance.intoto.jsonl", json.dumps({"a": TOKEN}).encode())),
    _case("in the lock", lock(lambda content: content["base"].update(source=TOKEN)), relock=False),
    _case("in the weights' metadata", in_metadata),
    _case("in a tensor's name", in_tensor_name),
    _case("in a picture's words", put("images/loss.png", picture_words())),
    _case("in a file's name", put(f"{TOKEN}.md", b"x\n")),
    _case("in UTF-16", put("NOTICE", f"token {TOKEN}".encode("utf-16"))),
    _case("in the contract", put("io.yaml", f"model: {TOKEN}\n".encode())),
    _case("in a file of no known kind", put("settings.toml", f'token = "{TOKEN}"\n'.encode())),
    _case("in a notebook", put("demo.ipynb", json.dumps({"cells": [TOKEN]}).encode())),
    _case("in a config that does not parse", put("adapter_config.json", f'{{"a": {TOKEN}'.encode())),
    _case("in a config, converted", config(r=TOKEN), door=Door.CONVERT, code="ZC001"),
    _case("in a key of zoo.yaml, on a card", spec(**{TOKEN: "x"}), door=Door.CARD, code="ZM001"),
    _case("in a policy", in_policy, door=Door.GATE, code="ZG005"),
)  # fmt: skip
