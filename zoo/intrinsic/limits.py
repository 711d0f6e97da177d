"""How long a reply may be, what ends it, and the numbers in a request that say how to decode."""

import json
from collections.abc import Mapping
from typing import Any

from zoo.errors import ContractError, SpecError
from zoo.models import BaseModel
from zoo.prompts import Prompter

MAX_NEW_TOKENS = 1024
LENGTHS = ("max_completion_tokens", "max_tokens")


def end_ids(prompter: Prompter) -> tuple[int, ...]:
    """What ends a reply: the tokenizer's end token, and those that `generation_config.json` names.

    Raises:
        SpecError: that file is not JSON.
    """
    path = prompter.base.folder / "generation_config.json"
    try:
        content = json.loads(path.read_bytes()) if path.is_file() else {}
    except (ValueError, RecursionError):
        raise SpecError(f"{path} is not valid JSON") from None
    stated = content.get("eos_token_id") if isinstance(content, dict) else None
    named = [one for one in (stated if isinstance(stated, list) else [stated]) if isinstance(one, int)]
    return tuple(dict.fromkeys([*prompter.end_ids, *named]))


def room(request: Mapping[str, Any], base: BaseModel, prompt_tokens: int) -> int:
    """How many tokens may be decoded: what is asked for, and what the base has positions for.

    Raises:
        ContractError: ZO157, the request asks for no number; ZO154, the prompt alone is too long.
    """
    key = next((name for name in LENGTHS if request.get(name) is not None), "")
    asked = request[key] if key else MAX_NEW_TOKENS
    if not isinstance(asked, int) or isinstance(asked, bool) or asked < 1:
        raise _wrong(key, asked, "a number of tokens from 1 on")
    positions = _positions(base)
    if positions is None:
        return asked
    if prompt_tokens >= positions:
        raise ContractError(
            f"the prompt has {prompt_tokens:,} tokens, and the base {base.id} reads {positions:,} at most",
            path=("messages",),
            code="ZO154",
            hint="shorten the conversation or the documents",
        )
    return min(asked, positions - prompt_tokens)


def temperature(request: Mapping[str, Any]) -> float:
    """The temperature; 0, greedy, when none is asked for.

    Raises:
        ContractError: ZO157, it is no number from 0 to 2.
    """
    value = request.get("temperature") or 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2:
        raise _wrong("temperature", value, "a number from 0 to 2")
    return float(value)


def top_logprobs(request: Mapping[str, Any]) -> int:
    """How many log-probabilities a token are asked for.

    Raises:
        ContractError: ZO157, it is no number from 0 to 100.
    """
    value = (request.get("top_logprobs") or 1) if request.get("logprobs") else 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100:
        raise _wrong("top_logprobs", value, "a number from 0 to 100")
    return value


def _positions(base: BaseModel) -> int | None:
    inner = base.config.get("text_config")
    for config in (base.config, inner if isinstance(inner, Mapping) else {}):
        value = config.get("max_position_embeddings") or config.get("n_positions")
        if isinstance(value, int) and value > 0:
            return value
    return None


def _wrong(key: str, value: object, wanted: str) -> ContractError:
    return ContractError(f"{key} is {str(value)[:40]!r}, and {wanted} is wanted", path=(key,), code="ZO157")
