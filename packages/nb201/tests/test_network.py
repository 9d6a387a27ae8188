"""The networks against a textbook implementation written here, and against the published parameter counts."""

from __future__ import annotations

import copy
import csv
import dataclasses
import gzip
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nb201 import SPACE
from nb201.network import Cell, ConvBN, Network, Reduction, average_pool, macs, parameters
from nb201.space import CONV1, CONV3, EDGES, NONE, OPS, POOL, SKIP, Architecture, decode
from wsnas.pieces import Pieces

KERNEL = {CONV1: 1, CONV3: 3}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def some_architectures(count: int, seed: int = 0) -> list[Architecture]:
    rng = np.random.default_rng(seed)
    return [SPACE.sample(rng) for _ in range(count)]


def arch(**edges: int) -> Architecture:
    """``arch(e03=SKIP)``: the named edges, everything else none."""
    return Architecture(tuple(edges.get(f"e{s}{t}", NONE) for s, t in EDGES))  # type: ignore[arg-type]


# the textbook ------------------------------------------------------------------------------------------------


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def relu_conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(outputs))


class TextbookCell(nn.Module):
    """All six edges, each a module; a node is the sum of its edges, none included."""

    def __init__(self, channels: int, one: Architecture) -> None:
        super().__init__()
        make = {
            NONE: lambda: Zero(),
            SKIP: lambda: nn.Identity(),
            CONV1: lambda: relu_conv_bn(channels, channels, 1),
            CONV3: lambda: relu_conv_bn(channels, channels, 3),
            POOL: lambda: nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
        }
        self.edges = nn.ModuleList(make[op]() for op in one.ops)

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x, torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(x)]
        for edge, (source, target) in zip(self.edges, EDGES, strict=True):
            nodes[target] = nodes[target] + edge(nodes[source])
        return nodes[3]


class TextbookReduction(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*relu_conv_bn(inputs, outputs, 3, 2), *relu_conv_bn(outputs, outputs, 3))
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)  # type: ignore[no-any-return]


def textbook(one: Architecture, channels: int, cells: int, classes: int, inputs: int = 3) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(inputs, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)]
    for stage in range(3):
        width = channels * 2**stage
        if stage:
            layers.append(TextbookReduction(width // 2, width))
        layers += [TextbookCell(width, one) for _ in range(cells)]
    layers += [nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]
    return nn.Sequential(*layers)


def pairs_of_parts(network: Network, naive: nn.Sequential) -> list[tuple[nn.Module, nn.Module]]:
    """Our convolutions, batch norms and linear layer beside the textbook's, part by part."""
    found: list[tuple[nn.Module, nn.Module]] = [(network.stem.conv, naive[0]), (network.stem.bn, naive[1])]

    def add(ours: ConvBN, conv: nn.Module, bn: nn.Module) -> None:
        found.extend([(ours.conv, conv), (ours.bn, bn)])

    assert network.arch is not None
    for block, theirs in zip(network.body, naive[2:-5], strict=True):
        if isinstance(block, Reduction):
            add(block.a, theirs.body[1], theirs.body[2])
            add(block.b, theirs.body[4], theirs.body[5])
            found.append((block.shortcut, theirs.shortcut[1]))
        else:
            for e, op in enumerate(network.arch.ops):
                if op in KERNEL:
                    add(block.edges[e][OPS[op]], theirs.edges[e][1], theirs.edges[e][2])
    return [*found, (network.last, naive[-5]), (network.classifier, naive[-1])]


SPECIAL = [
    arch(e03=SKIP),
    arch(e03=SKIP, e13=CONV3, e23=CONV1),  # convolutions of nothing: their batch norm's shift remains
    arch(e03=CONV1, e01=CONV3, e02=POOL, e12=CONV1),  # three edges that reach nothing
    arch(e01=SKIP, e12=SKIP, e23=SKIP),
    arch(e12=CONV3, e23=CONV3, e03=POOL),  # a convolution of a convolution of nothing
]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_equals_the_textbook(training: bool, scrambled: Any) -> None:
    """Outputs and gradients: leaving out none, and edges that reach nothing, changes neither."""
    for one in SPECIAL + some_architectures(25):
        network = Network(4, 2, 7, 3, one)
        naive = scrambled(textbook(one, 4, 2, 7)).double().train(training)
        network = network.double().train(training)
        for ours, theirs in pairs_of_parts(network, naive):
            ours.load_state_dict(theirs.state_dict())
        assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in naive.parameters())
        x = torch.randn(5, 3, 8, 8, dtype=torch.float64)
        outputs = network(x), naive(x)
        torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)
        for output in outputs:
            F.cross_entropy(output, torch.arange(5)).backward()  # type: ignore[no-untyped-call]
        for ours, theirs in pairs_of_parts(network, naive):
            for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
                zero = torch.zeros_like(mine)
                got = zero if mine.grad is None else mine.grad
                expected = zero if other.grad is None else other.grad
                torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-9)


