"""The NAS-Bench-201 skeleton, as supernet and as stand-alone network, from the same modules.

Stem conv3x3-BN to ``channels``; then three stages of ``cells`` cells at 1, 2 and 4 times the width,
a residual block of stride 2 between stages; BN-ReLU-global average pool-linear (Dong & Yang, 2020,
section 2.1; parameter counts equal the published ones). Every operation on an edge is ReLU-conv-BN
without bias, average pooling without batch norm, the identity, or nothing.

The supernet holds both convolutions on every edge of every cell; a path picks one operation per edge.
The stand-alone network holds only its architecture's convolutions, under the same parameter names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nb201.space import CONV1, CONV3, EDGES, INCOMING, NONE, OPS, POOL, Architecture
from wsnas import pooling
from wsnas.convolution import conv_norm, dense
from wsnas.paths import taken
from wsnas.pieces import INPUT, LOGITS, Piece

CONVOLUTIONS = {CONV1: 1, CONV3: 3}  # operation -> kernel size


class ConvBN(nn.Module):
    """Convolution without bias, then batch norm; all edges of a node share the ReLU before it."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return conv_norm(x, self.conv.weight, self.bn, self.conv.stride[0])

    def of_rectified(self, x: Tensor) -> Tensor:
        return self(F.relu(x))  # type: ignore[no-any-return]

    def of_nothing(self, x: Tensor) -> Tensor:
        """The output for zeros shaped like ``x``: a constant, the batch norm's shift."""
        return self(torch.zeros_like(x))  # type: ignore[no-any-return]


def average_pool(x: Tensor) -> Tensor:
    """3x3 average pooling, stride 1, over the pixels inside the image: [N, C, H, W] -> the same shape.

    On a CPU it is a matrix product over pixels on maps of at most 8x8, and a depthwise convolution with ones, divided
    by the number of pixels, on larger ones: 1.2 to 3 times as fast.
    """
    n, channels, height, width = x.shape
    if x.device.type != "cpu":
        return pooling.average_pool(x)
    if height * width <= 64:
        pixels = x.permute(0, 2, 3, 1).reshape(n, height * width, channels)
        mixed = _pooling(height, width, x.dtype).expand(n, -1, -1).bmm(pixels)
        return mixed.view(n, height, width, channels).permute(0, 3, 1, 2)
    ones = torch.ones(channels, 1, 3, 3, dtype=x.dtype)
    return F.conv2d(x, ones, padding=1, groups=channels) * _one_over_pixels(height, width, x.dtype)


@cache
def _pooling(height: int, width: int, dtype: torch.dtype) -> Tensor:
    """[H * W, H * W]: the weight of each pixel in each pooled one."""
    with torch.inference_mode(False):  # if first made while evaluating, training can still use it
        one_pixel = torch.eye(height * width, dtype=dtype).view(-1, 1, height, width)
        return F.avg_pool2d(one_pixel, 3, 1, 1, count_include_pad=False).flatten(1).t().contiguous()


@cache
def _one_over_pixels(height: int, width: int, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        image, ones = torch.ones(1, 1, height, width, dtype=dtype), torch.ones(1, 1, 3, 3, dtype=dtype)
        return 1 / F.conv2d(image, ones, padding=1)


@cache
def plan(arch: Architecture) -> tuple[tuple[int, tuple[tuple[int, int, int], ...]], ...]:
    """The edges to compute: ``((target, ((source, edge, op), ...)), ...)``, without ``none`` and without
    nodes that do not reach the output; neither affects outputs or gradients.
    """
    live, steps = {3}, []
    for target in (3, 2, 1):
        if target in live:
            used = tuple((source, e, arch.ops[e]) for source, e in INCOMING[target] if arch.ops[e] != NONE)
            live.update(source for source, _, _ in used)
            steps.append((target, used))
    return tuple(reversed(steps))


class Cell(nn.Module):
    """Six edges; ``choices[e]`` are the operations edge ``e`` can take. x: [N, C, H, W] -> the same shape."""

    def __init__(self, channels: int, choices: Sequence[Iterable[int]]) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            nn.ModuleDict({OPS[op]: ConvBN(channels, channels, CONVOLUTIONS[op]) for op in ops if op in CONVOLUTIONS})
            for ops in choices
        )

    def forward(self, x: Tensor, arch: Architecture) -> Tensor:
        nodes: list[Tensor | None] = [x, None, None, None]  # None: the sum of no edges, zero
        rectified: list[Tensor | None] = [None] * 4
        for target, used in plan(arch):
            total: Tensor | None = None
            for source, e, op in used:
                node = nodes[source]
                if op in CONVOLUTIONS:  # even of nothing: its batch norm's shift is a learned constant
                    relu = rectified[source]
                    if relu is None:
                        relu = rectified[source] = F.relu(torch.zeros_like(x) if node is None else node)
                    term: Tensor | None = self.edges[e][OPS[op]](relu)  # type: ignore[index]
                elif op == POOL and node is not None:
                    term = average_pool(node)
                else:
                    term = node
                if term is not None:
                    total = term if total is None else total + term
            nodes[target] = total
        output = nodes[3]
        assert output is not None, "a valid architecture connects the input to the output"
        return output

    def pieces(self, arch: Architecture, block: int) -> Iterator[Piece]:
        """``forward`` in pieces, as block number ``block``: node (block, n) is the cell's node n; the output is the
        next block's input.
        """
        filled = {0}  # nodes that are the sum of at least one edge
        for target, used in plan(arch):
            to = (block + 1, 0) if target == 3 else (block, target)
            for source, e, op in used:
                if op in CONVOLUTIONS:
                    convolution = self.edges[e][OPS[op]]  # type: ignore[index]
                    if source in filled:
                        yield Piece((block, e), op, (block, source), to, convolution.of_rectified)
                    else:
                        yield Piece((block, e), (op, NONE), (block, 0), to, convolution.of_nothing)
                elif source in filled:
                    yield Piece((block, e), op, (block, source), to, average_pool if op == POOL else identity)
                else:
                    continue
                filled.add(target)


