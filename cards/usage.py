"""The sections about the invocation and about using the adapter."""

import json
import re
from typing import Any

from zoo.cards.markdown import block, code
from zoo.cards.record import CardRecord
from zoo.specs.release import Position

_PLACES = {
    Position.AFTER_PROMPT: "after the conversation, which is rendered **without** a generation prompt",
    Position.GENERATION_PROMPT: "it is the end of the chat template's own generation prompt",
    Position.IN_MESSAGE: "inside the last message, written there by whoever makes the request",
}
_QUESTION = "Is the passage about rivers relevant to a question about bridges?"


def invocation(record: CardRecord) -> str:
    """The invocation: text, ids, place."""
    spec = record.release.invocation
    ids = record.config.alora_invocation_tokens
    return (
        "## Invocation\n\n"
        f"- text: {code(spec.text)}\n"
        f"- token ids: {code(str(ids)) if ids else '**none: this adapter never activates**'}\n"
        f"- place: {_PLACES[spec.position]}\n\n"
        "The adapter acts from the first token of the **last** occurrence of these ids to the end of the "
        "sequence. Without an occurrence the model is the base model. The ids must come out of tokenising "
        "the whole prompt in one piece; text that merges with its neighbours does not activate it."
    )


def usage(record: CardRecord) -> str:
    """How to use it: programs that run as printed."""
    asked = asking(record)
    parts = [
        "## How to use",
        *(
            [
                "With alora-zoo, which rewrites a request and reads the reply as `io.yaml` says:",
                block(asked, "python"),
                "With PEFT alone; rewriting the request and reading the reply are then yours:",
            ]
            if asked
            else []
        ),
        "The prefix is computed once with the base model, and its KV cache is handed to the adapter; "
        "a server that has answered with the base model already has that cache.",
        block(snippet(record), "python"),
    ]
    return "\n\n".join(parts)


def asking(record: CardRecord) -> str:
    """The program that asks through the contract; empty where there is none, or no sample request."""
    if record.contract is None or record.contract.result is None or not record.release.requests:
        return ""
    sample = record.release.requests[0]
    source = f"{record.hub_id}@{record.tag}" if record.hub_id else "."
    given = f", {_data(sample.arguments)}" if sample.arguments else ""
    return "\n".join(
        [
            "from zoo.intrinsic import Intrinsic  # pip install alora-zoo",
            "",
            f"intrinsic = Intrinsic.load({_literal(source)})" + ("" if record.hub_id else "  # this folder"),
            f"request = {_data(sample.as_request())}",
            f"answer = intrinsic.ask(request{given})",
            "print(answer.result)",
        ]
    )


def _data(value: dict[str, Any]) -> str:
    """Texts and numbers as Python, which is JSON then: the same in every version of Python."""
    return json.dumps(value, indent=4, ensure_ascii=False)


def snippet(record: CardRecord) -> str:
    """The program in the section about use."""
    spec = record.release.invocation
    after = spec.position is Position.AFTER_PROMPT
    rendering = "tokenize=False" if after else "tokenize=False, add_generation_prompt=True"
    adapter = _published(record) if record.hub_id else '"."'
    local = "" if record.hub_id else "  # this folder"
    lines = [
        "import torch",
        "from peft import PeftModel",
        "from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache",
        "",
        *load_base(record),
        f"model = PeftModel.from_pretrained(model, {adapter}){local}",
        "",
        f"messages = {_messages(record)}",
        f"text = tokenizer.apply_chat_template(messages, {rendering})",
        *([f"text += {_literal(spec.text)}  # the invocation"] if after else []),
        'ids = tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids',
        'invocation = model.peft_config["default"].alora_invocation_tokens',
        "size = len(invocation)",
        "start = max(i for i in range(ids.shape[1]) if ids[0, i : i + size].tolist() == invocation)",
        "",
        "cache = DynamicCache(config=model.config)",
        "with torch.no_grad(), model.disable_adapter():  # the prefix, by the base model",
        "    model(input_ids=ids[:, :start], past_key_values=cache)",
        "answer = model.generate(",
        "    input_ids=ids, attention_mask=torch.ones_like(ids), past_key_values=cache,",
        "    max_new_tokens=16, do_sample=False,",
        ")",
        "print(tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True))",
    ]
    return "\n".join(lines)


def _published(record: CardRecord) -> str:
    place = record.place
    folder = f', subfolder="{place.folder}"' if place.folder else ""
    return f'"{place.repo}"{folder}, revision="{record.tag}"'


def load_base(record: CardRecord, *, tokenizer: bool = True) -> list[str]:
    """The lines that load the base as `model`, and its `tokenizer` unless it is not wanted."""
    base = record.release.base
    if base.embedded:  # the Hub's own weights of this name are other ones: nothing here was measured on them
        return [
            "from zoo.models import resolve  # pip install alora-zoo",
            *([""] if tokenizer else []),
            f"base = resolve({_literal(base.embedded)}).folder  # the weights it was made and checked on",
            *(["tokenizer = AutoTokenizer.from_pretrained(base)"] if tokenizer else []),
            "model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)",
        ]
    pinned = ", revision=commit" if base.revision else ""
    return [
        f"base = {_literal(base.id)}",
        *([f'commit = "{base.revision}"'] if base.revision else []),
        *([f"tokenizer = AutoTokenizer.from_pretrained(base{pinned})"] if tokenizer else []),
        f"model = AutoModelForCausalLM.from_pretrained(base{pinned}, dtype=torch.float32)",
    ]


def _messages(record: CardRecord) -> str:
    release = record.release
    if release.samples:
        messages = [(message.role, message.content) for message in release.samples[0]]
    elif release.invocation.position is Position.IN_MESSAGE:
        messages = [("user", f"{_QUESTION}\n{release.invocation.text}")]
    else:
        messages = [("user", _QUESTION)]
    inside = "".join(f'    {{"role": {_literal(r)}, "content": {_literal(c)}}},\n' for r, c in messages)
    return f"[\n{inside}]"


def _literal(text: str) -> str:
    """A Python literal, in double quotes where that needs no escaping."""
    shown = repr(text)
    return f'"{shown[1:-1]}"' if re.fullmatch(r"'[^'\"]*'", shown) else shown