# one code for both -------------------------------------------------------------------------------------------


def test_operations_off_the_path_get_no_gradient() -> None:
    """By hand: 0-3 is a convolution, 0-1 leads nowhere, everything else is none."""
    supernet = Network(4, 1, 10, 1)
    one = arch(e03=CONV3, e01=CONV1)
    F.cross_entropy(supernet(torch.randn(4, 1, 8, 8), one), torch.arange(4)).backward()  # type: ignore[no-untyped-call]
    used = {name for name, p in supernet.named_parameters() if p.grad is not None and "edges" in name}
    parts = ("conv.weight", "bn.weight", "bn.bias")
    assert used == {f"body.{block}.edges.3.nor_conv_3x3.{part}" for block in (0, 2, 4) for part in parts}
    assert all(p.grad is not None for name, p in supernet.named_parameters() if "edges" not in name)


def test_the_supernet_holds_both_convolutions_everywhere() -> None:
    """Counted by hand at width 4, one cell a stage: 6 edges, kernels of 1 and 9 weights, two batch norms."""
    supernet = Network(4, 1, 10, 1)
    edges = sum(p.numel() for name, p in supernet.named_parameters() if "edges" in name)
    assert edges == 6 * sum(10 * c * c + 4 * c for c in (4, 8, 16))


# shapes and operations ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "inputs", "classes"), [(8, 1, 10), (16, 3, 120), (32, 3, 100), (33, 3, 5)])
def test_shapes(side: int, inputs: int, classes: int) -> None:
    """Logits whatever the image; the last cells see a quarter of the side, rounded up."""
    one = decode("|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|")
    seen = []
    network = Network(4, 2, classes, inputs, one)
    for block in network.body:
        block.register_forward_hook(lambda module, args, output: seen.append(tuple(output.shape)))
    assert network(torch.randn(2, inputs, side, side)).shape == (2, classes)
    half = (side + 1) // 2
    quarter = (half + 1) // 2
    sides = [(2, 4, side, side)] * 2 + [(2, 8, half, half)] * 3 + [(2, 16, quarter, quarter)] * 3
    assert seen == sides


def test_average_pooling_leaves_the_padding_out() -> None:
    """A corner of 1 ... 9 averages four pixels: (1 + 2 + 4 + 5) / 4 = 3."""
    cell = Cell(1, [(op,) for op in arch(e03=POOL).ops])
    x = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    expected = torch.tensor([[3.0, 3.5, 4.0], [4.5, 5.0, 5.5], [6.0, 6.5, 7.0]])
    assert torch.equal(cell(x, arch(e03=POOL))[0, 0], expected)
    assert torch.equal(cell(torch.ones(1, 1, 3, 3), arch(e03=POOL)), torch.ones(1, 1, 3, 3))


