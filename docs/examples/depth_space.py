"""An example search space: six residual blocks, each a 3x3 or 1x1 convolution, or skipped."""

import itertools
from dataclasses import dataclass

import torch
from torch import nn

from wsnas.data.sources import shape_of
from wsnas.recipe import SGD, Recipe, Training
from wsnas.space import SearchSpace

BLOCKS, KERNELS, WIDTH = 6, {"conv3": 3, "conv1": 1, "skip": 0}, 12
MICRO = Recipe("digits", Training(6, 128, SGD(0.1)), Training(2, 128, SGD(0.1)), 250, 2)


@dataclass(frozen=True, order=True)
class Arch:
    blocks: tuple[str, ...]


class Net(nn.Module):
    """Supernet (all operations) or one architecture's network (its own), under the same parameter names."""

    def __init__(self, classes, inputs, arch=None):
        super().__init__()
        self.arch, self.stem, self.head = arch, nn.Conv2d(inputs, WIDTH, 3, padding=1), nn.Linear(WIDTH, classes)
        kept = [KERNELS] * BLOCKS if arch is None else [[op] for op in arch.blocks]
        self.blocks = nn.ModuleList(nn.ModuleDict({op: block(op) for op in ops if op != "skip"}) for ops in kept)

    def forward(self, x, path=None):
        x = self.stem(x)
        for choices, op in zip(self.blocks, (self.arch or path).blocks, strict=True):
            x = x if op == "skip" else x + choices.get_submodule(op)(torch.relu(x))
        return self.head(x.mean((2, 3)))


def block(op):
    return nn.Sequential(nn.Conv2d(WIDTH, WIDTH, KERNELS[op], padding="same", bias=False), nn.BatchNorm2d(WIDTH))


class DepthSpace(SearchSpace[Arch]):
    name, size, recipes = "depth", len(KERNELS) ** BLOCKS, {"micro": MICRO, "paper": MICRO}

    def __iter__(self):
        return map(Arch, itertools.product(KERNELS, repeat=BLOCKS))

    def encode(self, arch):
        return "-".join(arch.blocks)

    def decisions(self, arch):
        return {f"block {i}": op for i, op in enumerate(arch.blocks)}

    def training_key(self, arch):  # the position of skipped blocks does not matter
        return "-".join(op for op in arch.blocks if op != "skip") or "nothing"

    def fair_paths(self, rng):  # each block takes each of its three operations once
        orders = [rng.permutation(list(KERNELS)).tolist() for _ in range(BLOCKS)]
        return [Arch(ops) for ops in zip(*orders, strict=True)]

    def build(self, recipe, arch=None):
        return Net(*shape_of(recipe.dataset)[:2], arch)


SPACE = DepthSpace()
