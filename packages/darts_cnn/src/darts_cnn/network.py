"""The DARTS evaluation network (Liu et al., 2019), as supernet and as stand-alone network, from the same modules.

Stem conv3x3-BN to three times ``channels``; then ``cells`` cells, of which those at 1/3 and 2/3 of the depth are
reduction cells with stride 2 and twice the width; global average pool; linear. A cell projects its two inputs to its
width (ReLU-conv1x1-BN, or a factorised reduction if the first comes from before a reduction), and its output is
the concatenation of its four nodes. DARTS_V2 at 36 channels and 20 cells has 3,349,342 parameters, as published.

**The supernet is in ENAS form** (Pham et al., 2018), as in the paper (A.1): a node has two slots, and a slot
first picks one earlier node, then applies one operation to it. Weights belong to (cell, node, slot, operation):
a slot uses the same weights whichever node it reads, and its stride is 2 if it reads an input of a reduction cell,
else 1. A slot therefore holds four convolutions and, in a reduction cell, the factorised reduction that replaces a
skip. DARTS would hold these for each of the 14 (node, input) pairs instead of the 8 (node, slot) pairs, and ENAS's
code also keeps weights per input; the paper says its supernet is smaller than DARTS's, so inputs share weights here.
Separate weights for the two slots of a node are our choice: A.1 calls DARTS's "3 - 4 times larger"; here it is
14 / 8 = 1.75 times, and with one set of weights per node it would be 14 / 4 = 3.5. The paper gives neither the
supernet's width nor its depth. Here they are the stand-alone network's (36 channels, 20 cells at paper scale: 448
images on 4 GPUs are then about as many per GPU as the 96 of a stand-alone training), and flags change both.

The stand-alone network holds only its architecture's operations, under the same parameter names, and the auxiliary
head if the recipe has one. A supernet then holds the head too, but trains it only if its training has an auxiliary
loss.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darts_cnn.recipes import DartsTraining
from darts_cnn.space import AVG_POOL, DIL3, DIL5, MAX_POOL, NODES, OPS, SEP3, SEP5, SKIP, Architecture
from darts_cnn.space import Cell as Genes
from wsnas import WsnasError
from wsnas.paths import taken
from wsnas.pooling import average_pool

KERNEL = {SEP3: 3, SEP5: 5, DIL3: 3, DIL5: 5}
STEM_MULTIPLIER = 3


class ConvBN(nn.Module):
    """Convolution without bias, then batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))  # type: ignore[no-any-return]