@pytest.mark.parametrize("side", [8, 15, 16, 32])
def test_quick_pooling_is_average_pooling(side: int) -> None:
    """Values and gradients of torch's own, at the sizes where a depthwise convolution stands in, and below."""
    x = torch.randn(2, 3, side, side).to(memory_format=torch.channels_last)
    with torch.inference_mode():  # evaluating first must not spoil training afterwards
        average_pool(x)
    mine, theirs = (x.clone().requires_grad_() for _ in range(2))
    weight = torch.randn(2, 3, side, side)
    found = average_pool(mine)
    expected = torch.nn.functional.avg_pool2d(theirs, 3, 1, 1, count_include_pad=False)
    assert torch.allclose(found, expected, atol=1e-6)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    assert mine.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(mine.grad, theirs.grad, atol=1e-6)


def test_skips_add_up() -> None:
    """The input reaches the output 0-3, 0-1-3, 0-2-3 and 0-1-2-3: four times."""
    every = Architecture((SKIP,) * 6)
    x = torch.randn(1, 1, 3, 3)
    assert torch.allclose(Cell(1, [(SKIP,)] * 6)(x, every), 4 * x)


# counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "cells", "classes", "inputs"), [(16, 5, 10, 3), (16, 5, 100, 3), (8, 1, 10, 1), (3, 2, 7, 2)]
)
def test_parameters_are_counted_exactly(channels: int, cells: int, classes: int, inputs: int) -> None:
    for one in SPECIAL + some_architectures(15):
        built = sum(p.numel() for p in Network(channels, cells, classes, inputs, one).parameters())
        assert parameters(one, channels, cells, classes, inputs) == built
    recipe = dataclasses.replace(SPACE.recipes["paper"], dataset="cifar10")
    if (channels, cells, classes, inputs) == (16, 5, 10, 3):
        assert SPACE.parameters(one, recipe) == built


def test_range_of_parameters() -> None:
    """73,306 without any convolution to 1,531,546 with six 3x3, at the paper's size and 10 classes."""
    every = [Architecture(ops) for ops in itertools.product(range(5), repeat=6)]  # type: ignore[arg-type]
    counts = [parameters(one, 16, 5, 10) for one in every]
    assert (min(counts), max(counts)) == (73_306, 1_531_546)


