"""Checks ZF…: the folder holds the files of a release, each what its name says, and nothing else."""

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from zoo.adapter import (
    BOM_NAME,
    CARD_NAME,
    IO_NAME,
    LOCK_NAME,
    NOTES_NAME,
    PROVENANCE_NAME,
    RELEASE_NAME,
    WEIGHTS_NAME,
)
from zoo.errors import RefusedError, SpecError
from zoo.layouts import CONFIG_NAME
from zoo.report import Finding, Location
from zoo.safetensors_header import read_header
from zoo.specs.document import MAX_DOCUMENT_BYTES, parse_yaml, read_bounded
from zoo.validators.check import Check, Context, Measurement
from zoo.validators.folder import Entry

MAX_WEIGHTS_BYTES = 4 << 30
MAX_TOKENIZER_BYTES = 100_000_000
MAX_IMAGE_BYTES = 10_000_000
MAX_TOTAL_BYTES = 6 << 30

TOKENIZER_FILES = frozenset(
    {
        "added_tokens.json", "chat_template.jinja", "chat_template.json", "merges.txt",
        "special_tokens_map.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json",
    }
)  # fmt: skip
ALLOWED = (
    CONFIG_NAME, WEIGHTS_NAME, CARD_NAME, NOTES_NAME, IO_NAME, RELEASE_NAME, LOCK_NAME, BOM_NAME,
    PROVENANCE_NAME, "conformance.safetensors", "model.sig", ".gitattributes",
    "LICENSE", "LICENSE.*", "NOTICE", "NOTICE.*", "*.md", "*.png", "*.jpg", "*.jpeg", "*.webp", "*.gif",
)  # fmt: skip
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npz", ".npy")
_DEBRIS = (
    "trainer_state.json",
    "*.log",
    "runs/*",
    "checkpoint-*",
    "wandb/*",
    "global_step*",
    "latest",
    "events.*",
)
_MAGIC = {
    b"PK\x03\x04": "a zip archive, as torch.save writes it",
    b"\x80": "a pickle",
    b"GGUF": "a GGUF file",
}
_IMAGES = {".png": b"\x89PNG", ".jpg": b"\xff\xd8", ".jpeg": b"\xff\xd8", ".webp": b"RIFF", ".gif": b"GIF8"}
_TEXT = (".md", ".txt", ".jinja", ".yaml", ".yml", ".json", "")

