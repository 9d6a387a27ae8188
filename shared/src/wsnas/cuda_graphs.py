"""CUDA graphs, because launching kernels dominates a small network: a function for many batches, a chain of graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

try:  # comes with torch for CUDA from 2.10
    from cuda.bindings import runtime
except ImportError:
    runtime = None

CAN_CHAIN = runtime is not None and hasattr(torch.cuda.CUDAGraph, "raw_cuda_graph")


def captured(work: Callable[[], Any], stream: torch.cuda.Stream, pool: Any, chained: bool = False) -> Any:
    """``work()`` as a graph, not yet run, with its memory in ``pool``; ``chained``: only for use in ``Chains``."""
    graph = torch.cuda.CUDAGraph(keep_graph=True) if chained else torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            work()
        finally:
            graph.capture_end()
    return graph


def replayed(function: Callable[..., None]) -> Callable[..., None]:
    """``function(*tensors)`` for a series of batches; on CUDA, one graph from the second call on.

    ``function`` only adds to tensors that stay where they are, and never waits for the GPU. Its first call runs
    plainly, as do calls with other shapes than the first.
    """
    shapes: list[torch.Size] = []
    inputs: list[Tensor] = []
    graph: Any = None

    def call(*tensors: Tensor) -> None:
        nonlocal graph
        same = [tensor.shape for tensor in tensors] == shapes
        if not same or not tensors[0].is_cuda:
            shapes[:] = shapes or [tensor.shape for tensor in tensors]
            function(*tensors)
            return
        if graph is None:
            inputs[:] = [tensor.clone() for tensor in tensors]
            stream = torch.cuda.Stream(tensors[0].device)  # type: ignore[no-untyped-call, unused-ignore]
            stream.wait_stream(torch.cuda.current_stream(tensors[0].device))
            make_room(tensors[0].device)
            graph = captured(lambda: function(*inputs), stream, torch.cuda.graph_pool_handle())
            torch.cuda.current_stream(tensors[0].device).wait_stream(stream)
        for buffer, tensor in zip(inputs, tensors, strict=True):
            buffer.copy_(tensor)
        graph.replay()

    return call


def make_room(device: torch.device) -> None:
    """Before a capture: gives back the memory of graphs that are gone, if less than half of the GPU's is free.

    Each graph has a pool of its own, which torch keeps for graphs to come, and does not give up during a capture.
    """
    free, total = torch.cuda.mem_get_info(device)
    if 2 * free < total:
        torch.cuda.synchronize(device)  # the last graphs may still run, on other streams than their memory's
        torch.cuda.empty_cache()


class Chains:
    """Runs graphs one after the other as a single graph, which a thread can prepare while the GPU is busy.

    Launching about a hundred graphs, one at a time, took an H100 twice as long as one graph of the same kernels.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.waiting: dict[Any, Future[Any]] = {}
        self.builder, self.remover = ThreadPoolExecutor(1), ThreadPoolExecutor(1)  # graphs are not thread-safe

    def prepare(self, name: Any, graphs: Sequence[Any]) -> None:
        if name not in self.waiting:
            self.waiting[name] = self.builder.submit(self._build, graphs)

    def run(self, name: Any, graphs: Sequence[Any]) -> None:
        """Launches the chain on the current stream; does not wait for it."""
        self.prepare(name, graphs)
        whole = self.waiting.pop(name).result()
        with torch.cuda.device(self.device):  # whose default stream it may be
            checked(runtime.cudaGraphLaunch(whole, torch.cuda.current_stream(self.device).cuda_stream))
        self.remover.submit(self._destroy, whole)  # waits for its end

    def _destroy(self, whole: Any) -> None:
        with torch.cuda.device(self.device):  # a thread begins on GPU 0
            runtime.cudaGraphExecDestroy(whole)

    def _build(self, graphs: Sequence[Any]) -> Any:
        with torch.cuda.device(self.device):
            chain, last = checked(runtime.cudaGraphCreate(0)), list[Any]()
            for graph in graphs:
                child = runtime.cudaGraph_t(graph.raw_cuda_graph())
                last = [checked(runtime.cudaGraphAddChildGraphNode(chain, last, len(last), child))]
            whole = checked(runtime.cudaGraphInstantiate(chain, 0))
            checked(runtime.cudaGraphDestroy(chain))
            return whole


def checked(returned: tuple[Any, ...]) -> Any:
    """The result of a call of the CUDA runtime. Raises RuntimeError if it failed."""
    error, *results = returned
    if error != runtime.cudaError_t.cudaSuccess:
        raise RuntimeError(f"CUDA error: {error.name}")
    return results[0] if results else None
