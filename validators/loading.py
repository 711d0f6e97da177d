"""Keys and values of a configuration that make a loader run code or reach for something else.

Sources: transformers 5.23.0, `dynamic_module_utils.py` (auto_map, trust_remote_code) and diffusers' and
transformers' custom pipelines; hydra's `_target_`, which NeMo's configs use; huggingface/peft issue 3085.
"""

import re
from collections.abc import Iterator
from itertools import islice

TOKENIZER_CONFIGS = frozenset(
    {"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.json"}
)
_LOADING = frozenset({"auto_map", "custom_pipelines", "custom_pipeline", "_target_", "trust_remote_code"})
_LOOKED_AT = 100_000
_OUT = (
    (re.compile(r"[a-z][a-z0-9+.-]{1,20}://", re.IGNORECASE), "is an address"),
    (re.compile(r"(?:^|[/\\])\.\.?(?:[/\\]|$)"), "is a path that climbs or begins here"),
    (re.compile(r"^(?:/|~|[A-Za-z]:[/\\]|\\)"), "is a path on somebody's disk"),
)


def loading_keys(document: object) -> Iterator[tuple[str, object]]:
    """Every key at any depth that names or allows code to load, with its value unless that is nothing."""
    for key, value in _pairs(document):
        if key in _LOADING and value not in (None, False, {}, [], ""):
            yield key, value


def texts(value: object) -> Iterator[str]:
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    for _, inner in _pairs(value):
        if isinstance(inner, str):
            yield inner


def leads_out(text: str) -> str:
    """Why a text leads to a file or an address; empty for a name."""
    if len(text) > 2000:
        return ""
    return next((what for pattern, what in _OUT if pattern.search(text)), "")


def _pairs(document: object) -> Iterator[tuple[str, object]]:
    return islice(_every_pair(document), _LOOKED_AT)


def _every_pair(document: object) -> Iterator[tuple[str, object]]:
    stack = [document]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield from ((str(key), inner) for key, inner in value.items())
            stack.extend(value.values())
        elif isinstance(value, list):
            yield from (("", inner) for inner in value)
            stack.extend(value)