# Shapes of access tokens and keys: the Hub's, GitHub's, AWS's, and any private key.
_SECRET = re.compile(
    r"\bhf_[A-Za-z0-9]{30,}|\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_\w{40,}|\bAKIA[0-9A-Z]{16}\b"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def _allowed_names(context: Context) -> Iterator[Finding]:
    for entry in context.entries:
        if reason := _refusal(entry.name, entry.suffix):
            yield Finding(
                message=f"{entry.name[:200]!r} {reason}",
                location=Location(file=entry.name[:200]),
                fix="remove it from the folder that is released",
            )


def _refusal(name: str, suffix: str) -> str:
    folder, _, leaf = name.rpartition("/")
    if suffix in _PICKLES or leaf.startswith("training_args"):
        return "can hold a pickle, which runs code when it is loaded"
    if suffix in (".py", ".pyc", ".so", ".sh", ".ipynb"):
        return "is code, and an adapter needs none"
    if any(fnmatchcase(name, pattern) for pattern in _DEBRIS):
        return "is left over from training"
    if folder not in ("", "images", "assets", "figures"):
        return "lies in a folder that a release does not have"
    if leaf in TOKENIZER_FILES or any(fnmatchcase(leaf, pattern) for pattern in ALLOWED):
        return ""
    return "is not a file of a release"


def _plain_files(context: Context) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for entry in context.entries:
        where = Location(file=entry.name[:200])
        if entry.kind == "link":
            yield Finding(
                message=f"{entry.name!r} is a symbolic link", location=where, fix="copy the file itself"
            )
        elif entry.kind == "other":
            yield Finding(
                message=f"{entry.name!r} is neither a file nor a folder", location=where, fix="remove it"
            )
        if "\\" in entry.name or not entry.name.isprintable():
            yield Finding(message=f"{entry.name!r} has a backslash or an unprintable character in its name",
                          location=where, fix="rename it")  # fmt: skip
        if (twin := seen.setdefault(entry.name.casefold(), entry.name)) != entry.name:
            yield Finding(message=f"{entry.name!r} and {twin!r} differ in case only",
                          location=where, fix="rename one of them")  # fmt: skip


def _sizes(context: Context) -> Iterator[Finding | Measurement]:
    for entry in context.entries:
        limit = _limit_bytes(entry)
        if entry.size_bytes > limit:
            yield Finding(
                message=f"{entry.name} has {entry.size_bytes:,} bytes, over its limit of {limit:,}",
                location=Location(file=entry.name),
                fix="release the adapter only; large data belongs into a data set",
            )
    total = sum(entry.size_bytes for entry in context.entries)
    if total > MAX_TOTAL_BYTES:
        yield Finding(message=f"the folder has {total:,} bytes, over the limit of {MAX_TOTAL_BYTES:,}")
    yield Measurement(name="files", value=len(context.entries))
    yield Measurement(name="size_bytes", value=total)


def _limit_bytes(entry: Entry) -> int:
    if entry.suffix == ".safetensors":
        return MAX_WEIGHTS_BYTES
    if entry.name in TOKENIZER_FILES:
        return MAX_TOKENIZER_BYTES
    return MAX_IMAGE_BYTES if entry.suffix in _IMAGES else MAX_DOCUMENT_BYTES


def _contents(context: Context) -> Iterator[Finding | Measurement]:
    root = context.repo.root
    if not context.repo.weights_path.is_file():
        yield Finding(
            message=f"there is no {WEIGHTS_NAME}",
            location=Location(file=WEIGHTS_NAME),
            fix="save the adapter with PEFT's save_pretrained, which writes safetensors",
        )
    for entry in context.entries:
        # the three documents with a model of their own are read by ZC001, ZM001 and ZL001
        if entry.kind != "file" or entry.name in (CONFIG_NAME, RELEASE_NAME, LOCK_NAME):
            continue
        if problem := _problem(root / entry.name, entry):
            yield Finding(
                message=f"{entry.name} {problem}",
                location=Location(file=entry.name),
                fix="save it again in the format of its name; never rename a pickle",
            )
    if context.repo.weights_path.is_file():
        yield Measurement(name="tensors", value=_tensor_count(context))


def _tensor_count(context: Context) -> int:
    try:
        return len(context.repo.tensors.tensors)
    except RefusedError:
        return 0


def _problem(path: Path, entry: Entry) -> str:
    with path.open("rb") as stream:
        start = stream.read(8)
    if entry.suffix in _IMAGES:
        return (
            "" if start.startswith(_IMAGES[entry.suffix]) else "is not the kind of image that its name says"
        )
    problem = _header_problem(path) if entry.suffix == ".safetensors" else _document_problem(path)
    # told by its first bytes only once it did not parse: a header's length may begin like a pickle
    disguise = next((what for magic, what in _MAGIC.items() if start.startswith(magic)), "")
    return f"is {disguise}, whatever its name says" if problem and disguise else problem


def _header_problem(path: Path) -> str:
    try:
        read_header(path)
    except RefusedError as error:
        return error.message.removeprefix(f"{path.name} ")
    return ""


def _document_problem(path: Path) -> str:
    raw = read_bounded(path, MAX_TOKENIZER_BYTES)
    try:
        match path.suffix.lower():
            case ".json" | ".sig":
                json.loads(raw)
            case ".yaml" | ".yml":
                parse_yaml(raw, name=path.name)
            case ".model":
                return ""
            case _:
                if "\0" in raw.decode("utf-8"):
                    return "is not text"
    except SpecError as error:
        return error.message.removeprefix(f"{path.name} ")
    except (ValueError, RecursionError):
        return "is not what its suffix says: it does not parse"
    return ""


def _secrets(context: Context) -> Iterator[Finding]:
    for entry in context.entries:
        readable = entry.kind == "file" and entry.suffix in _TEXT and entry.size_bytes <= MAX_DOCUMENT_BYTES
        if not readable or entry.name in ("tokenizer.json", "vocab.json", "merges.txt"):
            continue
        text = (context.repo.root / entry.name).read_bytes().decode("utf-8", errors="replace")
        for match in _SECRET.finditer(text):
            yield Finding(
                message=f"{entry.name} contains what looks like an access token or a private key",
                location=Location(file=entry.name, line=text.count("\n", 0, match.start()) + 1),
                fix="revoke it where it was issued, then remove it: whoever has the folder has it",
            )


FILE_CHECKS = (
    Check(code="ZF002", title="Everything in the folder is a plain file", run=_plain_files),
    Check(code="ZF001", title="The folder holds the files of a release only", run=_allowed_names),
    Check(code="ZF004", title="Files are within their size limits", run=_sizes),
    Check(code="ZF003", title="Every file is what its name says", run=_contents, requires=("ZF002", "ZF004")),
    Check(code="ZF005", title="No file contains a secret", run=_secrets, requires=("ZF002", "ZF004")),
)
