"""A search space of one's own: six residual blocks, each a 3x3 or a 1x1 convolution, or left out."""

import itertools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from wsnas import WsnasError
from wsnas.data.sources import load_splits, shape_of
from wsnas.recipe import Recipe, Training
from wsnas.table import read_csv

BLOCKS, KERNELS, WIDTH = 6, {"conv3": 3, "conv1": 1, "skip": 0}, 12


@dataclass(frozen=True, order=True)
class Arch:
    blocks: tuple[str, ...]


class Net(nn.Module):
    """Supernet (all operations) or one architecture's network (its own), under the same parameter names."""

    def __init__(self, dataset, arch=None):
        super().__init__()
        classes, inputs, _ = shape_of(dataset)
        self.arch, self.stem, self.head = arch, nn.Conv2d(inputs, WIDTH, 3, padding=1), nn.Linear(WIDTH, classes)
        kept = [[op] for op in arch.blocks] if arch else [KERNELS] * BLOCKS
        self.blocks = nn.ModuleList(
            nn.ModuleDict({op: block(KERNELS[op]) for op in ops if KERNELS[op]}) for ops in kept
        )

    def forward(self, x, path=None):
        x = self.stem(x)
        for choices, op in zip(self.blocks, (self.arch or path).blocks, strict=True):
            x = x + choices.get_submodule(op)(torch.relu(x)) if KERNELS[op] else x
        return self.head(x.mean((2, 3)))


def block(kernel):
    return nn.Sequential(nn.Conv2d(WIDTH, WIDTH, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(WIDTH))


class DepthSpace:
    name, size, metric, micro_table = "depth", len(KERNELS) ** BLOCKS, "accuracy", Path("depth.parquet")
    micro = Recipe("digits", Training(6, 128, 0.1), Training(2, 128, 0.1), calibration_batch=250, calibration_steps=2)
    recipes = {"micro": micro, "paper": micro}  # noqa: RUF012
    every = [Arch(ops) for ops in itertools.product(KERNELS, repeat=BLOCKS)]  # noqa: RUF012

    def __iter__(self):
        return iter(self.every)

    def sample(self, rng):
        return self.every[int(rng.integers(self.size))]

    def index(self, arch):
        return self.every.index(arch)

    def arch(self, index):
        return self.every[index]

    def encode(self, arch):
        return "-".join(arch.blocks)

    def decode(self, text):
        arch = Arch(tuple(text.split("-")))
        if arch not in self.every:
            raise WsnasError(f"'{text}' is not six of {', '.join(KERNELS)} between hyphens")
        return arch

    def training_key(self, arch):  # blocks that are left out leave the same network wherever they stood
        return "-".join(op for op in arch.blocks if op != "skip") or "nothing"

    canonical = training_key

    def decisions(self, arch):
        return {f"block {i}": op for i, op in enumerate(arch.blocks)}

    def cell_graph(self, arch):
        return {"blocks": [(str(i), str(i + 1), op) for i, op in enumerate(arch.blocks)]}

    def fair_paths(self, rng):  # each block takes each of its three operations once
        return [
            Arch(ops) for ops in zip(*(rng.permutation(list(KERNELS)).tolist() for _ in range(BLOCKS)), strict=True)
        ]

    def supernet(self, recipe):
        return Net(recipe.dataset)

    def network(self, arch, recipe):
        return Net(recipe.dataset, arch)

    def load_data(self, recipe, device):
        return load_splits(recipe, device)

    def parameters(self, arch, recipe):
        return sum(p.numel() for p in self.network(arch, recipe).parameters())

    def macs(self, arch, recipe):
        classes, inputs, side = shape_of(recipe.dataset)
        convolutions = sum(WIDTH * WIDTH * KERNELS[op] ** 2 for op in arch.blocks) + 9 * inputs * WIDTH
        return side * side * convolutions + WIDTH * classes

    def import_table(self, path):
        return read_csv(path, self.name)


SPACE = DepthSpace()
