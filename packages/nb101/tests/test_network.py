"""The networks against a textbook implementation written here, and against the published parameter counts."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nb101 import SPACE
from nb101.network import Cell, ConvBNReLU, Network, macs, max_pool, parameters
from nb101.space import CONV1, CONV3, OPS, POOL, Architecture, architectures, decode
from wsnas import WsnasError

SIDE = {CONV3: 3, CONV1: 1}
TEXT = "conv3x3~0/conv1x1~1/maxpool3x3~0/conv3x3~1+2/conv1x1~0+3/output~4,5"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def some_architectures(count: int, seed: int = 0) -> list[Architecture]:
    rng = np.random.default_rng(seed)
    return [SPACE.sample(rng) for _ in range(count)]


# the textbook: as the benchmark's model_builder.py words it ----------------------------------------------------


class ConvBnRelu(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        convolution = nn.Conv2d(inputs, outputs, side, padding="same", bias=False)
        super().__init__(convolution, nn.BatchNorm2d(outputs, eps=1e-5, momentum=0.003), nn.ReLU())


class TextbookCell(nn.Module):
    """By the adjacency matrix: ``matrix[source][target]``, ``labels`` of the vertices 1 to 5."""

    def __init__(self, matrix: np.ndarray, labels: tuple[int, ...], inputs: int, outputs: int) -> None:
        super().__init__()
        self.matrix = matrix
        width = outputs // int(matrix[:, 6].sum())
        self.project = nn.ModuleDict({str(v): ConvBnRelu(inputs, width, 1) for v in range(1, 6) if matrix[0, v]})
        self.apply_ = nn.ModuleList(
            ConvBnRelu(width, width, SIDE[label]) if label in SIDE else nn.MaxPool2d(3, 1, 1) for label in labels
        )

    def forward(self, x: Tensor) -> Tensor:
        tensors = [x]
        for v in range(1, 6):
            fan_in = [tensors[source] for source in range(1, v) if self.matrix[source, v]]
            if self.matrix[0, v]:
                fan_in.append(self.project[str(v)](x))
            tensors.append(self.apply_[v - 1](torch.stack(fan_in).sum(0)))
        return torch.cat([tensors[source] for source in range(1, 6) if self.matrix[source, 6]], dim=1)


def textbook(arch: Architecture, channels: int, cells: int, classes: int, inputs: int) -> nn.Sequential:
    matrix = np.zeros((7, 7), dtype=int)
    for target, taken in enumerate(arch.sources, start=1):
        matrix[list(taken), target] = 1
    layers: list[nn.Module] = [ConvBnRelu(inputs, channels, 3)]
    width = channels
    for stack in range(3):
        if stack:
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=True))
        for _ in range(cells):
            layers.append(TextbookCell(matrix, arch.ops, width, channels * 2**stack))
            width = channels * 2**stack
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def pairs_of_parts(network: Network, naive: nn.Sequential) -> list[tuple[nn.Module, nn.Module]]:
    """Our convolutions, batch norms and linear layer beside the textbook's."""
    blocks: list[tuple[ConvBNReLU, nn.Module]] = [(network.stem, naive[0])]
    theirs = [layer for layer in naive if isinstance(layer, TextbookCell)]
    ours = [cell for stack in network.stacks for cell in stack]  # type: ignore[union-attr]
    for mine, other in zip(ours, theirs, strict=True):
        blocks += [(mine.projections[v], other.project[v]) for v in other.project]
        blocks += [
            (mine.vertices[str(v)][OPS[op]], other.apply_[v - 1])
            for v, op in enumerate(network.arch.ops, start=1)  # type: ignore[union-attr]
            if op in SIDE
        ]
    found = [pair for mine, other in blocks for pair in ((mine.conv, other[0]), (mine.bn, other[1]))]  # type: ignore[index]
    return [*found, (network.classifier, naive[-1])]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_equals_the_textbook(training: bool, scrambled: Any) -> None:
    """Outputs, gradients and the running statistics that the step leaves."""
    for arch in some_architectures(25):
        network = Network(4, 2, 7, 3, arch)
        naive = scrambled(textbook(arch, 4, 2, 7, 3)).double().train(training)
        network = network.double().train(training)
        for ours, theirs in pairs_of_parts(network, naive):
            ours.load_state_dict(theirs.state_dict())
        assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in naive.parameters())
        x = torch.randn(5, 3, 9, 9, dtype=torch.float64)
        outputs = network(x), naive(x)
        torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)
        for output in outputs:
            F.cross_entropy(output, torch.arange(5)).backward()  # type: ignore[no-untyped-call]
        for ours, theirs in pairs_of_parts(network, naive):
            for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
                assert mine.grad is not None
                assert other.grad is not None
                torch.testing.assert_close(mine.grad, other.grad, rtol=1e-7, atol=1e-9)
            for mine, other in zip(ours.buffers(), theirs.buffers(), strict=True):
                torch.testing.assert_close(mine, other, rtol=1e-7, atol=1e-9)


