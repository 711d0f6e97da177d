"""Operations with gradients of our own, made when they are first used: torch is not imported before."""

from collections.abc import Callable
from functools import cache
from typing import Any


@cache
def node(forward: Callable[..., Any], backward: Callable[..., Any]) -> Callable[..., Any]:
    """One node of autograd's graph.

    Args:
        forward: the context and the arguments: the result.
        backward: the context and the result's gradient: the arguments' gradients.
    """
    import torch

    body = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    made: Any = type(forward.__name__, (torch.autograd.Function,), body)
    found: Callable[..., Any] = made.apply
    return found
