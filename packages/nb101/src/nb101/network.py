"""The NAS-Bench-101 skeleton, as supernet and as stand-alone network, from the same modules.

Stem conv3x3 to ``channels``; then three stacks of ``cells`` cells at 1, 2 and 4 times the width, 2x2 max-pooling
between stacks; global average pool; linear (Ying et al., 2019, section 2.2; parameter counts equal the published
ones). Every convolution is conv-BN-ReLU without bias. The output concatenates two intermediates, so all of them
have half of its channels; a vertex that takes the cell's input does so through its own 1x1 convolution, its
projection.

The supernet holds both convolutions and the projection of every vertex of every cell; a path picks each vertex's
operation and its inputs, but the weights do not depend on the inputs. The stand-alone network holds only the modules
its architecture uses, under the same parameter names.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nb101.space import CONV1, CONV3, INTERMEDIATES, OPS, Architecture
from wsnas import WsnasError
from wsnas.convolution import conv_norm
from wsnas.paths import taken

KERNELS = {CONV3: 3, CONV1: 1}  # operation -> side of its kernel


class ConvBNReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU: [N, inputs, H, W] -> [N, outputs, H, W].

    Weights are initialised as in the benchmark, by TensorFlow's ``variance_scaling_initializer()``: normal, truncated
    at two standard deviations, with variance 1 / fan-in after truncation.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, momentum: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        std = 1 / math.sqrt(inputs * kernel * kernel) / 0.87962566103423978  # the deviation after truncation
        nn.init.trunc_normal_(self.conv.weight, std=std, a=-2 * std, b=2 * std)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-5, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(conv_norm(x, self.conv.weight, self.bn), inplace=True)


def max_pool(x: Tensor) -> Tensor:
    """3x3 max-pooling, stride 1: [N, C, H, W] -> the same shape.

    Without gradients, a CPU takes the maximum of three columns, then of three rows: the same numbers, 2 to 18 times
    as fast on 8x8 and larger maps. With gradients this would be slower.
    """
    if x.device.type != "cpu" or x.shape[2] < 4 or torch.is_grad_enabled():
        return F.max_pool2d(x, 3, 1, 1)
    columns = x.clone()
    torch.maximum(columns[..., 1:], x[..., :-1], out=columns[..., 1:])
    torch.maximum(columns[..., :-1], x[..., 1:], out=columns[..., :-1])
    rows = columns.clone()
    torch.maximum(rows[..., 1:, :], columns[..., :-1, :], out=rows[..., 1:, :])
    torch.maximum(rows[..., :-1, :], columns[..., 1:, :], out=rows[..., :-1, :])
    return rows


class Cell(nn.Module):
    """One cell, of ``arch`` or of all: x [N, inputs, H, W] -> [N, outputs, H, W]."""

    def __init__(self, inputs: int, outputs: int, momentum: float, arch: Architecture | None) -> None:
        super().__init__()
        inner = outputs // 2
        self.projections, self.vertices = nn.ModuleDict(), nn.ModuleDict()
        for v in INTERMEDIATES:
            if arch is None or 0 in arch.sources[v - 1]:
                self.projections[str(v)] = ConvBNReLU(inputs, inner, 1, momentum)
            ops = [op for op in KERNELS if arch is None or op == arch.ops[v - 1]]
            self.vertices[str(v)] = nn.ModuleDict(
                {OPS[op]: ConvBNReLU(inner, inner, KERNELS[op], momentum) for op in ops}
            )

    def forward(self, x: Tensor, arch: Architecture) -> Tensor:
        nodes = [x]
        for v in INTERMEDIATES:
            terms = [nodes[s] if s else self.projections[str(v)](x) for s in arch.sources[v - 1]]
            total = terms[0] if len(terms) == 1 else terms[0] + terms[1]
            op = arch.ops[v - 1]
            if op in KERNELS:
                nodes.append(self.vertices[str(v)][OPS[op]](total))  # type: ignore[index]
            else:
                nodes.append(max_pool(total))
        return torch.cat([nodes[s] for s in arch.sources[5]], 1)


class Network(nn.Module):
    """Supernet (``arch=None``) or stand-alone network of ``arch``; ``forward(x, path)`` -> logits [N, classes].

    x: float32 [N, inputs, H, W]. A supernet needs a path; a stand-alone network has only one. ``momentum``: batch
    norm's, in torch's convention (the weight of the new batch). Raises WsnasError for an odd number of channels.
    """

    def __init__(
        self,
        channels: int,
        cells: int,
        classes: int,
        inputs: int = 3,
        arch: Architecture | None = None,
        momentum: float = 0.003,
    ) -> None:
        super().__init__()
        if channels % 2:
            raise WsnasError(
                f"nb101 needs an even number of channels, not {channels}: a cell's output joins two halves"
            )
        self.arch = arch
        self.stem = ConvBNReLU(inputs, channels, 3, momentum)
        self.stacks = nn.ModuleList()
        width = channels
        for stack in range(3):
            outputs = channels * 2**stack
            widths = [width] + [outputs] * (cells - 1)
            self.stacks.append(nn.ModuleList(Cell(each, outputs, momentum, arch) for each in widths))
            width = outputs
        self.classifier = nn.Linear(width, classes)
        nn.init.xavier_uniform_(self.classifier.weight)  # TensorFlow's default for a dense layer
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor, path: Architecture | None = None) -> Tensor:
        arch = taken(self.arch, path)
        x = self.stem(x)
        for i, stack in enumerate(self.stacks):
            if i:
                x = F.max_pool2d(x, 2, ceil_mode=True)  # "same" padding
            for cell in stack:  # type: ignore[attr-defined]
                x = cell(x, arch)
        return self.classifier(x.mean((2, 3)))  # type: ignore[no-any-return]


def _cell_weights(arch: Architecture, inputs: int, outputs: int) -> tuple[int, int]:
    """(convolution weights, outputs of convolutions) of one cell, for counting parameters and multiply-adds."""
    inner = outputs // 2
    projections = sum(0 in taken for taken in arch.sources)
    kernels = [KERNELS[op] ** 2 for op in arch.ops if op in KERNELS]
    return projections * inputs * inner + sum(kernels) * inner**2, (projections + len(kernels)) * inner


def _cells(channels: int, cells: int) -> list[tuple[int, int, int]]:
    """(inputs, outputs, stack) of every cell."""
    widths = [channels * 2**stack for stack in range(3)]
    before = [channels, *widths[:2]]
    return [(widths[s] if i else before[s], widths[s], s) for s in range(3) for i in range(cells)]


def parameters(arch: Architecture, channels: int, cells: int, classes: int, inputs: int = 3) -> int:
    """Exact parameter count of the stand-alone network: convolutions, two for each batch norm channel, classifier."""
    total = inputs * channels * 9 + 2 * channels + (4 * channels + 1) * classes
    for before, after, _ in _cells(channels, cells):
        weights, normed = _cell_weights(arch, before, after)
        total += weights + 2 * normed
    return total


def macs(
    arch: Architecture, channels: int, cells: int, classes: int, inputs: int = 3, height: int = 32, width: int = 32
) -> int:
    """Multiply-adds of the convolutions and the linear layer, one image."""
    areas = [((height - 1) // 2**stack + 1) * ((width - 1) // 2**stack + 1) for stack in range(3)]
    total: int = inputs * channels * 9 * areas[0] + 4 * channels * classes
    total += sum(areas[s] * _cell_weights(arch, before, after)[0] for before, after, s in _cells(channels, cells))
    return total
