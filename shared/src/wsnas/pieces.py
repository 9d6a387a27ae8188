"""A supernet's training step from captured pieces, because launching kernels otherwise dominates it on a GPU.

A random path cannot be captured as one CUDA graph, but its parts can. A piece adds a function of one node to another
node (an operation on an edge, a block); nodes and their gradients are fixed buffers. Each piece is recorded once,
forward and backward; a step runs the pieces of its path in order, then their gradients in reverse, without autograd:
one launch instead of 700 kernels in NAS-Bench-201's supernet (one launch per piece without ``cuda.bindings``). On a CPU
the same schedule runs as plain calls, with the loss, gradients and running statistics of the ordinary step.

A supernet supports this with a method ``pieces(path)`` that yields its ``Piece``s in an order in which every node is
complete before it is read. A piece is recorded when a path first needs it: ``function`` must do the same every time.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wsnas.cuda_graphs import CAN_CHAIN, Chains, captured, make_room

INPUT, LOGITS, LOSS = "input", "logits", "loss"  # the nodes of every supernet


class Piece(NamedTuple):
    """``target += function(source)``: nodes by name, the first from ``INPUT``, the last to ``LOGITS``."""

    slot: Hashable  # a path has at most one piece per slot, so pieces of a slot share memory
    choice: Hashable  # which of the slot's
    source: Hashable
    target: Hashable
    function: Callable[[Tensor], Tensor]


class Node:
    """A value and its gradient, buffers of one shape, dtype and layout; the images have no gradient."""

    def __init__(self, like: Tensor, has_gradient: bool = True) -> None:
        self.value = torch.empty_like(like, requires_grad=False)
        self.gradient = torch.empty_like(self.value) if has_gradient else None


class Recorded:
    """A recorded piece; ``sets``: whether it is the first to write its target, and its source's gradient."""

    def __init__(self, piece: Piece, sets: tuple[bool, bool], nodes: dict[Hashable, Node], amp: bool) -> None:
        self.piece, self.sets, self.nodes, self.amp = piece, sets, nodes, amp
        self.parameters: list[nn.Parameter] = []
        self.gradients: list[Tensor] = []  # of the parameters, after ``backward``

    def forward(self) -> None:
        source = self.nodes[self.piece.source]
        self.leaf = source.value.detach().requires_grad_(source.gradient is not None)
        with torch.enable_grad(), torch.autocast(self.leaf.device.type, torch.bfloat16, self.amp, cache_enabled=False):
            self.out = self.piece.function(self.leaf)
        target = self.nodes.get(self.piece.target)
        if target is None:
            target = self.nodes[self.piece.target] = Node(self.out)
        write(target.value, self.out.detach(), self.sets[0])

    def backward(self) -> None:
        source, target = self.nodes[self.piece.source], self.nodes[self.piece.target]
        inputs = [*self.parameters, *([self.leaf] if source.gradient is not None else [])]
        found = torch.autograd.grad(self.out, inputs, target.gradient, allow_unused=True)
        # in their parameters' layout, which is fast for optimizers
        self.gradients = [
            g if g.stride() == p.stride() else torch.empty_like(p).copy_(g)
            for p, g in zip(self.parameters, found, strict=False)
        ]
        if source.gradient is not None:
            write(source.gradient, found[-1], self.sets[1])
        del self.leaf, self.out

    def find_parameters(self, candidates: list[nn.Parameter]) -> None:
        """Those of ``candidates`` that ``function`` uses."""
        self.forward()
        target = self.nodes[self.piece.target]
        found = torch.autograd.grad(self.out, candidates, target.gradient, allow_unused=True)
        self.parameters = [p for p, g in zip(candidates, found, strict=True) if g is not None]
        del self.leaf, self.out

    def capture(self, stream: torch.cuda.Stream, pool: Any) -> None:
        """Captures forward and backward as CUDA graphs, with their shared buffers and results in ``pool``."""
        self.graphs = [captured(work, stream, pool, CAN_CHAIN) for work in (self.forward, self.backward)]


def write(buffer: Tensor, value: Tensor | None, first: bool) -> None:
    """Sets or adds; None means the function does not depend on its source."""
    if value is None:
        if first:
            buffer.zero_()
    elif first:
        buffer.copy_(value)
    else:
        buffer.add_(value)