def test_published_parameter_counts() -> None:
    """196 architectures of the benchmark, each count to the last weight."""
    default = Path(__file__).resolve().parents[3].parent / "shared" / "data"
    path = Path(os.environ.get("WSNAS_TEST_DATA", default)) / "nb201.csv.gz"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    with gzip.open(path, "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["cifar10_parameters"]]
    assert len(rows) == 196
    for row in rows:
        ops = [OPS.index(term.split("~")[0]) for term in row["architecture"].replace("+", "").split("|") if term]
        assert parameters(Architecture(tuple(ops)), 16, 5, 10) == int(float(row["cifar10_parameters"]))


def counted(model: nn.Module, inputs: int, height: int, width: int) -> int:
    """Multiply-adds of one image by torch's own counter, which counts two operations each; of plain convolutions."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():  # a CPU multiplies matrices in their place
        model.eval().to("meta")(torch.zeros(1, inputs, height, width, device="meta"))
    assert counter.get_total_flops() % 2 == 0
    return counter.get_total_flops() // 2


def dead_convolutions(one: Architecture) -> list[int]:
    """Operations of the convolution edges from which no way of edges that are not none leads to the output."""
    lead = {3}
    for target in (3, 2, 1):
        if target in lead:
            lead |= {s for e, (s, t) in enumerate(EDGES) if t == target and one.ops[e] != NONE}
    return [one.ops[e] for e, (_, t) in enumerate(EDGES) if t not in lead and one.ops[e] in KERNEL]


@pytest.mark.parametrize(
    ("channels", "cells", "inputs", "height", "width"),
    [(8, 1, 1, 8, 8), (4, 2, 3, 32, 32), (4, 1, 3, 33, 33), (4, 2, 3, 16, 32), (4, 2, 3, 33, 16)],
)
def test_multiply_adds_are_counted_exactly(channels: int, cells: int, inputs: int, height: int, width: int) -> None:
    """The textbook computes every edge. The network leaves out those that reach nothing: exactly so much less."""
    for one in SPECIAL + some_architectures(20):
        found = macs(one, channels, cells, 10, inputs, height, width)
        if height % 2 == width % 2 == 0:
            with torch.device("meta"):
                reference = textbook(one, channels, cells, 10, inputs)
            assert counted(reference, inputs, height, width) == found
        idle = sum(
            cells * (channels * 2**stage) ** 2 * KERNEL[op] ** 2 * (-(-height // 2**stage)) * (-(-width // 2**stage))
            for op in dead_convolutions(one)
            for stage in range(3)
        )
        assert idle > 0 or one != SPECIAL[2]
        with torch.device("meta"):
            network = Network(channels, cells, 10, inputs, one)
        assert counted(network, inputs, height, width) == found - idle


@pytest.mark.parametrize(
    ("dataset", "lowest", "highest"),
    [("cifar10", 7.78305, 220.11969), ("cifar100", 7.7889, 220.12554), ("imagenet16-120", 1.9534, 55.03756)],
)
def test_multiply_adds_are_the_published_flops(dataset: str, lowest: float, highest: float) -> None:
    """Least and most of the benchmark on each data set, to the last digit: five decimals of a million are one in ten.

    ``flop_benchmark.py``, with which the benchmark counted, adds the linear layer's bias: one for each class.
    """
    recipe = dataclasses.replace(SPACE.recipes["paper"], dataset=dataset)
    every = [SPACE.macs(one, recipe) for one in SPACE]
    classes = SPACE.image_shape(recipe)[0]
    assert round((min(every) + classes) / 1e6, 5) == lowest
    assert round((max(every) + classes) / 1e6, 5) == highest


def test_published_flops_of_single_architectures() -> None:
    """Architecture 0 as the benchmark's API gives it, 15.64737; and a dead convolution, which its network computes."""
    recipe = dataclasses.replace(SPACE.recipes["paper"], dataset="cifar10")
    first = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    assert SPACE.macs(decode(first), recipe) + 10 == 15_647_370
    dead = arch(e03=SKIP, e01=CONV3)
    assert SPACE.macs(dead, recipe) - SPACE.macs(arch(e03=SKIP), recipe) == 15 * 1024 * 9 * 16**2
    assert SPACE.macs(dead, recipe) == counted(textbook(dead, 16, 5, 10), 3, 32, 32)


# the step from pieces ----------------------------------------------------------------------------------------


EVERY_KIND = [
    arch(e03=SKIP),
    arch(e03=POOL, e01=CONV3),  # a dead edge
    arch(e13=CONV3, e03=SKIP),  # a convolution of nothing
    arch(e12=CONV1, e23=POOL, e13=CONV1, e03=CONV3),  # one that feeds a pool
    arch(e12=SKIP, e23=SKIP, e03=CONV1),  # skips of nothing
    decode("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|skip_connect~0|nor_conv_3x3~1|avg_pool_3x3~2|"),
]


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")],
        ),
    ],
)
def test_a_step_from_pieces_is_the_step_by_autograd(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss, every gradient (or none) and running statistics; cells of every kind, five paths in one step at last."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    one = Network(4, 2, 10).to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    other = copy.deepcopy(one)
    pieces = Pieces(other, F.cross_entropy, amp=False)
    steps = [[(path, 1.0)] for path in EVERY_KIND + some_architectures(20)]
    steps.append([(path, 0.5) for path in SPACE.fair_paths(np.random.default_rng(0))])
    for step in steps:
        x = torch.randn(8, 3, 16, 16).to(device, memory_format=torch.channels_last)
        y = torch.randint(0, 10, (8,)).to(device)
        one.zero_grad(set_to_none=True)
        for path, weight in step:
            (F.cross_entropy(one(x, path), y) * weight).backward()
        pieces(x, y, step)
        for (name, p), q in zip(one.named_parameters(), other.parameters(), strict=True):
            assert (p.grad is None) == (q.grad is None), name
            if p.grad is not None and q.grad is not None:
                assert (p.grad - q.grad).norm() <= 1e-4 * p.grad.norm() + 1e-5, name
        for (name, b), c in zip(one.named_buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(c, b, rtol=1e-4, atol=1e-5, msg=name)
