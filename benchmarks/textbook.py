"""nb201, nb101 and proxyless in textbook style, the baseline of the benchmarks.

An operation is an ``nn.Sequential`` of ReLU, Conv2d and BatchNorm2d, every edge is computed, tensors have the default
layout, images come from a DataLoader one PIL image at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision import transforms

import nb101.space as nb101
import proxyless.space as proxyless
from nb201.space import EDGES, INCOMING, OPS, Architecture
from proxyless.network import Skeleton
from wsnas.data.images import Images, augmentation_of
from wsnas.recipe import SGD, Augmentation, Training


class TextbookCell(nn.Module):
    """The cell as it is usually written: one module per operation, every edge computed."""

    def __init__(self, channels: int, arch: Architecture | None) -> None:
        super().__init__()

        def conv(kernel: int) -> nn.Module:
            layers = (nn.ReLU(), nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False))
            return nn.Sequential(*layers, nn.BatchNorm2d(channels))

        kernels = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}
        self.edges = nn.ModuleList(
            nn.ModuleDict({op: conv(k) for op, k in kernels.items() if arch is None or OPS[arch.ops[e]] == op})
            for e in range(len(EDGES))
        )
        self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)

    def operation(self, edge: int, op: str, x: Tensor) -> Tensor:
        if op == "none":
            return torch.zeros_like(x)
        if op == "skip_connect":
            return x
        if op == "avg_pool_3x3":
            return self.pool(x)  # type: ignore[no-any-return]
        return self.edges[edge][op](x)  # type: ignore[index, no-any-return]

    def forward(self, x: Tensor, arch: Architecture) -> Tensor:
        nodes = [x]
        for target in (1, 2, 3):
            terms = [self.operation(e, OPS[arch.ops[e]], nodes[source]) for source, e in INCOMING[target]]
            nodes.append(sum(terms))  # type: ignore[arg-type]
        return nodes[3]


class TextbookNetwork(nn.Module):
    """The supernet or, with ``arch``, the network of one architecture."""

    def __init__(
        self, channels: int, cells: int, classes: int, inputs: int = 3, arch: Architecture | None = None
    ) -> None:
        super().__init__()
        self.arch = arch
        blocks: list[nn.Module] = []
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                blocks.append(TextbookReduction(width // 2, width))
            blocks += [TextbookCell(width, arch) for _ in range(cells)]
        self.stem = nn.Sequential(nn.Conv2d(inputs, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.blocks = nn.ModuleList(blocks)
        self.last = nn.Sequential(nn.BatchNorm2d(4 * channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(4 * channels, classes)

    def forward(self, x: Tensor, arch: Architecture | None = None) -> Tensor:
        arch = arch or self.arch
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, arch) if isinstance(block, TextbookCell) else block(x)
        return self.classifier(self.last(x))  # type: ignore[no-any-return]


class TextbookReduction(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()

        def conv(a: int, b: int, stride: int) -> nn.Module:
            return nn.Sequential(nn.ReLU(), nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.BatchNorm2d(b))

        self.main = nn.Sequential(conv(inputs, outputs, 2), conv(outputs, outputs, 1))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.shortcut(x)  # type: ignore[no-any-return]


class TextbookCell101(nn.Module):
    """nb101's cell, of ``arch`` or of all: a projection of the cell's input and both convolutions for each vertex."""

    def __init__(self, inputs: int, outputs: int, momentum: float, arch: nb101.Architecture | None) -> None:
        super().__init__()

        def used(v: int, op: int) -> bool:
            return arch is None or arch.ops[v - 1] == op

        vertices, inner = nb101.INTERMEDIATES, outputs // 2
        self.projections = nn.ModuleDict(
            {
                str(v): conv_bn_relu(inputs, inner, 1, momentum)
                for v in vertices
                if arch is None or 0 in arch.sources[v - 1]
            }
        )
        kernels = {nb101.CONV3: 3, nb101.CONV1: 1}
        self.vertices = nn.ModuleList(
            nn.ModuleDict(
                {str(op): conv_bn_relu(inner, inner, k, momentum) for op, k in kernels.items() if used(v, op)}
            )
            for v in vertices
        )
        self.pool = nn.MaxPool2d(3, 1, 1)

    def forward(self, x: Tensor, arch: nb101.Architecture) -> Tensor:
        nodes = [x]
        for v, op in zip(nb101.INTERMEDIATES, arch.ops, strict=True):
            total = sum(nodes[s] if s else self.projections[str(v)](x) for s in arch.sources[v - 1])
            nodes.append(self.pool(total) if op == nb101.POOL else self.vertices[v - 1][str(op)](total))  # type: ignore[index]
        return torch.cat([nodes[s] for s in arch.sources[5]], 1)


def conv_bn_relu(inputs: int, outputs: int, kernel: int, momentum: float) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, momentum=momentum), nn.ReLU())


class TextbookNetwork101(nn.Module):
    """nb101's supernet, or with ``arch`` the network of one architecture."""

    def __init__(
        self,
        channels: int,
        cells: int,
        classes: int,
        inputs: int,
        momentum: float,
        arch: nb101.Architecture | None = None,
    ) -> None:
        super().__init__()
        self.arch = arch
        self.stem = conv_bn_relu(inputs, channels, 3, momentum)
        blocks: list[nn.Module] = []
        before = channels
        for width in (channels, 2 * channels, 4 * channels):
            if width > channels:
                blocks.append(nn.MaxPool2d(2, ceil_mode=True))
            for _ in range(cells):
                blocks.append(TextbookCell101(before, width, momentum, arch))
                before = width
        self.blocks = nn.ModuleList(blocks)
        self.classifier = nn.Linear(before, classes)

    def forward(self, x: Tensor, arch: nb101.Architecture | None = None) -> Tensor:
        arch = arch or self.arch
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, arch) if isinstance(block, TextbookCell101) else block(x)
        return self.classifier(x.mean((2, 3)))  # type: ignore[no-any-return]


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps=1e-3))


