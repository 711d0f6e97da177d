"""Attention of packed rows, each on its own stored prefix: nothing is padded, copied or repeated by head.

transformers is given an attention function of ours for the time of a pass. The tokens of all rows stand in
one line `[1, tokens]`; a row sees the pieces of its prefix where they lie and its own earlier tokens. Keys
and values of a prefix are constants: only queries get gradients through them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from zoo.errors import UndecidedError
from zoo.training.exact import Row, Rule, run_rows
from zoo.training.prefill import prefill_rows
from zoo.training.ragged import Ragged

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

NAME = "zoo_packed"
# of a layer's arguments, those that would change what is computed and are not computed here
_FOREIGN = ("s_aux", "position_bias", "attention_bias", "alibi")
# what `layer_types` of a config may hold; others are recurrent or chunked
_KNOWN_LAYERS = frozenset({"full_attention", "sliding_attention"})
_CONFIGS: WeakKeyDictionary["PreTrainedModel", list[Any]] = WeakKeyDictionary()


class Stopped(Exception):  # noqa: N818  # no error: a pass that has done what it was for
    """Ends a pass once the last layer's keys and values are known: what follows is not needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What the attention function has to know of the pass it is called in.

    Attributes:
        rows: of the line.
        keep: takes each layer's keys and values, `[kv_heads, tokens, head]`; such a pass has no gradients.
        last: the layer after whose keys and values a pass that keeps them ends.
        attend: another way to compute a layer, for static shapes on a device: query `[heads, tokens, head]`,
            keys, values, rule, layer; the same shape as the query.
        order: of the line's tokens as `rows` have them, and the way back, int64 `[tokens]` each; None where
            the rows stand in the line as they are.
        ragged: the rows for a kernel that takes them at once, in layers that it serves; has no gradients.
    """

    rows: Sequence[Row]
    keep: "Callable[[int, Tensor, Tensor], None] | None" = None
    last: int = -1
    attend: Callable[..., "Tensor"] | None = None
    order: "tuple[Tensor, Tensor] | None" = None
    ragged: Ragged | None = None


def shown(given: Pass, see: "Callable[[int, Tensor, Tensor, Rule], None]") -> Pass:
    """The same pass, of which every layer's queries and keys are shown before they are used.

    Args:
        given: any pass.
        see: takes a layer's number, its queries `[heads, tokens, head]` and keys `[kv_heads, tokens, head]`
            of the line as they are scored, and its rule.
    """

    def attend(query: "Tensor", key: "Tensor", value: "Tensor", rule: Rule, layer: int) -> "Tensor":
        see(layer, query, key, rule)
        return _computed(given, query, key, value, rule, layer)

    return replace(given, attend=attend)


_PASS: ContextVar[Pass | None] = ContextVar("packed_pass", default=None)


def packable(model: "PreTrainedModel") -> bool:
    """Whether all layers attend through transformers' interface, to all earlier tokens or a window."""
    if not getattr(model, "_supports_attention_backend", False):
        return False
    config: Any = model.config
    if getattr(config, "is_encoder_decoder", False) or not getattr(config, "is_causal", True):
        return False
    text = config.get_text_config(decoder=True)
    kinds = set(getattr(text, "layer_types", None) or ())
    # a layer that takes its keys from an earlier one, or adds learnt sinks, needs more than its own tokens
    shares = getattr(text, "num_kv_shared_layers", 0) or getattr(text, "model_type", "") == "gpt_oss"
    # phi3's longrope and its like choose their frequencies by the longest position of a call
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    dynamic = "longrope" in str(rope) or "dynamic" in str(rope)
    return kinds <= _KNOWN_LAYERS and not shares and not dynamic


@contextmanager
def packed(model: "PreTrainedModel", given: Pass) -> Iterator[None]:
    """In the block, the model attends as a packed pass says."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)
    configs = _CONFIGS.get(model)
    if configs is None:
        found = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}
        configs = _CONFIGS[model] = [c for c in found.values() if hasattr(c, "_attn_implementation_internal")]
    before = [config._attn_implementation_internal for config in configs]
    token = _PASS.set(given)
    try:
        for config in configs:
            config._attn_implementation_internal = NAME
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation_internal = name
        _PASS.reset(token)


def _attend(
    module: "nn.Module",
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    attention_mask: "Tensor | None",
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **more: Any,
) -> "tuple[Tensor, None]":
    """What transformers calls in each layer: query `[1, heads, tokens, head]`, keys and values by kv head."""
    given, layer = _PASS.get(), getattr(module, "layer_idx", None)
    foreign = [name for name in _FOREIGN if more.get(name) is not None]
    if given is None or layer is None or attention_mask is not None or dropout or foreign:
        raise UndecidedError(f"{type(module).__name__} attends in a way that a packed pass does not know")
    rule = Rule(
        scale=query.shape[-1] ** -0.5 if scaling is None else scaling, window=sliding_window, softcap=softcap
    )
    if given.keep is not None:
        given.keep(layer, key[0], value[0])
        if layer == given.last:
            raise Stopped
    return _computed(given, query[0], key[0], value[0], rule, layer).transpose(0, 1)[None], None


def _computed(
    given: Pass, query: "Tensor", key: "Tensor", value: "Tensor", rule: Rule, layer: int
) -> "Tensor":
    """One layer, `[heads, tokens, head]`, in the way that serves it best."""
    if given.attend is not None:
        return given.attend(query, key, value, rule, layer)
    if given.order is not None:
        there, _ = given.order
        query, key, value = (x.index_select(1, there) for x in (query, key, value))
    if given.ragged is not None and given.ragged.serves(query, value, rule):
        out = given.ragged.attend(query, key, value, rule, layer)
    elif given.keep is not None:
        out = prefill_rows(query, key, value, given.rows, rule, layer)
    else:
        out = run_rows(query, key, value, given.rows, rule, layer)
    return out if given.order is None else out.index_select(1, given.order[1])