class FactorisedReduction(nn.Module):
    """Halves the side by 1x1 convolutions: half of the channels from even pixels, half from odd ones.

    x: [N, C, H, W], rectified -> [N, outputs, H/2, W/2]; an odd side is rounded up.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.odd = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        odd = F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))[:, :, 1::2, 1::2]
        return self.bn(torch.cat([self.even(x[:, :, ::2, ::2]), self.odd(odd)], 1))  # type: ignore[no-any-return]


def depthwise(x: Tensor, weight: Tensor, stride: int, dilation: int) -> Tensor:
    """Depthwise convolution that keeps the side, except for the stride. x [N, C, H, W], weight [C, 1, K, K].

    A dilation of 2 with a stride of 2 reads even pixels only, so it is a plain convolution on those. With a stride of
    1, pixels of even and odd rows and columns are independent; computed separately, a CPU takes a half to a sixth of
    the time for kernel 5 on maps of side 8 or less, and up to a half less on 16.
    """
    channels, kernel = weight.shape[0], weight.shape[-1]
    if stride == dilation == 2:
        x, stride, dilation = x[:, :, ::2, ::2], 1, 1
    n, _, height, width = x.shape
    if dilation == 2 and x.device.type == "cpu" and height % 2 == width % 2 == 0 and height <= 16:
        parts = x.reshape(n, channels, height // 2, 2, width // 2, 2).permute(3, 5, 0, 2, 4, 1)
        parts = parts.reshape(4 * n, height // 2, width // 2, channels).permute(0, 3, 1, 2)  # channels_last
        y = F.conv2d(parts, weight, padding=kernel // 2, groups=channels).permute(0, 2, 3, 1)
        y = y.reshape(2, 2, n, height // 2, width // 2, channels).permute(2, 3, 0, 4, 1, 5)
        return y.reshape(n, height, width, channels).permute(0, 3, 1, 2)
    return F.conv2d(x, weight, None, stride, dilation * (kernel // 2), dilation, channels)


class Separable(nn.Module):
    """Depthwise convolution, conv1x1, batch norm: [N, C, H, W], rectified -> the same, divided by the call's stride."""

    def __init__(self, channels: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.dilation = dilation
        self.depthwise = nn.Conv2d(channels, channels, kernel, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor, stride: int) -> Tensor:
        x = depthwise(x, self.depthwise.weight, stride, self.dilation)
        return self.bn(self.pointwise(x))  # type: ignore[no-any-return]


class TwiceSeparable(nn.Module):
    """DARTS's separable convolution: two in a row, the first with the call's stride."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.first, self.second = Separable(channels, kernel), Separable(channels, kernel)

    def forward(self, x: Tensor, stride: int) -> Tensor:
        return self.second(F.relu(self.first(x, stride)), 1)  # type: ignore[no-any-return]


def weights_of(op: int, channels: int, reads_input: bool, reduction: bool) -> nn.Module | None:
    """The module of an operation in a slot; None if it has no weights."""
    if op in (SEP3, SEP5):
        return TwiceSeparable(channels, KERNEL[op])
    if op in (DIL3, DIL5):
        return Separable(channels, KERNEL[op], dilation=2)
    return FactorisedReduction(channels, channels) if op == SKIP and reads_input and reduction else None


def drop_paths(x: Tensor, probability: float) -> Tensor:
    """Sets whole images of ``x`` [N, C, H, W] to zero with this probability and scales up the others to compensate."""
    kept = torch.rand(len(x), 1, 1, 1, device=x.device) >= probability
    return x * (kept.to(x.dtype) / (1 - probability))


class Cell(nn.Module):
    """Two inputs [N, Cpp, H', W'] and [N, Cp, H, W], both rectified -> [N, 4 * channels, H, W], or half that side in a
    reduction cell.

    ``after_reduction``: the first input's side is twice the second's. ``genes``: its only cell; None: all cells.
    """

    def __init__(
        self, inputs: tuple[int, int], channels: int, reduction: bool, after_reduction: bool, genes: Genes | None
    ) -> None:
        super().__init__()
        self.reduction = reduction
        reduce_first = FactorisedReduction if after_reduction else lambda i, o: ConvBN(i, o, 1)
        self.first = reduce_first(inputs[0], channels)
        self.second = ConvBN(inputs[1], channels, 1)
        self.nodes = nn.ModuleList()
        for i in range(NODES):
            slots = nn.ModuleList()
            for s in range(2):
                choices = [(op, 0) for op in range(len(OPS))] if genes is None else [genes[i][s]]
                weights = {OPS[op]: weights_of(op, channels, source < 2, reduction) for op, source in choices}
                slots.append(nn.ModuleDict({name: module for name, module in weights.items() if module is not None}))
            self.nodes.append(slots)

    def forward(self, before: Tensor, last: Tensor, genes: Genes, drop_path: float) -> Tensor:
        states = [self.first(before), self.second(last)]
        rectified: dict[int, Tensor] = {}
        for node, choices in zip(self.nodes, genes, strict=True):
            terms = []
            for slot, (op, source) in zip(node, choices, strict=True):  # type: ignore[call-overload]
                x, stride = states[source], 2 if self.reduction and source < 2 else 1
                if op == MAX_POOL:
                    x = F.max_pool2d(x, 3, stride, 1)
                elif op == AVG_POOL:
                    x = average_pool(x, stride)
                elif op != SKIP or stride == 2:
                    if source not in rectified:
                        rectified[source] = F.relu(x)
                    x = slot[OPS[op]](rectified[source], stride) if op != SKIP else slot[OPS[op]](rectified[source])
                if drop_path and not (op == SKIP and stride == 1):
                    x = drop_paths(x, drop_path)
                terms.append(x)
            states.append(terms[0] + terms[1])
        return torch.cat(states[2:], 1)


class AuxiliaryHead(nn.Module):
    """A second classifier, used only in training: [N, C, 8, 8] -> logits [N, classes].

    As in DARTS, 5x5 windows with stride 3 pool an 8x8 map to 2x2; maps of another side are pooled to 2x2 adaptively,
    whose gradient on CUDA is refused under ``--deterministic``.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.narrow = ConvBN(inputs, 128, 1)
        self.wide = nn.Conv2d(128, 768, 2, bias=False)
        self.bn = nn.BatchNorm2d(768)
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        x = F.avg_pool2d(x, 5, 3) if x.shape[2:] == (8, 8) else F.adaptive_avg_pool2d(x, 2)
        x = F.relu(self.bn(self.wide(F.relu(self.narrow(x)))))
        return self.classifier(x.flatten(1))  # type: ignore[no-any-return]


class Network(nn.Module):
    """Supernet (``arch=None``) or stand-alone network of ``arch``; ``forward(x, path)`` -> logits [N, classes].

    x: float32 [N, inputs, H, W]. A supernet needs a path; a stand-alone network has only one. ``head``: whether there
    is an auxiliary head after the second reduction, whose loss only ``training_loss`` computes.
    """

    def __init__(
        self,
        channels: int,
        cells: int,
        classes: int,
        inputs: int = 3,
        head: bool = False,
        arch: Architecture | None = None,
    ) -> None:
        super().__init__()
        self.arch = arch
        self.stem = ConvBN(inputs, STEM_MULTIPLIER * channels, 3)
        self.cells = nn.ModuleList()
        for widths, width, reduction, after in plan(channels, cells):
            genes = None if arch is None else arch.reduce if reduction else arch.normal
            self.cells.append(Cell(widths, width, reduction, after, genes))
        self.classifier = nn.Linear(NODES * width, classes)
        self.head_after = 2 * cells // 3
        self.auxiliary = AuxiliaryHead(NODES * width, classes) if head else None

    def forward(self, x: Tensor, path: Architecture | None = None) -> Tensor:
        return self._run(x, path, 0.0)[0]

    def _run(self, x: Tensor, path: Architecture | None, drop_path: float) -> tuple[Tensor, Tensor]:
        """(logits, the map that the auxiliary head sees)"""
        arch = taken(self.arch, path)
        output = seen = self.stem(x)
        last = before = F.relu(output)  # cells use each other's output only rectified
        for number, cell in enumerate(self.cells):
            output = cell(before, last, arch.reduce if cell.reduction else arch.normal, drop_path)
            if number == self.head_after:
                seen = output
            if number + 1 < len(self.cells):
                before, last = last, F.relu(output)
        return self.classifier(output.mean((2, 3))), seen

    def require_suitable(self, training: DartsTraining) -> None:
        """Raises WsnasError for an auxiliary loss without a head."""
        if training.auxiliary and self.auxiliary is None:
            raise WsnasError(
                "a training with an auxiliary loss needs the head: add --auxiliary-head (auxiliary_head=True), or set "
                "auxiliary to 0"
            )

    def training_loss(
        self, x: Tensor, y: Tensor, path: Architecture | None, training: DartsTraining, progress: float
    ) -> Tensor:
        """Cross-entropy in nats plus ``training.auxiliary`` times the auxiliary head's; drop-path as in DARTS.

        The probability of dropping an operation's output (never an identity's) rises with the epochs:
        ``training.drop_path * epoch / epochs``.
        """
        epoch = int(progress * training.epochs + 1e-6)
        logits, seen = self._run(x, path, training.drop_path * epoch / training.epochs)
        loss = F.cross_entropy(logits, y, label_smoothing=training.label_smoothing)
        if training.auxiliary:
            assert self.auxiliary is not None, "require_suitable has refused it"
            extra = F.cross_entropy(self.auxiliary(seen), y, label_smoothing=training.label_smoothing)
            loss = loss + training.auxiliary * extra
        return loss


def plan(channels: int, cells: int) -> Iterator[tuple[tuple[int, int], int, bool, bool]]:
    """For each cell: (channels of its two inputs, its own, whether it reduces, whether the cell before it does)."""
    widths, width, after = (STEM_MULTIPLIER * channels,) * 2, channels, False
    for number in range(cells):
        reduction = number in (cells // 3, 2 * cells // 3)
        width *= 1 + reduction
        yield widths, width, reduction, after
        widths, after = (widths[1], NODES * width), reduction


def _operations(arch: Architecture, reduction: bool) -> tuple[int, int]:
    """One cell's depthwise weights per channel, and how many conv1x1-BNs it has (a factorised reduction is one)."""
    depthwise = pointwise = 0
    for op, source in (slot for node in (arch.reduce if reduction else arch.normal) for slot in node):
        if op in KERNEL:
            times = 2 if op in (SEP3, SEP5) else 1
            depthwise += times * KERNEL[op] ** 2
            pointwise += times
        elif op == SKIP and reduction and source < 2:
            pointwise += 1
    return depthwise, pointwise


def parameters(arch: Architecture, channels: int, cells: int, classes: int, inputs: int = 3, head: bool = False) -> int:
    """Exact parameter count of the stand-alone network."""
    total, out = STEM_MULTIPLIER * channels * (9 * inputs + 2), 0
    for widths, c, reduction, _ in plan(channels, cells):
        depthwise, pointwise = _operations(arch, reduction)
        total += sum(width * c + 2 * c for width in widths) + depthwise * c + pointwise * (c * c + 2 * c)
        out = NODES * c
    total += (out + 1) * classes
    return total + head * (out * 128 + 2 * 128 + 128 * 768 * 4 + 2 * 768 + (768 + 1) * classes)


def macs(
    arch: Architecture, channels: int, cells: int, classes: int, inputs: int = 3, height: int = 32, width: int = 32
) -> int:
    """Multiply-adds of the convolutions and the linear layer, one image; no auxiliary head."""
    total, out = height * width * STEM_MULTIPLIER * channels * 9 * inputs, 0
    for widths, c, reduction, _ in plan(channels, cells):
        depthwise, pointwise = _operations(arch, reduction)
        total += height * width * sum(widths) * c  # the first at the second's size, also by a factorised reduction
        height, width = ((height + 1) // 2, (width + 1) // 2) if reduction else (height, width)
        total += height * width * (depthwise * c + pointwise * c * c)
        out = NODES * c
    return total + out * classes
