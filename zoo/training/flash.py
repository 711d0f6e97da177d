"""Attention of packed rows on packed prefixes in two kernel calls, at shapes that do not change.

Each row attends to its prefix and to itself apart; the two are joined by their log-sum-exps, and the backward
kernels are given the joined output and log-sum-exp, from which each part's gradients are exact. The heads
that share a key head stand as further queries of the prefix call, so keys are never repeated.
Source: Dao 2023, arXiv 2307.08691, section 3.1; joining as in Liu et al. 2023, arXiv 2310.01889, section 3.
The joining is tested against `zoo.training.exact` on the CPU, the kernels against it on a GPU.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoo.errors import UndecidedError
from zoo.training.exact import Rule
from zoo.training.node import node

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Which queries meet which keys.

    Attributes:
        queries: where each row begins among the queries, and where the last one ends, int32 `[rows + 1]`.
        keys: the same of the keys.
        longest_query: tokens of the longest row, or more.
        longest_key: likewise.
        causal: whether a query sees only keys up to its own place.
        scale: of the scores.
    """

    queries: "Tensor"
    keys: "Tensor"
    longest_query: int
    longest_key: int
    causal: bool
    scale: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """Attention of packed rows.

    Attributes:
        forward: query, key, value `[tokens, heads, head]` and lines: output, log-sum-exp `[heads, tokens]`.
        backward: gradient, query, key, value, output, log-sum-exp, lines: gradients of query, key, value.
    """

    forward: "Callable[[Tensor, Tensor, Tensor, Lines], tuple[Tensor, Tensor]]"
    backward: "Callable[..., tuple[Tensor, Tensor, Tensor]]"


def attend(
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    prefix: "tuple[Tensor, Tensor]",
    own: Lines,
    before: Lines,
    kernel: Kernel,
) -> "Tensor":
    """Attention of every row to its prefix and its own earlier tokens.

    Args:
        query: `[heads, tokens, head]`.
        key: `[kv_heads, tokens, head]`.
        value: likewise.
        prefix: keys and values of all prefixes, `[capacity, kv_heads, head]`; no gradients.
        own: rows against themselves.
        before: rows, each token once per head of a group, against prefixes.
        kernel: which computes.

    Returns:
        `[heads, tokens, head]`.
    """
    found: Tensor = node(_joined, _joined_back)(query, key, value, prefix, own, before, kernel)
    return found


def _joined(
    ctx: Any,
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    prefix: "tuple[Tensor, Tensor]",
    own: Lines,
    before: Lines,
    kernel: Kernel,
) -> "Tensor":
    import torch

    groups = query.shape[0] // key.shape[0]
    q, k, v = (_repeated(x, n) for x, n in ((query, 1), (key, groups), (value, groups)))
    mine, mine_lse = kernel.forward(q, k, v, own)
    theirs, theirs_lse = kernel.forward(_folded(q, groups), *prefix, before)
    theirs = _unfolded(theirs, groups)
    # a row without a prefix saw nothing there: kernels say so by an infinity of either sign, and may
    # leave its output unwritten
    theirs_lse = _unfolded_lse(theirs_lse, groups)
    empty = theirs_lse.isinf()
    theirs_lse = theirs_lse.masked_fill(empty, -torch.inf)
    theirs = theirs.masked_fill(empty.T[..., None], 0.0)
    lse = torch.logaddexp(mine_lse, theirs_lse)
    shares = [(part - lse).exp().T[..., None] for part in (mine_lse, theirs_lse)]
    out = (mine.float() * shares[0] + theirs.float() * shares[1]).to(query.dtype)
    ctx.save_for_backward(q, k, v, *prefix, out, lse, empty)
    ctx.own, ctx.before, ctx.kernel, ctx.groups = own, before, kernel, groups
    return out.transpose(0, 1)


