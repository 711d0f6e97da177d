"""How long a reply may be, what ends it, and the numbers in a request that say how to decode."""

import json
from collections.abc import Mapping
from typing import Any

from zoo.errors import ContractError, SpecError
from zoo.models import BaseModel
from zoo.prompts import Prompter

MAX_NEW_TOKENS = 1024
LENGTHS = ("max_completion_tokens", "max_tokens")
# what servers obey and this decoding does not, with the values that ask for nothing
_UNHEEDED: Mapping[str, tuple[Any, ...]] = {
    "stop": ([], ""),
    "stop_token_ids": ([],),
    "n": (1,),
    "best_of": (1,),
    "top_p": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "min_tokens": (0,),
    "logit_bias": ({},),
    "bad_words": ([],),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
}
# what a contract may ask for, and whoever asks it cannot
_CONTRACTS: Mapping[str, tuple[Any, ...]] = {
    "response_format": ({"type": "text"},),
    "structured_outputs": ({},),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
    "stream": (False,),
    "stream_options": ({},),
}
_INSTEAD = {
    "response_format": ": the form of a reply is said in io.yaml",
    "stream": ": zoo run --stream shows a reply as it is decoded",
}
_OF_SAMPLING = ("top_p", "top_k", "min_p")  # mean nothing where the likeliest token is taken


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


def check(request: Mapping[str, Any], *, rewritten: bool = False) -> None:
    """Refuses numbers out of bounds, and ways of decoding that there are not.

    Of a caller's request too, before a contract's own parameters take the place of his.

    Args:
        request: the caller's, or what a contract made of it.
        rewritten: whether it is the latter, which may say what form a reply has.

    Raises:
        ContractError: ZO157, at the key.
    """
    for name in LENGTHS:
        _length(request, name)
    greedy = not temperature(request)
    top_logprobs(request)
    seed(request)
    extra = request.get("extra_body")
    for where, part in (((), request), (("extra_body",), extra if isinstance(extra, Mapping) else {})):
        for key, neutral in (_UNHEEDED if rewritten else {**_UNHEEDED, **_CONTRACTS}).items():
            value = part.get(key)
            harmless = greedy and key in _OF_SAMPLING and _is_number(value)
            if value is not None and value not in neutral and not harmless:
                raise ContractError(
                    f"{key} is {str(value)[:40]!r}, which decoding here would not obey",
                    path=(*where, key),
                    code="ZO157",
                    hint=f"leave {key} out{_INSTEAD.get(key, '')}",
                )


def room(request: Mapping[str, Any], base: BaseModel, prompt_tokens: int) -> int:
    """How many tokens may be decoded: what is asked for, and what the base has positions for.

    Raises:
        ContractError: ZO157, the request asks for no number; ZO154, the prompt alone is too long.
    """
    stated = [_length(request, name) for name in LENGTHS]
    asked = next((value for value in stated if value is not None), MAX_NEW_TOKENS)
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
    value = request.get("temperature")
    if value is None:
        return 0.0
    if not _is_number(value) or not 0 <= value <= 2:
        raise _wrong("temperature", value, "a number from 0 to 2")
    return float(value)


def top_logprobs(request: Mapping[str, Any]) -> int:
    """How many log-probabilities a token are asked for.

    Raises:
        ContractError: ZO157, it is no number from 0 to 100.
    """
    value = request.get("top_logprobs")
    if value is None:
        value = 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 100:
        raise _wrong("top_logprobs", value, "a number from 0 to 100")
    return (value or 1) if request.get("logprobs") else 0


def seed(request: Mapping[str, Any]) -> int | None:
    """The seed of what is sampled; None when none is asked for.

    Raises:
        ContractError: ZO157, it is no whole number of 64 bits.
    """
    value = request.get("seed")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise _wrong("seed", value, "a whole number of 64 bits")
    return value


def chosen(request: Mapping[str, Any]) -> dict[str, Any]:
    """How tokens are chosen and told, for `Adapted.generate`; raises like the three that it asks."""
    return {
        "temperature": temperature(request),
        "top_logprobs": top_logprobs(request),
        "seed": seed(request),
    }


def _length(request: Mapping[str, Any], key: str) -> int | None:
    value = request.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _wrong(key, value, "a number of tokens from 1 on")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _positions(base: BaseModel) -> int | None:
    inner = base.config.get("text_config")
    for config in (base.config, inner if isinstance(inner, Mapping) else {}):
        value = config.get("max_position_embeddings") or config.get("n_positions")
        if isinstance(value, int) and value > 0:
            return value
    return None


def _wrong(key: str, value: object, wanted: str) -> ContractError:
    return ContractError(f"{key} is {str(value)[:40]!r}, and {wanted} is wanted", path=(key,), code="ZO157")