# one code for both -------------------------------------------------------------------------------------------


def test_what_is_off_the_path_gets_no_gradient() -> None:
    """By hand: vertices 1, 3 and 5 take the input, 3 pools, 1 and 4 are 3x3."""
    supernet = Network(4, 1, 10, 1)
    F.cross_entropy(supernet(torch.randn(4, 1, 8, 8), decode(TEXT)), torch.arange(4)).backward()  # type: ignore[no-untyped-call]
    used = {name for name, p in supernet.named_parameters() if p.grad is not None and name.startswith("stacks.1.")}
    blocks = ("projections.1", "projections.3", "projections.5")
    blocks += ("vertices.1.conv3x3", "vertices.2.conv1x1", "vertices.4.conv3x3", "vertices.5.conv1x1")
    assert used == {
        f"stacks.1.0.{block}.{part}" for block in blocks for part in ("conv.weight", "bn.weight", "bn.bias")
    }


def test_the_supernet_holds_everything_once() -> None:
    """Counted by hand at width 4, one cell a stack: five projections, kernels of 1 and 9, eleven batch norms' pairs."""
    supernet = Network(4, 1, 10, 1)
    found = sum(p.numel() for name, p in supernet.named_parameters() if name.startswith("stacks"))
    by_hand = sum(5 * (c_in * h + 2 * h) + 5 * (10 * h * h + 2 * 2 * h) for c_in, h in ((4, 2), (4, 4), (8, 8)))
    assert found == by_hand


def test_isomorphic_cells_train_alike_but_are_different_paths() -> None:
    """A supernet's weights belong to vertices: cells that are one network alone are two submodels."""
    a = decode("conv3x3~0/conv1x1~0/conv3x3~1/conv3x3~1+2/conv1x1~3+4/output~4,5")
    b = decode("conv1x1~0/conv3x3~0/conv3x3~2/conv3x3~1+2/conv1x1~3+4/output~4,5")
    assert SPACE.canonical(a) == SPACE.canonical(b)
    assert SPACE.training_key(a) == SPACE.training_key(b)
    supernet = Network(4, 1, 10, 1).eval()
    x = torch.randn(3, 1, 8, 8)
    assert not torch.allclose(supernet(x, a), supernet(x, b))


# shapes, operations, the start ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "inputs", "classes"), [(8, 1, 10), (16, 3, 120), (32, 3, 10), (33, 3, 5)])
def test_shapes(side: int, inputs: int, classes: int) -> None:
    """Logits whatever the image; the last stack sees a quarter of the side, rounded up."""
    seen = []
    network = Network(4, 2, classes, inputs, decode(TEXT))
    for stack in network.stacks:
        for cell in stack:  # type: ignore[union-attr]
            cell.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape)))
    assert network(torch.randn(2, inputs, side, side)).shape == (2, classes)
    half = (side + 1) // 2
    quarter = (half + 1) // 2
    assert seen == [(2, 4, side, side)] * 2 + [(2, 8, half, half)] * 2 + [(2, 16, quarter, quarter)] * 2


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(WsnasError, match="even number of channels, not 7"):
        SPACE.supernet(dataclasses.replace(SPACE.recipes["micro"], channels=7))


