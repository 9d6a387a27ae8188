"""The ProxylessNAS network, as supernet and as stand-alone network, from the same modules.

Stem conv3x3 of stride 2 to 32 channels, an inverted bottleneck without expansion to 16, six stages of inverted
bottlenecks at 24, 40, 80, 96, 192 and 320 channels, conv1x1 to 1280, global average pool, linear (Cai et al., 2019;
parameter and multiply-add counts equal the published ones). Every convolution is followed by a batch norm with
eps 1e-3, and by ReLU6 unless it ends a block. All widths are scaled by one factor and rounded to multiples of 8
(the released code scales the last, 1280, only upwards).

The supernet holds the six inverted bottlenecks of every block, each with its own weights; a path picks one of
them per block, or none if it skips. The stand-alone network holds only its architecture's, under the same
parameter names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from proxyless.recipes import ProxylessTraining
from proxyless.space import CHOICES, OPS, RADIX, SKIP, STAGES, Architecture
from wsnas import WsnasError
from wsnas.convolution import conv_norm
from wsnas.paths import taken

STEM, FIRST, WIDTHS, HEAD = 32, 16, (24, 40, 80, 96, 192, 320), 1280  # channels at width 1


def scaled(channels: int, width: float) -> int:
    """``channels * width``, rounded to a multiple of 8 that is at most 10 % below it (MobileNetV2)."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * wanted else rounded + 8


@dataclass(frozen=True)
class Skeleton:
    """The fixed part of a network.

    ``strides``: of the stem and of the first block of each stage. ``identity_start``: the last batch norm of a block
    with a residual starts with scale 0 (Goyal et al., 2017), which helps short trainings of deep networks.
    """

    width: float = 1.0
    strides: str = "2222121"
    classes: int = 1000
    inputs: int = 3  # colour channels
    identity_start: bool = False

    def __post_init__(self) -> None:
        if len(self.strides) != 1 + len(STAGES) or set(self.strides) - {"1", "2"}:
            raise WsnasError(
                f"strides must be seven digits, each 1 or 2, for the stem and six stages, not '{self.strides}'"
            )

    @property
    def stem(self) -> tuple[int, int]:
        """(channels, stride)"""
        return scaled(STEM, self.width), int(self.strides[0])

    @property
    def first(self) -> int:
        return scaled(FIRST, self.width)

    @property
    def head(self) -> int:
        return scaled(HEAD, self.width)

    @property
    def blocks(self) -> list[tuple[int, int, int]]:
        """(channels in, channels out, stride) of each of the 21 blocks."""
        found, inputs = [], self.first
        for count, channels, stride in zip(STAGES, WIDTHS, self.strides[1:], strict=True):
            outputs = scaled(channels, self.width)
            found += [(inputs, outputs, int(stride)), *[(outputs, outputs, 1)] * (count - 1)]
            inputs = outputs
        return found


