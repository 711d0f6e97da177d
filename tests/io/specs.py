"""Contracts and replies for the tests of zoo.io."""

import math
from typing import Any

from zoo.specs.io import IOSpec

YES_NO = {"type": "object", "properties": {"score": {"enum": ["yes", "no"]}}, "required": ["score"]}


def contract(*steps: dict[str, Any], **fields: Any) -> IOSpec:
    return IOSpec.model_validate({"transformations": list(steps), **fields})


def likelihood(path: list[Any], numbers: dict[Any, float]) -> dict[str, Any]:
    return {"type": "likelihood", "input_path": path, "categories_to_values": numbers}


def decoding(source: Any, path: list[Any], *names: str) -> dict[str, Any]:
    return {
        "type": "decode_sentences",
        "input_path": path,
        "source": source,
        "output_names": {name: name for name in names or ("begin", "end", "text")},
    }


def asked(*texts: str, documents: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """A conversation that begins with the user; documents have the ids d0, d1, …"""
    roles = ("user", "assistant")
    request: dict[str, Any] = {
        "messages": [{"role": roles[index % 2], "content": text} for index, text in enumerate(texts)],
        **more,
    }
    if documents:
        listed = [{"text": text, "doc_id": f"d{index}"} for index, text in enumerate(documents)]
        request["extra_body"] = {"documents": listed}
    return request


def token(text: str, chance: float = 1.0, **others: float) -> dict[str, Any]:
    """A token with its probability; alternatives by name."""
    return entry(text, chance, others)


def entry(text: str, chance: float, others: dict[str, float]) -> dict[str, Any]:
    top = [{"token": other, "logprob": math.log(p)} for other, p in others.items()]
    return {"token": text, "logprob": math.log(chance), "top_logprobs": top}


def choice(*tokens: dict[str, Any], content: str | None = None) -> dict[str, Any]:
    joined = "".join(item["token"] for item in tokens)
    return {
        "message": {"role": "assistant", "content": joined if content is None else content},
        "logprobs": {"content": list(tokens)},
    }