class Pieces:
    """``pieces(x, y, [(path, weight), ...], upcoming)`` writes the step's gradients to ``p.grad`` and returns its loss.

    ``upcoming``: the next step, to be prepared while the GPU computes this one. The loss is valid until the next step.
    ``model`` is in train mode and has the method ``pieces``; ``loss(logits, y)`` -> scalar. The gradient of unused
    parameters is None. All steps have the same batch size. Paths are hashable.
    """

    def __init__(self, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], amp: bool) -> None:
        self.model, self.loss, self.amp = model, loss, amp
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.nodes: dict[Hashable, Node] = {}
        self.recorded: dict[Hashable, Recorded] = {}
        self.pools: dict[Hashable, Any] = {}
        self.sums: dict[nn.Parameter, Tensor] = {}  # gradients of a step of several paths

    def __call__(
        self, x: Tensor, y: Tensor, step: Sequence[tuple[Any, float]], upcoming: Sequence[tuple[Any, float]] = ()
    ) -> Tensor:
        if not self.nodes:
            self._start(x, y)
        self.nodes[INPUT].value.copy_(x)
        self.y.copy_(y)
        self.total.zero_()
        for p in self.parameters:
            p.grad = None
        for path, weight in step:
            self.weight.fill_(weight)
            pieces = self._of(path)
            if not x.is_cuda:
                for piece in pieces:
                    piece.forward()
                for piece in reversed(pieces):
                    piece.backward()
            elif CAN_CHAIN:
                self.chains.run(path, graphs_of(pieces))
            else:
                for graph in graphs_of(pieces):
                    graph.replay()
            self.total += self.nodes[LOSS].value
            self._give(pieces, alone=len(step) == 1)
        if x.is_cuda and CAN_CHAIN:
            for path, _ in upcoming:
                self.chains.prepare(path, graphs_of(self._of(path)))
        return self.total

    def _start(self, x: Tensor, y: Tensor) -> None:
        self.nodes[INPUT] = Node(x, has_gradient=False)
        self.y, self.weight, self.total = y.clone(), x.new_ones(()), x.new_zeros(())
        self.nodes[LOSS] = Node(self.total)
        torch.nn.init.ones_(self.nodes[LOSS].gradient)  # type: ignore[arg-type]
        y, weight, loss = self.y, self.weight, self.loss  # without self: a cycle would keep the graphs' memory
        self.last = Piece(LOSS, None, LOGITS, LOSS, lambda logits: loss(logits, y) * weight)
        if x.is_cuda:
            make_room(x.device)
            self.stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call, unused-ignore]
            self.chains = Chains(x.device)

    def _of(self, path: Any) -> list[Recorded]:
        """The path's pieces; new ones are recorded."""
        pieces = [*self.model.pieces(path), self.last]  # type: ignore[operator]
        first = first_of(piece.target for piece in pieces)
        last = first_of(piece.source for piece in reversed(pieces))[::-1]
        keys = [(piece.slot, piece.choice, *sets) for piece, *sets in zip(pieces, first, last, strict=True)]
        if not all(key in self.recorded for key in keys):
            with buffers_kept(self.model):
                for piece, key in zip(pieces, keys, strict=True):
                    if key not in self.recorded:
                        self.recorded[key] = self._record(piece, key[2:])
        return [self.recorded[key] for key in keys]

    def _record(self, piece: Piece, sets: tuple[bool, bool]) -> Recorded:
        recorded = Recorded(piece, sets, self.nodes, self.amp)
        if not self.y.is_cuda:
            recorded.find_parameters(self.parameters)
            return recorded
        self.stream.wait_stream(torch.cuda.current_stream(self.y.device))
        with torch.cuda.stream(self.stream):
            recorded.find_parameters(self.parameters)
        pool = self.pools.setdefault(piece.slot, torch.cuda.graph_pool_handle())
        recorded.capture(self.stream, pool)
        torch.cuda.current_stream(self.y.device).wait_stream(self.stream)
        return recorded

    def _give(self, pieces: list[Recorded], alone: bool) -> None:
        """Adds the pieces' gradients to the parameters'."""
        new: tuple[list[Tensor], list[Tensor]] = ([], [])
        old: tuple[list[Tensor], list[Tensor]] = ([], [])
        for piece in pieces:
            for p, gradient in zip(piece.parameters, piece.gradients, strict=True):
                if p.grad is None and alone:
                    p.grad = gradient
                    continue
                to, found = new if p.grad is None else old
                if p.grad is None:
                    p.grad = self.sums[p] if p in self.sums else self.sums.setdefault(p, torch.empty_like(p))
                to.append(p.grad)
                found.append(gradient)
        if new[0]:
            torch._foreach_copy_(*new)
        if old[0]:
            torch._foreach_add_(*old)


def graphs_of(pieces: list[Recorded]) -> list[Any]:
    """The path's graphs: forward in order, then backward in reverse."""
    return [piece.graphs[0] for piece in pieces] + [piece.graphs[1] for piece in reversed(pieces)]


def first_of(names: Iterator[Hashable]) -> list[bool]:
    """For each name, whether it is its first occurrence."""
    seen: set[Hashable] = set()
    return [not (name in seen or seen.add(name)) for name in names]  # type: ignore[func-returns-value]


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Restores the model's buffers (running statistics) after the block."""
    before = [buffer.clone() for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(model.buffers(), before, strict=True):
                buffer.copy_(value)