@pytest.mark.parametrize("side", [2, 4, 7, 8, 32])
def test_quick_pooling_is_max_pooling(side: int) -> None:
    """The numbers of torch where there are no gradients, in both layouts, below zero, too."""
    x = torch.randn(3, 5, side, side) - 3
    x[0, 0, 0, 0] = float("nan")
    for layout in (torch.contiguous_format, torch.channels_last):
        image = x.contiguous(memory_format=layout)
        with torch.no_grad():
            found = max_pool(image)
        assert torch.equal(found.nan_to_num(9), F.max_pool2d(image, 3, 1, 1).nan_to_num(9))
        assert found.is_contiguous(memory_format=layout)
    image = x[1:].requires_grad_()
    max_pool(image).sum().backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None
    assert image.grad.sum() == 2 * 5 * side * side


def test_initial_weights_are_those_of_the_benchmark() -> None:
    """Variance 1 / fan-in after a cut at two deviations; batch norms as the identity; Glorot's bound in the head."""
    torch.manual_seed(0)
    for inputs, outputs, side in ((64, 64, 3), (128, 256, 1)):
        weight = ConvBNReLU(inputs, outputs, side, 0.003).conv.weight.detach()
        std = 1 / math.sqrt(inputs * side * side)
        assert abs(float(weight.std()) / std - 1) < 0.02
        assert abs(float(weight.mean()) / std) < 0.02
        bound = 2 * std / 0.87962566
        assert bound * 0.98 < float(weight.abs().max()) <= bound
    network = SPACE.network(architectures()[0], SPACE.recipes["paper"])
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.003, 1e-5)}
    assert all(float(norm.weight.detach().mean()) == 1 and not norm.bias.detach().any() for norm in norms)
    assert float(network.classifier.weight.detach().abs().max()) <= math.sqrt(6 / (512 + 10))
    assert not network.classifier.bias.detach().any()


# counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "cells", "classes", "inputs"), [(128, 3, 10, 3), (16, 1, 10, 1), (6, 2, 7, 2)])
def test_parameters_are_counted_exactly(channels: int, cells: int, classes: int, inputs: int) -> None:
    for arch in some_architectures(4 if channels == 128 else 15):
        built = sum(p.numel() for p in Network(channels, cells, classes, inputs, arch).parameters())
        assert parameters(arch, channels, cells, classes, inputs) == built
    if channels == 128:
        assert SPACE.parameters(arch, SPACE.recipes["paper"]) == built


def test_range_of_parameters() -> None:
    """At the paper's size over all 95,985 cells: "1M to 13M" (section 2)."""
    counts = [parameters(arch, 128, 3, 10) for arch in architectures()]
    assert (min(counts), max(counts)) == (445_706, 13_381_898)


def test_published_parameter_counts() -> None:
    """500 cells of the benchmark, each count to the last weight."""
    default = Path(__file__).resolve().parents[3].parent / "shared" / "data"
    path = Path(os.environ.get("WSNAS_TEST_DATA", default)) / "nb101.npz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with np.load(path) as stored:
        published, adjacency, ops = stored["parameters"], stored["adjacency"], stored["operations"]
    known = np.flatnonzero(published >= 0)
    assert len(known) == 500
    for row in known:
        sources = tuple(tuple(np.flatnonzero(adjacency[row][:, v]).tolist()) for v in range(1, 7))
        assert parameters(Architecture(sources, tuple(ops[row].tolist())), 128, 3, 10) == published[row]


@pytest.mark.parametrize(
    ("channels", "cells", "inputs", "height", "width"),
    [(16, 1, 1, 8, 8), (4, 3, 3, 32, 32), (4, 1, 3, 33, 33), (4, 3, 3, 16, 32), (4, 3, 3, 33, 16)],
)
def test_multiply_adds_are_counted_exactly(channels: int, cells: int, inputs: int, height: int, width: int) -> None:
    """By torch's own counter, which counts two operations each."""
    for arch in some_architectures(12):
        with torch.device("meta"):  # a CPU multiplies matrices here and there
            network = Network(channels, cells, 10, inputs, arch).eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, inputs, height, width, device="meta"))
        assert counter.get_total_flops() == 2 * macs(arch, channels, cells, 10, inputs, height, width)


def test_every_vertex_pools() -> None:
    """A cell of five pools is its projections and pools alone."""
    arch = Architecture(architectures()[0].sources, (POOL,) * 5)
    cell = Cell(3, 4, 0.1, arch)
    assert sum(p.numel() for p in cell.parameters()) == sum(0 in taken for taken in arch.sources) * (3 * 2 + 2 * 2)