def identity(x: Tensor) -> Tensor:
    return x


class Reduction(nn.Module):
    """Residual block of stride 2: [N, C, H, W] -> [N, 2C, H/2, W/2]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.a = ConvBN(inputs, outputs, 3, stride=2)
        self.b = ConvBN(outputs, outputs, 3)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = dense(F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False), self.shortcut.weight)
        return shortcut + self.b(F.relu(self.a(F.relu(x))))  # type: ignore[no-any-return]


class Network(nn.Module):
    """Supernet (``arch=None``) or stand-alone network of ``arch``; ``forward(x, path)`` -> logits [N, classes].

    x: float32 [N, inputs, H, W]. A supernet needs a path; a stand-alone network is its own.
    """

    def __init__(
        self, channels: int, cells: int, classes: int, inputs: int = 3, arch: Architecture | None = None
    ) -> None:
        super().__init__()
        self.arch = arch
        choices = [CONVOLUTIONS if arch is None else (arch.ops[e],) for e in range(len(EDGES))]
        self.stem = ConvBN(inputs, channels, 3)
        self.body = nn.ModuleList()
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                self.body.append(Reduction(width // 2, width))
            self.body.extend(Cell(width, choices) for _ in range(cells))
        self.last = nn.BatchNorm2d(4 * channels)
        self.classifier = nn.Linear(4 * channels, classes)

    def forward(self, x: Tensor, path: Architecture | None = None) -> Tensor:
        arch = taken(self.arch, path)
        x = self.stem(x)
        for block in self.body:
            x = block(x, arch) if isinstance(block, Cell) else block(x)
        return self._head(x)

    def _head(self, x: Tensor) -> Tensor:
        return self.classifier(F.relu(self.last(x)).mean((2, 3)))  # type: ignore[no-any-return]

    def pieces(self, path: Architecture) -> Iterator[Piece]:
        """The supernet's forward pass along ``path`` for ``wsnas.pieces``: an edge's operation is a piece."""
        yield Piece("stem", None, INPUT, (0, 0), self.stem)
        for number, block in enumerate(self.body):
            if isinstance(block, Cell):
                yield from block.pieces(path, number)
            else:
                yield Piece(number, None, (number, 0), (number + 1, 0), block)
        yield Piece("head", None, (len(self.body), 0), LOGITS, self._head)


def parameters(arch: Architecture, channels: int, cells: int, classes: int, inputs: int = 3) -> int:
    """Exact parameter count of the stand-alone network, edges that do not reach the output included."""
    c1, c2, c3 = channels, 2 * channels, 4 * channels
    total = inputs * c1 * 9 + 2 * c1 + 2 * c3 + (c3 + 1) * classes
    for low, high in ((c1, c2), (c2, c3)):
        total += low * high * 9 + 2 * high + high * high * 9 + 2 * high + low * high
    for op in arch.ops:
        if op in CONVOLUTIONS:
            total += cells * sum(c * c * CONVOLUTIONS[op] ** 2 + 2 * c for c in (c1, c2, c3))
    return total


def macs(
    arch: Architecture, channels: int, cells: int, classes: int, inputs: int = 3, height: int = 32, width: int = 32
) -> int:
    """Multiply-adds of all convolutions and the linear layer, one image.

    As in the benchmark, edges that do not reach the output count, too, although ``Cell`` leaves them out. The published
    FLOPs are this number and one for each class: the linear layer's bias.
    """
    widths = [
        (channels * 2**stage, ((height - 1) // 2**stage + 1) * ((width - 1) // 2**stage + 1)) for stage in range(3)
    ]
    total: int = inputs * channels * 9 * widths[0][1] + 4 * channels * classes
    for (low, _), (high, area) in pairwise(widths):
        total += area * (low * high * 9 + high * high * 9 + low * high)
    for op in arch.ops:
        if op in CONVOLUTIONS:
            total += cells * sum(area * c * c * CONVOLUTIONS[op] ** 2 for c, area in widths)
    return total
