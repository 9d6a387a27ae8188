"""Paper-size nb201 supernet step against the textbook loop, side by side in one run.

Both train the same supernet (16 channels, 5 cells a stage, batch 256, 32x32 images) on the same
architectures in the same order, taking turns in blocks of steps so that a machine whose speed drifts
slows all. The textbook loop is what most code for this space does: an operation is an
``nn.Sequential(ReLU, Conv2d, BatchNorm2d)``, every edge is computed, the default memory layout, fp32,
torchvision transforms in a DataLoader with 2 workers.

    python benchmarks/supernet_step.py [--dataset cifar10 | FILE.npz] [--steps 24]

Without ``--dataset`` the images are random bytes of CIFAR-10's size: the time does not depend on them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from nb201.network import Network
from nb201.space import EDGES, INCOMING, OPS, Architecture, sample
from wsnas import load_space
from wsnas.cli import Command
from wsnas.datasets import load_splits
from wsnas.devices import place
from wsnas.images import Images
from wsnas.randomness import numpy_rng, torch_seeded
from wsnas.runs import environment
from wsnas.space import change_recipe


class TextbookCell(nn.Module):
    """The cell as it is usually written: one module an operation, every edge computed."""

    def __init__(self, channels: int) -> None:
        super().__init__()

        def conv(kernel: int) -> nn.Module:
            layers = (nn.ReLU(), nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False))
            return nn.Sequential(*layers, nn.BatchNorm2d(channels))

        pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.edges = nn.ModuleList(nn.ModuleList([conv(1), conv(3)]) for _ in EDGES)
        self.pool = pool

    def operation(self, edge: int, op: str, x: Tensor) -> Tensor:
        if op == "none":
            return torch.zeros_like(x)
        if op == "skip_connect":
            return x
        if op == "avg_pool_3x3":
            return self.pool(x)  # type: ignore[no-any-return]
        return self.edges[edge][0 if op == "nor_conv_1x1" else 1](x)  # type: ignore[index, no-any-return]

    def forward(self, x: Tensor, arch: Architecture) -> Tensor:
        nodes = [x]
        for target in (1, 2, 3):
            terms = [self.operation(e, OPS[arch.ops[e]], nodes[source]) for source, e in INCOMING[target]]
            nodes.append(sum(terms))  # type: ignore[arg-type]
        return nodes[3]


class TextbookSupernet(nn.Module):
    def __init__(self, channels: int, cells: int, classes: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                blocks.append(TextbookReduction(width // 2, width))
            blocks += [TextbookCell(width) for _ in range(cells)]
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.blocks = nn.ModuleList(blocks)
        self.last = nn.Sequential(nn.BatchNorm2d(4 * channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(4 * channels, classes)

    def forward(self, x: Tensor, arch: Architecture) -> Tensor:
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


def copy_weights(ours: nn.Module, theirs: nn.Module) -> None:
    """Both list their parameters in the same order of construction up to the reduction's shortcut."""
    source = {tuple(p.shape): [] for p in ours.parameters()}  # type: ignore[var-annotated]
    for p in ours.parameters():
        source[tuple(p.shape)].append(p)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(source[tuple(p.shape)].pop(0))


class Pictures(Dataset[tuple[Tensor, int]]):
    """The training images as torchvision's transforms want them, one PIL image at a time."""

    def __init__(self, images: Images) -> None:
        self.pixels, self.labels = images.pixels.numpy(), images.labels.tolist()
        mean, std = (images.mean / 255).tolist(), (images.std / 255).tolist()
        steps = [transforms.ToPILImage(), transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
        self.transform = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.pixels[index]), self.labels[index]


def endless(make: Any) -> Iterator[tuple[Tensor, Tensor]]:
    epoch = 0
    while True:
        yield from make(epoch)
        epoch += 1


@click.command(cls=Command)
@click.option("--dataset", help="cifar10 or a .npz file; random bytes of CIFAR-10's size by default.")
@click.option("--steps", default=24, show_default=True, help="Steps of each loop that are counted.")
@click.option("--block", default=4, show_default=True, help="Steps before the next loop has its turn.")
@click.option("--channels", default=16, show_default=True)
@click.option("--cells", default=5, show_default=True)
@click.option("--batch", default=256, show_default=True)
def main(dataset: str | None, steps: int, block: int, channels: int, cells: int, batch: int) -> None:
    """Our supernet step, in fp32 and in bfloat16 autocast, against the textbook's: seconds a step, side by side."""
    space = load_space("nb201")
    recipe = change_recipe(
        space.recipes["paper"], dataset=dataset or "cifar10", channels=channels, cells=cells, batch=batch
    )
    training, cpu = recipe.supernet, torch.device("cpu")
    if dataset is None:
        rng = numpy_rng(0, "bytes")
        pixels, labels = rng.integers(0, 256, (10_000, 32, 32, 3), np.uint8), rng.integers(0, 10, 10_000)
        images, classes = Images(pixels, labels, torch.full((3,), 127.5), torch.full((3,), 73.9), cpu), 10
    else:
        splits = load_splits(recipe, cpu)
        assert isinstance(splits.train, Images)
        images, classes = splits.train, splits.classes

    def ours() -> Network:
        with torch_seeded(0, "init"):
            return place(Network(channels, cells, classes), cpu)

    plain = TextbookSupernet(channels, cells, classes)
    copy_weights(ours(), plain)
    loader = DataLoader(Pictures(images), batch, shuffle=True, num_workers=2, drop_last=True, persistent_workers=True)
    models: dict[str, nn.Module] = {"textbook": plain, "ours fp32": ours(), "ours bf16": ours()}
    # the same function: one batch through both, before either trains
    x, _ = next(images.epoch(training, 0, 0))
    arch = sample(numpy_rng(0, "check"))
    logits = models["textbook"].train()(x.contiguous(), arch) - models["ours fp32"].train()(x, arch)

    batches = {name: endless(lambda epoch: images.epoch(training, 0, epoch)) for name in models}
    batches["textbook"] = endless(lambda epoch: loader)
    optimizers = {
        name: torch.optim.SGD(
            model.parameters(),
            training.lr,
            training.momentum,
            weight_decay=training.weight_decay,
            foreach=None if name == "textbook" else True,
        )
        for name, model in models.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for first in range(-block, steps, block):  # the first block of each is the warm-up
        for name, model in models.items():
            for step in range(first, first + block):
                path = sample(numpy_rng(0, "paths", step))
                started = time.perf_counter()
                x, y = next(batches[name])
                optimizers[name].zero_grad(set_to_none=True)
                with torch.autocast("cpu", torch.bfloat16, enabled=name == "ours bf16"):
                    loss = F.cross_entropy(model(x, path), y)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(model.parameters(), training.clip)
                optimizers[name].step()
                if step >= 0:
                    seconds[name].append(time.perf_counter() - started)
    result: dict[str, Any] = {
        "benchmark": "supernet_step",
        **environment(),
        **{"channels": channels, "cells": cells, "batch": batch, "steps": steps},
        "seconds_a_step": {name: round(float(np.mean(taken)), 4) for name, taken in seconds.items()},
        "largest_output_difference_before_training": logits.abs().max().item(),
    }
    for name in ("ours fp32", "ours bf16"):
        ratios = np.array(seconds["textbook"]) / np.array(seconds[name])  # step by step: the same architecture
        result[f"textbook / {name}"] = {
            "of totals": round(sum(seconds["textbook"]) / sum(seconds[name]), 2),
            "median": round(float(np.median(ratios)), 2),
            "quartiles": [round(float(q), 2) for q in np.quantile(ratios, [0.25, 0.75])],
        }
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
