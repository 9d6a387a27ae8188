"""A search space of 27 architectures that trains in milliseconds: what the core's own tests run on.

Three layers pick one of three operations each; every operation ends in a batch norm.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn

from wsnas.data.images import Images, Splits
from wsnas.data.sources import load_splits
from wsnas.devices import choose_device, to_device
from wsnas.errors import WsnasError
from wsnas.pieces import INPUT, LOGITS, Piece
from wsnas.randomness import torch_seeded
from wsnas.recipe import SGD, Augmentation, Between, CosinePerStep, Recipe, Training
from wsnas.space import SearchSpace
from wsnas.training import train

OPS = ("conv3", "conv1", "pool")
LAYERS = 3


@dataclass(frozen=True, order=True)
class Arch:
    ops: tuple[int, ...]


ALL = tuple(Arch(ops) for ops in itertools.product(range(len(OPS)), repeat=LAYERS))


@dataclass(frozen=True)
class ToyRecipe(Recipe):
    channels: Annotated[int, "channels of every layer", Between(1)] = 4


def operation(op: int, channels: int) -> nn.Sequential:
    work = {
        0: nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        1: nn.Conv2d(channels, channels, 1, bias=False),
        2: nn.AvgPool2d(3, stride=1, padding=1),
    }[op]
    return nn.Sequential(nn.ReLU(), work, nn.BatchNorm2d(channels))


class Net(nn.Module):
    """The supernet with all operations, or one architecture with its own; the same parameter names."""

    def __init__(self, channels: int, arch: Arch | None = None) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        kept = [range(len(OPS))] * LAYERS if arch is None else [(op,) for op in arch.ops]
        self.layers = nn.ModuleList(nn.ModuleDict({OPS[op]: operation(op, channels) for op in layer}) for layer in kept)
        self.head = nn.Linear(channels, 4)
        self.arch = arch

    def forward(self, x: Tensor, arch: Arch | None = None) -> Tensor:
        chosen = arch if self.arch is None else self.arch
        assert chosen is not None
        x = self.stem(x)
        for layer, op in zip(self.layers, chosen.ops, strict=True):
            x = x + layer[OPS[op]](x)
        return self._classify(x)

    def _classify(self, x: Tensor) -> Tensor:
        return self.head(x.mean((2, 3)))

    def pieces(self, arch: Arch) -> Iterator[Piece]:
        yield Piece("stem", None, INPUT, 0, self.stem)
        for i, op in enumerate(arch.ops):
            yield Piece((i, "skip"), None, i, i + 1, same)
            yield Piece(i, op, i, i + 1, self.layers[i][OPS[op]])
        yield Piece("head", None, LAYERS, LOGITS, self._classify)


def same(x: Tensor) -> Tensor:
    return x


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Four classes that a tiny network can learn: which quarter of a noisy image is bright."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    pixels = rng.integers(0, 120, (count, 8, 8, 3))
    for pixel, label in zip(pixels, labels, strict=True):
        y, x = 4 * (label // 2), 4 * (label % 2)
        pixel[y : y + 4, x : x + 4, label % 3] += 100
    return pixels.astype(np.uint8), labels.astype(np.int64)


def splits(train: int = 96, device: str | torch.device = "cpu") -> Splits:
    mean, std = torch.full((3,), 70.0), torch.full((3,), 45.0)
    parts = [Images(*images(n, i), mean, std, torch.device(device)) for i, n in enumerate((train, 64, 64))]
    return Splits(parts[0], parts[1], parts[2], 4)


MICRO = ToyRecipe(
    dataset="toy",
    supernet=Training(3, 16, SGD(0.1, weight_decay=5e-4), clip=1.0, inputs=Augmentation(flip=True, crop=1)),
    standalone=Training(2, 32, SGD(0.1, nesterov=True), CosinePerStep()),
    calibration_batch=16,
    calibration_steps=3,
)


class Toy(SearchSpace[Arch]):
    name = "toy"
    size = len(ALL)
    recipes: Mapping[str, ToyRecipe] = {"paper": MICRO, "micro": MICRO}

    def sample(self, rng: np.random.Generator) -> Arch:
        return ALL[int(rng.integers(len(ALL)))]

    def __iter__(self) -> Iterator[Arch]:
        return iter(ALL)

    def encode(self, arch: Arch) -> str:
        return "-".join(OPS[op] for op in arch.ops)

    def decode(self, text: str) -> Arch:
        names = text.split("-")
        if len(names) != LAYERS or any(name not in OPS for name in names):
            raise WsnasError(f"'{text}' is not a toy architecture")
        return Arch(tuple(OPS.index(name) for name in names))

    def decisions(self, arch: Arch) -> Mapping[str, str]:
        return {f"layer {i}": OPS[op] for i, op in enumerate(arch.ops)}

    def cell_graph(self, arch: Arch) -> Mapping[str, Sequence[tuple[str, str, str]]]:
        return {"layers": [(str(i), str(i + 1), OPS[op]) for i, op in enumerate(arch.ops)]}

    def fair_paths(self, rng: np.random.Generator) -> Sequence[Arch]:
        permutations = [rng.permutation(len(OPS)) for _ in range(LAYERS)]
        return [Arch(tuple(int(p[i]) for p in permutations)) for i in range(len(OPS))]

    def build(self, recipe: ToyRecipe, arch: Arch | None = None) -> Net:
        return Net(recipe.channels, arch)

    def load_data(self, recipe: ToyRecipe, device: torch.device) -> Splits:
        return splits(device=device) if recipe.dataset == "toy" else load_splits(recipe, device)

    def macs(self, arch: Arch, recipe: ToyRecipe) -> int:
        c = recipe.channels
        return 64 * 27 * c + sum({0: 64 * 9 * c * c, 1: 64 * c * c, 2: 0}[op] for op in arch.ops) + 4 * c


TOY = Toy()


def trained_alone(job: tuple[str, int]) -> list[float]:
    """(device, architecture) -> the weights of the head after a stand-alone training in float32; a job for workers."""
    device, index = choose_device(job[0]), job[1]
    torch.backends.cudnn.allow_tf32 = False
    with torch_seeded(0, "init"):
        network = to_device(TOY.network(ALL[index], MICRO), device)
    train(
        network,
        splits(device=device).train,
        MICRO.standalone,
        lambda step: [(ALL[index], 1.0)],
        seed=0,
        amp=False,
        cuda_graph=device.type == "cuda",
    )
    return network.head.weight.detach().flatten().tolist()


def register(site: Path) -> None:
    """Writes into the new folder ``site`` what makes the space an installed one, once the folder is on the path."""
    info = site / "toy_space-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-space\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[wsnas.spaces]\ntoy = toy_space:TOY\n")
