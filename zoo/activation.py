"""Where an activated LoRA acts: the rule, written once, and every engine's deviation from it as data.

The rule is PEFT's (>= 0.18): the adapter acts from the first token of the *last* full occurrence of the
invocation ids to the end; without an occurrence the row is the base model's.
Source: peft 0.21.2, tuners/lora/variants.py, `calculate_alora_offsets` and `ALoraLinearVariant.forward`.

Everything here is pure and works on plain lists of token ids.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never


class Behaviour(enum.Enum):
    """What an engine does with an adapter that carries invocation tokens."""

    ACTIVATED = "activated"
    NEVER_ACTIVE = "never active: silently the base model"
    PLAIN_LORA = "silently a plain LoRA on every token"
    REFUSED = "refused at load"


class History(enum.Enum):
    """What an engine served last, where that can leave something in its cache for the next request."""

    BASE_AGAIN = "the base model asked again after the adapter"
    LATER_TURN = "a later turn that invokes the adapter again"
    INVOCATION_FIRST = "a prompt that begins with the invocation, after the base model ran it"
    MISSED = "the base model after an invocation that is followed by its own last token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """What one engine does with an activated LoRA.

    Attributes:
        engine: the engine's name.
        versions: which of its versions this describes.
        behaviour: the kind of treatment.
        shift: tokens added to the rule's start; -1 is one token early. The result never goes below 0.
        rescans_suffix_only: its backward matcher restarts without looking at the current token again, so
            an invocation that is followed by its own last token is missed.
        taints: after which its cache is known to give another answer than a cold run.
        workaround: what keeps the taints away.
        note: one sentence for people.
        source: the upstream file or run that this was read off.
    """

    engine: str
    versions: str
    behaviour: Behaviour
    shift: int = 0
    rescans_suffix_only: bool = False
    taints: frozenset[History] = frozenset()
    workaround: str = ""
    note: str = ""
    source: str = ""


PEFT = Convention(
    engine="peft",
    versions=">=0.18",
    behaviour=Behaviour.ACTIVATED,
    note="the rule; load with PeftModel.from_pretrained and task_type CAUSAL_LM",
    source="peft 0.21.2, tuners/lora/variants.py",
)
LLAMA_SERVER = Convention(
    engine="llama-server",
    versions="since PR 15327 (2025-09)",
    behaviour=Behaviour.ACTIVATED,
    shift=-1,
    rescans_suffix_only=True,
    taints=frozenset({History.LATER_TURN, History.INVOCATION_FIRST, History.MISSED}),
    workaround='"cache_prompt": false in every request, which also gives up the reuse',
    note="activates one token early and misses an invocation followed by its own last token",
    source="ggml-org/llama.cpp@0c1e57098, tools/server/server-context.cpp:1724-1742",
)
ALORA_LEGACY = Convention(
    engine="alora",
    versions="0.3.0, generate",
    behaviour=Behaviour.ACTIVATED,
    shift=1,
    note="the deprecated package: generate starts one token late, its training forward at the first token",
    source="alora 0.3.0, alora/peft_model_alora.py:1589, 1785",
)
TRANSFORMERS = Convention(
    engine="transformers",
    versions="5.23",
    behaviour=Behaviour.NEVER_ACTIVE,
    note="load_adapter and AutoModelForCausalLM.from_pretrained(adapter) never activate it",
    source="transformers 5.23.0, run against PEFT",
)
VLLM_OLD = Convention(
    engine="vllm",
    versions="<=0.31",
    behaviour=Behaviour.PLAIN_LORA,
    note="drops the unknown config key",
    source="vllm 0.25.0 to 0.31.0, vllm/lora/peft_helper.py",
)
VLLM = Convention(
    engine="vllm",
    versions="0.32, 0.33",
    behaviour=Behaviour.REFUSED,
    note='"vLLM does not support Activated LoRA (aLoRA)."',
    source="vllm 0.33.0, vllm/lora/peft_helper.py:79",
)
SGLANG = Convention(
    engine="sglang",
    versions="0.5.23",
    behaviour=Behaviour.PLAIN_LORA,
    note="reads r, alpha and targets only",
    source="sglang 0.5.23, srt/lora/lora_config.py:42",
)

CONVENTIONS: tuple[Convention, ...] = (
    PEFT,
    LLAMA_SERVER,
    ALORA_LEGACY,
    TRANSFORMERS,
    VLLM_OLD,
    VLLM,
    SGLANG,
)


def occurrences(ids: Sequence[int], invocation: Sequence[int]) -> list[int]:
    """Every position at which the whole invocation starts, overlapping ones included.

    Args:
        ids: token ids of one row.
        invocation: token ids, at least one.

    Returns:
        Start positions, ascending.

    Raises:
        ValueError: `invocation` is empty.
    """
    if not invocation:
        raise ValueError("the invocation is empty")
    wanted = list(invocation)
    width = len(wanted)
    first = wanted[0]  # compared by itself, so that a slice is made for candidates only
    return [i for i in range(len(ids) - width + 1) if ids[i] == first and list(ids[i : i + width]) == wanted]


def invocation_start(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    """The position from which the adapter acts: the first token of the last occurrence, or None.

    Raises:
        ValueError: `invocation` is empty.
    """
    found = occurrences(ids, invocation)
    return found[-1] if found else None


def active_mask(ids: Sequence[int], invocation: Sequence[int], convention: Convention = PEFT) -> list[bool]:
    """The positions of one row at which an engine applies the adapter.

    Args:
        ids: token ids of one row, the prompt and everything decoded after it.
        invocation: token ids, at least one.
        convention: whose rule; PEFT's unless told.

    Returns:
        One truth value a position.

    Raises:
        ValueError: `invocation` is empty, or the engine refuses the adapter and so has no mask.
    """
    match convention.behaviour:
        case Behaviour.NEVER_ACTIVE:
            return [False] * len(ids)
        case Behaviour.PLAIN_LORA:
            return [True] * len(ids)
        case Behaviour.REFUSED:
            raise ValueError(f"{convention.engine} {convention.versions} refuses an activated LoRA")
        case Behaviour.ACTIVATED:
            find = _backward_scan if convention.rescans_suffix_only else invocation_start
            return _active_from(find(ids, invocation), len(ids), convention.shift)
        case _ as unreachable:
            assert_never(unreachable)


def _active_from(start: int | None, length: int, shift: int) -> list[bool]:
    if start is None:
        return [False] * length
    first = max(0, start + shift)
    return [position >= first for position in range(length)]


def _backward_scan(ids: Sequence[int], invocation: Sequence[int]) -> int | None:
    """llama-server's matcher: a mismatch restarts the match without looking at the current token again.

    Source: ggml-org/llama.cpp@0c1e57098, tools/server/server-context.cpp:1724-1742.
    """
    if not invocation:
        raise ValueError("the invocation is empty")
    wanted = len(invocation) - 1
    for position in range(len(ids) - 1, -1, -1):
        if ids[position] == invocation[wanted]:
            if wanted == 0:
                return position
            wanted -= 1
        else:
            wanted = len(invocation) - 1
    return None


def matcher_agrees(invocation: Sequence[int]) -> bool:
    """Whether llama-server's matcher finds this invocation wherever the rule does.

    It can miss an occurrence when the last id stands elsewhere in the sequence, or when the prompt goes on
    after it with an end of the sequence (`… b c` followed by `c`, or by `b c`); only the first is a property
    of the invocation, so this is a necessary condition.

    Raises:
        ValueError: `invocation` is empty.
    """
    if not invocation:
        raise ValueError("the invocation is empty")
    return invocation[-1] not in list(invocation[:-1])