def _joined_back(ctx: Any, *grads: "Tensor") -> "tuple[Tensor | None, ...]":
    q, k, v, prefix_k, prefix_v, out, lse, empty = ctx.saved_tensors
    groups, grad = ctx.groups, grads[0].transpose(0, 1).contiguous()
    grad_q, grad_k, grad_v = ctx.kernel.backward(grad, q, k, v, out, lse, ctx.own)
    wish, queries, given = (_folded(x, groups) for x in (grad, q, out))
    theirs, _, _ = ctx.kernel.backward(
        wish, queries, prefix_k, prefix_v, given, _folded_lse(lse, groups), ctx.before
    )
    grad_q = grad_q + _unfolded(theirs, groups).masked_fill(empty.T[..., None], 0.0)
    grad_k, grad_v = (
        x.view(x.shape[0], -1, groups, x.shape[2]).sum(dim=2).transpose(0, 1) for x in (grad_k, grad_v)
    )
    return grad_q.transpose(0, 1), grad_k, grad_v, None, None, None, None


def _repeated(x: "Tensor", times: int) -> "Tensor":
    """`[heads, tokens, head]` as `[tokens, heads * times, head]`, each head as often as it serves."""
    return x.repeat_interleave(times, dim=0).transpose(0, 1).contiguous()


def _folded(x: "Tensor", groups: int) -> "Tensor":
    """`[tokens, kv_heads * groups, head]` as `[tokens * groups, kv_heads, head]`."""
    tokens, heads, head = x.shape
    return x.reshape(tokens, heads // groups, groups, head).transpose(1, 2).reshape(-1, heads // groups, head)


def _unfolded(x: "Tensor", groups: int) -> "Tensor":
    """The way back from `_folded`."""
    tokens, heads, head = x.shape
    return x.view(-1, groups, heads, head).transpose(1, 2).reshape(tokens // groups, -1, head)


def _folded_lse(lse: "Tensor", groups: int) -> "Tensor":
    """`[kv_heads * groups, tokens]` as `[kv_heads, tokens * groups]`."""
    heads, tokens = lse.shape
    return lse.view(-1, groups, tokens).transpose(1, 2).reshape(heads // groups, -1)


def _unfolded_lse(lse: "Tensor", groups: int) -> "Tensor":
    """The way back from `_folded_lse`."""
    heads, tokens = lse.shape
    return lse.view(heads, -1, groups).transpose(1, 2).reshape(-1, tokens // groups)


def _cuda_forward(query: "Tensor", key: "Tensor", value: "Tensor", lines: Lines) -> "tuple[Tensor, Tensor]":
    import torch

    out, lse, *_ = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        lines.queries,
        lines.keys,
        lines.longest_query,
        lines.longest_key,
        0.0,
        lines.causal,
        return_debug_mask=False,
        scale=lines.scale,
    )
    if lse.shape != (query.shape[1], query.shape[0]):
        raise UndecidedError("this torch lays out the log-sum-exp of packed rows in another way")
    return out, lse


def _cuda_backward(
    grad: "Tensor",
    query: "Tensor",
    key: "Tensor",
    value: "Tensor",
    out: "Tensor",
    lse: "Tensor",
    lines: Lines,
) -> "tuple[Tensor, Tensor, Tensor]":
    import torch

    unused = torch.empty(0, device=query.device)
    state = torch.zeros(2, dtype=torch.uint64, device=query.device)  # of dropout, of which there is none
    with _in_one_order():
        found: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._flash_attention_backward(
            grad,
            query,
            key,
            value,
            out,
            lse,
            lines.queries,
            lines.keys,
            lines.longest_query,
            lines.longest_key,
            0.0,
            lines.causal,
            state,
            unused,
            scale=lines.scale,
        )
    return found


@contextmanager
def _in_one_order() -> "Iterator[None]":
    """In the block, the backward kernel adds in one order: else a training is not repeated bit for bit."""
    import torch

    settings: Any = torch.utils.deterministic
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    filled = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        settings.fill_uninitialized_memory = filled


CUDA = Kernel(forward=_cuda_forward, backward=_cuda_backward)


def usable(rule: Rule, dtype: Any, head: int) -> bool:
    """Whether the kernels compute what a layer asks for: no window, no soft cap, half precision."""
    import torch

    half = dtype in (torch.bfloat16, torch.float16)
    return rule.window is None and rule.softcap is None and half and head <= 256
