"""Checks ZF…: the folder holds the files of a release, each what its name says, and nothing else."""

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from zoo.adapter import LOCK_NAME, RELEASE_NAME, RELEASED, WEIGHTS_NAME
from zoo.credentials import find_credentials
from zoo.errors import RefusedError, SpecError
from zoo.layouts import CONFIG_NAME
from zoo.limits import few_values
from zoo.provenance import MAX_FILE_BYTES, MAX_TOTAL_BYTES
from zoo.report import Finding, Location
from zoo.safetensors_header import MAX_HEADER_BYTES, read_header
from zoo.specs.document import MAX_DOCUMENT_BYTES, parse_yaml, read_bounded
from zoo.validators.check import Check, Context, Measurement
from zoo.validators.disguise import beginning, is_archive, is_pickle
from zoo.validators.folder import Entry
from zoo.validators.names import folded, misread

MAX_TOKENIZER_BYTES = 100_000_000
MAX_IMAGE_BYTES = 10_000_000
LISTED = 5  # secrets of one file that are spelt out
MAX_VALUES = 4_000_000  # of a tokenizer.json; that of Gemma 3, with 262,000 words, has 1.8 million

TOKENIZER_FILES = frozenset(
    {
        "added_tokens.json", "chat_template.jinja", "chat_template.json", "merges.txt",
        "special_tokens_map.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json",
    }
)  # fmt: skip
ALLOWED = (
    *RELEASED, "model.sig", ".gitattributes",
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
_IMAGES = {".png": b"\x89PNG", ".jpg": b"\xff\xd8", ".jpeg": b"\xff\xd8", ".webp": b"RIFF", ".gif": b"GIF8"}


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
        problem, fix = _not_plain(entry), "copy the file itself"
        if not problem and (problem := misread(entry.name)):
            fix = "rename it, with letters, digits, dots and dashes"
        twin = seen.setdefault(folded(entry.name), entry.name)
        if not problem and twin != entry.name:
            problem, fix = f"and {twin!r} are one name on some systems", "rename one of them"
        if problem:
            yield Finding(
                message=f"{entry.name!r} {problem}", location=Location(file=entry.name[:200]), fix=fix
            )


def _not_plain(entry: Entry) -> str:
    if entry.kind == "link":
        return "is a symbolic link"
    if entry.kind == "other":
        return "is neither a file nor a folder"
    return "has a second name on this disk: it may be a file from outside" if entry.names > 1 else ""


def _sizes(context: Context) -> Iterator[Finding | Measurement]:
    for entry in context.entries:
        limit = _limit_bytes(entry)
        if entry.size_bytes > limit:
            yield Finding(
                message=f"{entry.name} has {entry.size_bytes:,} bytes, over its limit of {limit:,}",
                location=Location(file=entry.name),
                fix="release the adapter only; large data belongs into a data set",
            )
        if entry.hollow:
            yield Finding(
                message=f"{entry.name} claims {entry.size_bytes:,} bytes and is a hole for the most part",
                location=Location(file=entry.name),
                fix="save the weights again",
            )
    total = sum(entry.size_bytes for entry in context.entries)
    if total > MAX_TOTAL_BYTES:
        yield Finding(message=f"the folder has {total:,} bytes, over the limit of {MAX_TOTAL_BYTES:,}")
    yield Measurement(name="files", value=len(context.entries))
    yield Measurement(name="size_bytes", value=total)


def _limit_bytes(entry: Entry) -> int:
    if entry.suffix == ".safetensors":
        return MAX_FILE_BYTES
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
                fix="copy it again, or save it in the format of its name; never rename a pickle",
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
    if is_archive(path):
        return "is a zip archive, as torch.save writes it, whatever its name says"
    if entry.suffix in _IMAGES:
        return (
            "" if start.startswith(_IMAGES[entry.suffix]) else "is not the kind of image that its name says"
        )
    problem = _header_problem(path) if entry.suffix == ".safetensors" else _document_problem(path)
    # told by its first bytes only once it did not parse: a header's length may begin like a pickle
    disguise = beginning(start)
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
                few_values(raw, MAX_VALUES)
                json.loads(raw.decode("utf-8"))
            case ".yaml" | ".yml":
                parse_yaml(raw, name=path.name)
            case ".model":
                return "is a pickle" if raw.startswith(b"\x80") or is_pickle(raw) else ""
            case _:
                if "\0" in raw.decode("utf-8"):
                    return "is not text"
    except SpecError as error:
        return error.message.removeprefix(f"{path.name} ")
    except (ValueError, RecursionError):
        return "is not what its suffix says: it does not parse"
    return "is a pickle, whatever its name says" if is_pickle(raw) else ""


def _secrets(context: Context) -> Iterator[Finding]:
    for entry in context.entries:
        if any(find_credentials(entry.name.encode(errors="replace"))):
            yield _secret(entry.name, None)
        if entry.kind == "file":
            raw = _searched(context.repo.root / entry.name, entry)
            for offset in islice(find_credentials(raw), LISTED):
                yield _secret(entry.name, raw.count(b"\n", 0, offset) + 1)


def _searched(path: Path, entry: Entry) -> bytes:
    """What people may have written: a whole file, but of weights only their names and metadata."""
    with path.open("rb") as stream:
        if entry.suffix != ".safetensors":
            return stream.read(MAX_TOKENIZER_BYTES)
        return stream.read(min(int.from_bytes(stream.read(8), "little"), MAX_HEADER_BYTES))


def _secret(name: str, line: int | None) -> Finding:
    return Finding(
        message=f"{name} contains what looks like an access token or a private key",
        location=Location(file=name, line=line),
        fix="revoke it where it was issued, then remove it: whoever has the folder has it",
    )


FILE_CHECKS = (
    Check(code="ZF002", title="Everything in the folder is a plain file", run=_plain_files),
    Check(code="ZF001", title="The folder holds the files of a release only", run=_allowed_names),
    Check(code="ZF004", title="Files are within their size limits", run=_sizes),
    Check(code="ZF003", title="Every file is what its name says", run=_contents, requires=("ZF002", "ZF004")),
    Check(code="ZF005", title="No file contains a secret", run=_secrets, requires=("ZF002", "ZF004")),
)
