"""Forward calls captured as CUDA graphs: some thousand kernels start as one."""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Shape = tuple[int, int]
WARM_UPS = 2  # before a capture: libraries choose their kernels then


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """One graph with the memory it reads from and writes to.

    Attributes:
        graph: a `torch.cuda.CUDAGraph`.
        inputs: what it reads.
        output: what it writes; the next replay of any graph may overwrite it.
    """

    graph: Any
    inputs: tuple["Tensor", ...]
    output: "Tensor"


class Graphs:
    """Graphs by model and shape, captured on first use.

    A graph holds its weights' addresses, so each adapter has its own. Copying merged weights into one fixed
    place would save the capture, a fraction of a second once an adapter, and cost a copy at each change of
    adapter, a second set of the weights, and a state to keep right. All graphs share one memory pool.
    """

    def __init__(self) -> None:
        """Starts with none."""
        self._captured: WeakKeyDictionary[PreTrainedModel, dict[Shape, Captured]] = WeakKeyDictionary()
        self._pool: Any = None

    def run(
        self,
        model: "PreTrainedModel",
        shape: Shape,
        inputs: tuple["Tensor", ...],
        call: Callable[..., "Tensor"],
    ) -> "Tensor":
        """The result of `call(*inputs)`, from a graph.

        Args:
            model: whose weights the call reads.
            shape: inputs of one shape share a graph.
            inputs: on the GPU.
            call: has no effect but its result and writes into memory that outlives it.

        Returns:
            The result, valid until the next run.
        """
        known = self._captured.setdefault(model, {})
        if shape not in known:
            known[shape] = self._capture(inputs, call)
        captured = known[shape]
        for target, source in zip(captured.inputs, inputs, strict=True):
            target.copy_(source)
        captured.graph.replay()
        return captured.output

    def clear(self) -> None:
        """Forgets every graph."""
        self._captured.clear()

    def _capture(self, inputs: tuple["Tensor", ...], call: Callable[..., "Tensor"]) -> Captured:
        """Captures a call; its warm-ups compute with the real inputs, so they write nothing else."""
        import torch

        gc.collect()  # a pool is gone with its last graph, so those of dropped adapters have to be gone now
        if not any(self._captured.values()):
            self._pool = torch.cuda.graph_pool_handle()
        kept = tuple(tensor.clone() for tensor in inputs)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                call(*kept)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = call(*kept)
        return Captured(graph=graph, inputs=kept, output=output)