class ConvBN(nn.Module):
    """Convolution without bias, batch norm, and ReLU6 if ``activate``: [N, C, H, W] -> [N, outputs, H/s, W/s]."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, activate: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        x = conv_norm(x, self.conv.weight, self.bn, self.conv.stride[0])
        return F.relu6(x, inplace=True) if self.activate else x


class Bottleneck(nn.Module):
    """Inverted bottleneck (Sandler et al., 2018): conv1x1 to ``expansion`` times the width, depthwise, conv1x1.

    x: [N, inputs, H, W] -> [N, outputs, H/stride, W/stride], plus x itself if the two have the same shape.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand = ConvBN(inputs, inner) if expansion > 1 else None
        self.depthwise = ConvBN(inner, inner, kernel, stride, groups=inner)
        self.project = ConvBN(inner, outputs, activate=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.residual else y  # type: ignore[no-any-return]


class Network(nn.Module):
    """Supernet (``arch=None``) or stand-alone network of ``arch``; ``forward(x, path)`` -> logits [N, classes].

    x: float32 [N, inputs, H, W]. A supernet needs a path; a stand-alone network has only one. Initial weights are
    MobileNetV2's: convolutions normal with variance 2 / (kernel area * outputs), linear with deviation 0.01.
    """

    def __init__(self, skeleton: Skeleton, arch: Architecture | None = None) -> None:
        super().__init__()
        self.arch = arch
        channels, stride = skeleton.stem
        self.stem = ConvBN(skeleton.inputs, channels, 3, stride)
        self.first = Bottleneck(channels, skeleton.first, 3, 1, 1)
        self.blocks = nn.ModuleList()
        for block, (inputs, outputs, stride) in enumerate(skeleton.blocks):
            kept = range(len(CHOICES)) if arch is None else [arch.blocks[block]]
            self.blocks.append(
                nn.ModuleDict({OPS[i]: Bottleneck(inputs, outputs, *CHOICES[i], stride) for i in kept if i != SKIP})
            )
        self.head = ConvBN(outputs, skeleton.head)
        self.classifier = nn.Linear(skeleton.head, skeleton.classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
            elif isinstance(module, Bottleneck) and module.residual and skeleton.identity_start:
                nn.init.zeros_(module.project.bn.weight)
        nn.init.normal_(self.classifier.weight, 0, 0.01)
        nn.init.zeros_(self.classifier.bias)

    def no_weight_decay(self, training: ProxylessTraining) -> list[nn.Parameter]:
        """The weights exempt from weight decay."""
        norms = [module for module in self.modules() if isinstance(module, _BatchNorm)]
        return [] if training.decay_on_norms else [p for norm in norms for p in norm.parameters()]

    def forward(self, x: Tensor, path: Architecture | None = None) -> Tensor:
        arch = taken(self.arch, path)
        x = self.first(self.stem(x))
        for block, choice in zip(self.blocks, arch.blocks, strict=True):
            if choice != SKIP:
                x = block[OPS[choice]](x)  # type: ignore[index]
        return self.classifier(self.head(x).mean((2, 3)))  # type: ignore[no-any-return]


@cache
def costs(
    skeleton: Skeleton, size: tuple[int, int] = (224, 224)
) -> tuple[tuple[int, int], tuple[tuple[tuple[int, int], ...], ...]]:
    """Exact (parameters, multiply-adds): of the fixed part, and of each choice of each block.

    They add up, because a block's input has the same shape whatever the blocks before it are. Multiply-adds are
    those of convolutions and the linear layer for one image of ``size``, height and width in pixels.
    """

    def after(size: tuple[int, int], stride: int) -> tuple[int, int]:
        return math.ceil(size[0] / stride), math.ceil(size[1] / stride)

    def conv(inputs: int, outputs: int, kernel: int, groups: int, size: tuple[int, int]) -> tuple[int, int]:
        weights = inputs // groups * outputs * kernel**2
        return weights + 2 * outputs, weights * size[0] * size[1]

    def bottleneck(
        inputs: int, outputs: int, kernel: int, expansion: int, stride: int, size: tuple[int, int]
    ) -> tuple[int, int]:
        inner, out = inputs * expansion, after(size, stride)
        parts = [conv(inner, inner, kernel, inner, out), conv(inner, outputs, 1, 1, out)]
        if expansion > 1:
            parts.append(conv(inputs, inner, 1, 1, size))
        return sum(p for p, _ in parts), sum(m for _, m in parts)

    stem, stride = skeleton.stem
    size = after(size, stride)
    fixed = [conv(skeleton.inputs, stem, 3, 1, size), bottleneck(stem, skeleton.first, 3, 1, 1, size)]
    blocks = []
    for block, (inputs, outputs, stride) in enumerate(skeleton.blocks):
        choices = [bottleneck(inputs, outputs, *choice, stride, size) for choice in CHOICES]
        blocks.append(tuple([*choices, (0, 0)][: RADIX[block]]))
        size = after(size, stride)
    fixed.append(conv(outputs, skeleton.head, 1, 1, size))
    fixed.append(((skeleton.head + 1) * skeleton.classes, skeleton.head * skeleton.classes))
    return (sum(p for p, _ in fixed), sum(m for _, m in fixed)), tuple(blocks)


def parameters(arch: Architecture, skeleton: Skeleton) -> int:
    """Exact parameter count of the stand-alone network."""
    (fixed, _), blocks = costs(skeleton)
    return fixed + sum(of[choice][0] for of, choice in zip(blocks, arch.blocks, strict=True))


def macs(arch: Architecture, skeleton: Skeleton, height: int, width: int) -> int:
    """Multiply-adds of its convolutions and linear layer, one image."""
    (_, fixed), blocks = costs(skeleton, (height, width))
    return fixed + sum(of[choice][1] for of, choice in zip(blocks, arch.blocks, strict=True))