class TextbookBottleneck(nn.Module):
    """MobileNetV2's inverted bottleneck."""

    def __init__(self, inputs: int, outputs: int, kernel: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        expand = [conv_bn(inputs, inner, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []
        depthwise = [conv_bn(inner, inner, kernel, stride, inner), nn.ReLU6(inplace=True)]
        self.body = nn.Sequential(*expand, *depthwise, conv_bn(inner, outputs, 1))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)  # type: ignore[no-any-return]


class TextbookProxyless(nn.Module):
    """proxyless's supernet, or with ``arch`` the network of one architecture."""

    def __init__(self, skeleton: Skeleton, arch: proxyless.Architecture | None = None) -> None:
        super().__init__()
        self.arch = arch
        channels, stride = skeleton.stem
        self.stem = nn.Sequential(conv_bn(skeleton.inputs, channels, 3, stride), nn.ReLU6(inplace=True))
        self.first = TextbookBottleneck(channels, skeleton.first, 3, 1, 1)
        self.blocks = nn.ModuleList()
        for block, shape in enumerate(skeleton.blocks):
            inputs, outputs, stride = shape
            kept = range(proxyless.SKIP) if arch is None else [arch.blocks[block]]
            ops = {
                str(choice): TextbookBottleneck(inputs, outputs, *proxyless.CHOICES[choice], stride)
                for choice in kept
                if choice != proxyless.SKIP
            }
            self.blocks.append(nn.ModuleDict(ops))
        self.head = nn.Sequential(conv_bn(outputs, skeleton.head, 1), nn.ReLU6(inplace=True))
        self.classifier = nn.Linear(skeleton.head, skeleton.classes)

    def forward(self, x: Tensor, arch: proxyless.Architecture | None = None) -> Tensor:
        arch = arch or self.arch
        assert arch is not None
        x = self.first(self.stem(x))
        for ops, choice in zip(self.blocks, arch.blocks, strict=True):
            if choice != proxyless.SKIP:
                x = ops[str(choice)](x)  # type: ignore[index]
        return self.classifier(self.head(x).mean((2, 3)))  # type: ignore[no-any-return]


def copy_weights(ours: nn.Module, theirs: nn.Module) -> None:
    """Copies weights from our network to the textbook's: parameters of the same shape have the same order in both."""
    source = {tuple(p.shape): [] for p in ours.parameters()}  # type: ignore[var-annotated]
    for p in ours.parameters():
        source[tuple(p.shape)].append(p)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(source[tuple(p.shape)].pop(0))


def textbook_sgd(model: nn.Module, training: Training, foreach: bool | None = None) -> torch.optim.SGD:
    """The training's SGD in textbook style."""
    rule = training.optimizer
    assert isinstance(rule, SGD)
    return torch.optim.SGD(
        model.parameters(),
        rule.lr,
        rule.momentum,
        weight_decay=rule.weight_decay,
        nesterov=rule.nesterov,
        foreach=foreach,
    )


class Pictures(Dataset[tuple[Tensor, int]]):
    """A split for torchvision's transforms, one PIL image at a time; augmented according to ``training``, if given."""

    def __init__(self, images: Images, training: Training | None) -> None:
        self.pixels, self.labels = images.pixels.numpy(), images.labels.tolist()
        mean, std = (images.mean / 255).tolist(), (images.std / 255).tolist()
        steps: list[object] = [transforms.ToPILImage()]
        change = Augmentation() if training is None else augmentation_of(training)
        if change.crop:
            steps.append(transforms.RandomCrop(self.pixels.shape[1], padding=change.crop))
        if change.flip:
            steps.append(transforms.RandomHorizontalFlip())
        self.transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.pixels[index]), self.labels[index]
