"""Shapes of access tokens and private keys: found in files before they are published, kept out of messages.

Sources: huggingface.co/docs/hub/security-tokens (`hf_`, `api_org_`); docs.github.com, "About authentication
to GitHub"; the token formats that GitLab, AWS, OpenAI, Anthropic, Slack, Google, npm and PyPI document;
RFC 7468 (PEM labels); RFC 7519 (web tokens). A shape is no proof: what repeats a few characters is taken for
an example.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

_VALUE = r"""["'\s]{0,4}[:=]["'\s]{0,4}"""


class _Shape(NamedTuple):
    """One shape; it begins with letters as they are, which are found a hundred times faster than classes.

    `whole` has it begin a word; `folded` has its case not count.
    """

    body: str
    whole: bool = True
    folded: bool = False


_SHAPES = (
    _Shape(r"hf_[A-Za-z0-9]{30,60}"),
    _Shape(r"api_org_[A-Za-z0-9]{30,60}"),
    _Shape(r"gh[pousr]_[A-Za-z0-9]{36,80}"),
    _Shape(r"github_pat_\w{40,120}"),
    _Shape(r"glpat-[\w-]{20,60}"),
    _Shape(r"AKIA[0-9A-Z]{16}(?![0-9A-Za-z])"),
    _Shape(r"ASIA[0-9A-Z]{16}(?![0-9A-Za-z])"),
    _Shape(r"aws_?secret_?access_?key" + _VALUE + r"[a-z0-9/+]{40}", whole=False, folded=True),
    _Shape(r"wandb_?api_?key" + _VALUE + r"[0-9a-f]{40}", whole=False, folded=True),
    _Shape(r"sk-(?=[\w-]{0,50}[0-9])[\w-]{32,220}"),
    _Shape(r"xox[abeprs]-[\w-]{20,100}"),
    _Shape(r"AIza[\w-]{35}"),
    _Shape(r"npm_[A-Za-z0-9]{36}"),
    _Shape(r"pypi-AgE[\w-]{40,250}"),
    _Shape(r"eyJ[\w-]{10,200}\.eyJ[\w-]{10,4000}(?:\.[\w-]{10,1000})?"),  # a web token; of any issuer
    _Shape(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY[A-Z ]{0,10}-----", whole=False),
    _Shape(r"://[^/\s:@'\"<>$\0]{1,80}:[^/\s:@'\"<>${}\0]{12,200}@", whole=False),
)
_FEWEST = 3  # different characters of a real one: xxxx is an example


def find_credentials(raw: bytes) -> Iterator[int]:
    """Where in a file something stands that looks like an access token or a private key.

    Args:
        raw: of any encoding; UTF-16 is seen through, its offsets are then those without its zero bytes.
    """
    for text in (raw, raw.replace(b"\0", b"")) if b"\0" in raw else (raw,):
        if found := sorted(_found(text)):
            yield from found
            return


def _found(text: bytes) -> Iterator[int]:
    lower = text.lower()
    for shape in _SHAPES:
        for match in _bytes(shape.body).finditer(lower if shape.folded else text):
            begins = not (shape.whole and text[max(0, match.start() - 1) : match.start()].isalnum())
            if begins and _real(match.group()):
                yield match.start()


def redacted(text: str) -> str:
    """The text with whatever looks like an access token or a private key cut off behind its first letters."""
    return _text().sub(lambda match: f"{match.group()[:4]}…", text)


def _real(found: bytes) -> bool:
    return found.startswith(b"-----") or len(set(found.rpartition(b"_")[2])) >= _FEWEST


@cache
def _bytes(body: str) -> re.Pattern[bytes]:
    return re.compile(body.encode())


@cache
def _text() -> re.Pattern[str]:
    return re.compile("|".join(map(_spelt, _SHAPES)))


def _spelt(shape: _Shape) -> str:
    start = "(?<![A-Za-z0-9])" if shape.whole else ""
    return start + (f"(?i:{shape.body})" if shape.folded else shape.body)
