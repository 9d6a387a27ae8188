"""The networks against a textbook implementation written here, and against the published parameter counts."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import darts_cnn.network as module
from darts_cnn import SPACE
from darts_cnn.network import Network, depthwise, drop_paths, macs, parameters
from darts_cnn.recipes import PAPER, DartsTraining
from darts_cnn.space import AVG_POOL, DIL3, DIL5, MAX_POOL, SEP3, SEP5, SKIP, Architecture, decode, training_key
from wsnas.calibration import calibrate
from wsnas.recipe import SGD
from wsnas.supernet import inherit

DARTS_V2 = decode(
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], "
    "normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
    "reduce_concat=[2, 3, 4, 5])"
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def some(count: int, seed: int = 0) -> list[Architecture]:
    rng = np.random.default_rng(seed)
    return [SPACE.sample(rng) for _ in range(count)]


def all_of(normal: int, reduce: int) -> Architecture:
    """One operation in every slot of a cell; node i reads nodes i - 1 and i - 2."""
    cells = [tuple(((op, i), (op, i + 1)) for i in range(4)) for op in (normal, reduce)]
    return Architecture(*cells)  # type: ignore[arg-type]


# the textbook ------------------------------------------------------------------------------------------------


class Halves(nn.Module):
    """Two strided convolutions of kernel 1, the second of the image moved by one pixel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.a = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.b = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.bn(torch.cat([self.a(x), self.b(x[:, :, 1:, 1:])], dim=1))  # type: ignore[no-any-return]


def separable(c: int, kernel: int, stride: int, dilation: int) -> list[nn.Module]:
    padding = dilation * (kernel - 1) // 2
    wide = nn.Conv2d(c, c, kernel, stride, padding, dilation, groups=c, bias=False)
    return [nn.ReLU(), wide, nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c)]


def operation(op: int, c: int, stride: int) -> nn.Module:
    if op == MAX_POOL:
        return nn.MaxPool2d(3, stride, padding=1)
    if op == AVG_POOL:
        return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
    if op == SKIP:
        return nn.Identity() if stride == 1 else Halves(c, c)
    if op in (SEP3, SEP5):
        kernel = 3 if op == SEP3 else 5
        return nn.Sequential(*separable(c, kernel, stride, 1), *separable(c, kernel, 1, 1))
    return nn.Sequential(*separable(c, 3 if op == DIL3 else 5, stride, 2))


class TextbookCell(nn.Module):
    def __init__(self, genes: object, before: int, last: int, c: int, reduces: bool, after_reduction: bool) -> None:
        super().__init__()
        self.genes = genes
        narrow = nn.Sequential(nn.ReLU(), nn.Conv2d(before, c, 1, bias=False), nn.BatchNorm2d(c))
        self.inputs = nn.ModuleList(
            [
                Halves(before, c) if after_reduction else narrow,
                nn.Sequential(nn.ReLU(), nn.Conv2d(last, c, 1, bias=False), nn.BatchNorm2d(c)),
            ]
        )
        slots = [slot for node in genes for slot in node]  # type: ignore[attr-defined]
        self.slots = nn.ModuleList(operation(op, c, 2 if reduces and source < 2 else 1) for op, source in slots)
        self.sources = [source for _, source in slots]

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        states = [self.inputs[0](before), self.inputs[1](last)]
        for i in range(4):
            states.append(sum(self.slots[2 * i + s](states[self.sources[2 * i + s]]) for s in range(2)))  # type: ignore[arg-type]
        return torch.cat(states[2:], dim=1)


class Textbook(nn.Module):
    def __init__(self, one: Architecture, channels: int, cells: int, classes: int, inputs: int, head: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels)
        )
        self.cells = nn.ModuleList()
        before, last, c, after = 3 * channels, 3 * channels, channels, False
        for i in range(cells):
            reduces = i in (cells // 3, 2 * cells // 3)
            c = 2 * c if reduces else c
            self.cells.append(TextbookCell(one.reduce if reduces else one.normal, before, last, c, reduces, after))
            before, last, after = last, 4 * c, reduces
            if i == 2 * cells // 3:
                self.tap = i
        self.linear = nn.Linear(last, classes)
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(5, stride=3, count_include_pad=False),
            nn.Conv2d(last, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(768, classes),
        ) if head else None  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        before = last = self.stem(x)
        extra = None
        for i, cell in enumerate(self.cells):
            before, last = last, cell(before, last)
            if i == self.tap and self.head is not None:
                extra = self.head(last)
        return self.linear(nn.AdaptiveAvgPool2d(1)(last).flatten(1)), extra


def leaves(model: nn.Module) -> list[nn.Module]:
    """Modules with parameters of their own, in order."""
    return [part for part in model.modules() if any(True for _ in part.parameters(recurse=False))]


def copy(source: nn.Module, target: nn.Module) -> None:
    for ours, theirs in zip(leaves(target), leaves(source), strict=True):
        ours.load_state_dict(theirs.state_dict())


TRAINING = DartsTraining(epochs=10, batch=4, optimizer=SGD(0.1), auxiliary=0.4, drop_path=0.2)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_equals_the_textbook(training: bool, scrambled: Any) -> None:
    """Logits, the loss with its auxiliary part, and gradients."""
    for number, one in enumerate([DARTS_V2, *(all_of(op, op) for op in range(7)), *some(4)]):
        cells, side = ((4, 32), (3, 16))[number % 2]
        head = side == 32
        naive = scrambled(Textbook(one, 4, cells, 7, 3, head)).double().train(training)
        network = Network(4, cells, 7, 3, head, one).double().train(training)
        copy(naive, network)
        x, y = torch.randn(3, 3, side, side, dtype=torch.float64), torch.tensor([1, 5, 2])
        expected, extra = naive(x)
        torch.testing.assert_close(network(x), expected, rtol=1e-9, atol=1e-9)
        loss = F.cross_entropy(expected, y)
        if head:
            loss = loss + 0.4 * F.cross_entropy(extra, y)
        found = network.training_loss(x, y, None, TRAINING if head else dataclasses.replace(TRAINING, auxiliary=0), 0.0)
        torch.testing.assert_close(found, loss, rtol=1e-9, atol=1e-9)
        loss.backward()  # type: ignore[no-untyped-call]
        found.backward()  # type: ignore[no-untyped-call]
        for ours, theirs in zip(leaves(network), leaves(naive), strict=True):
            for mine, other in zip(ours.parameters(recurse=False), theirs.parameters(recurse=False), strict=True):
                torch.testing.assert_close(mine.grad, other.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), list(itertools.product((3, 5), (1, 2), (1, 2))))
def test_depthwise_is_the_plain_convolution(kernel: int, stride: int, dilation: int) -> None:
    """Whatever is done to be quick: values and gradients, on even and odd sides, small and large."""
    for height, width in ((2, 2), (4, 4), (8, 8), (16, 16), (32, 32), (5, 5), (8, 5), (1, 1)):
        x = torch.randn(3, 4, height, width).to(memory_format=torch.channels_last)
        weight = torch.randn(4, 1, kernel, kernel)
        parts = [(x.clone().requires_grad_(), weight.clone().requires_grad_()) for _ in range(2)]
        found = depthwise(*parts[0], stride, dilation)
        padding = dilation * (kernel // 2)
        expected = F.conv2d(*parts[1], None, stride, padding, dilation, 4)  # type: ignore[call-overload]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        outer = torch.randn_like(expected)
        for output in (found, expected):
            output.backward(outer)
        for mine, other in zip(*parts, strict=True):
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-3)


# one code for both -------------------------------------------------------------------------------------------


def test_a_supernet_path_is_the_network_with_its_weights(scrambled: Any) -> None:
    """Bit for bit: train mode, gradients, the loss with drop-path and auxiliary head, eval mode after calibration."""
    supernet = Network(4, 3, 10, 1, True)
    scrambled(supernet)
    x, y = torch.randn(6, 1, 8, 8), torch.arange(6)
    for one in [DARTS_V2, *some(10)]:
        network = inherit(supernet, Network(4, 3, 10, 1, True, one))
        names = dict(network.named_parameters())
        assert names.keys() <= dict(supernet.named_parameters()).keys()
        supernet.train()
        network.train()
        assert torch.equal(supernet(x, one), network(x))
        supernet.zero_grad(set_to_none=True)
        for model in (supernet, network):
            torch.manual_seed(1)
            model.training_loss(x, y, one, TRAINING, 0.5).backward()  # type: ignore[operator]
        for name, parameter in supernet.named_parameters():
            if name not in names:
                assert parameter.grad is None, name
            else:
                assert torch.equal(parameter.grad, names[name].grad), name  # type: ignore[arg-type]
        calibrate(supernet, one, [x[:3], x[3:]])
        network = inherit(supernet, Network(4, 3, 10, 1, True, one)).eval()
        with torch.no_grad():
            assert torch.equal(supernet(x, one), network(x))


def test_paper_scale_weights_fit_the_supernet() -> None:
    """With the auxiliary head, which both hold: every name and shape of the network is among the supernet's."""
    supernet = SPACE.supernet(PAPER).state_dict()
    network = SPACE.network(DARTS_V2, PAPER).state_dict()
    assert any("auxiliary" in name for name in network)
    assert all(supernet[name].shape == value.shape for name, value in network.items())


def used(supernet: Network, path: Architecture, training: DartsTraining = TRAINING) -> set[str]:
    supernet.zero_grad(set_to_none=True)
    supernet.training_loss(torch.randn(2, 1, 8, 8), torch.tensor([0, 1]), path, training, 0.0).backward()  # type: ignore[no-untyped-call]
    return {name for name, parameter in supernet.named_parameters() if parameter.grad is not None}


def test_inputs_share_weights_and_slots_do_not() -> None:
    """ENAS form, by hand: another input of a slot trains the same weights; the other slot, node or cell others."""
    supernet = Network(4, 3, 10, 1)
    plain = dataclasses.replace(TRAINING, auxiliary=0.0)
    base = all_of(SKIP, MAX_POOL)  # no weights but the cells' own
    nothing = used(supernet, base, plain)
    assert not any("nodes" in name for name in nothing)

    def more(*slots: tuple[int, int]) -> set[str]:
        """Weights that the normal cell's last node adds with these slots."""
        return used(supernet, Architecture((*base.normal[:3], slots), base.reduce), plain) - nothing  # type: ignore[arg-type]

    parts = ("depthwise.weight", "pointwise.weight", "bn.weight", "bn.bias")
    expected = {f"cells.0.nodes.3.0.sep_conv_3x3.{half}.{part}" for half in ("first", "second") for part in parts}
    for source in (0, 1, 2, 4):
        assert more((SEP3, source), (SKIP, 3)) == expected
    assert more((SKIP, 3), (SEP3, 0)) == {name.replace("nodes.3.0", "nodes.3.1") for name in expected}
    assert more((DIL5, 1), (SKIP, 0)) == {f"cells.0.nodes.3.0.dil_conv_5x5.{part}" for part in parts}

    def reduced(source: int) -> set[str]:
        node = ((SKIP, source), (MAX_POOL, 3))
        return used(supernet, Architecture(base.normal, (*base.reduce[:3], node)), plain) - nothing  # type: ignore[arg-type]

    parts = ("even.weight", "odd.weight", "bn.weight", "bn.bias")
    assert reduced(0) == reduced(1) == {f"cells.{c}.nodes.3.0.skip_connect.{part}" for c in (1, 2) for part in parts}
    assert reduced(2) == set()  # stride 1: the identity


def test_the_supernet_holds_four_convolutions_per_slot() -> None:
    """Counted by hand at width 4: depthwise and 1x1 weights, batch norms; in reduction cells the factorised skip."""
    supernet = Network(4, 3, 10, 1)
    found = sum(p.numel() for name, p in supernet.named_parameters() if "nodes" in name)

    def slot(c: int, skip: bool) -> int:
        half = lambda kernel: kernel * kernel * c + c * c + 2 * c  # noqa: E731
        return 2 * half(3) + 2 * half(5) + half(3) + half(5) + skip * (c * c + 2 * c)

    assert found == 8 * (slot(4, False) + slot(8, True) + slot(16, True))


def test_an_unused_head_does_not_move() -> None:
    supernet = Network(4, 3, 10, 1, head=True)
    assert not any("auxiliary" in name for name in used(supernet, DARTS_V2, dataclasses.replace(TRAINING, auxiliary=0)))
    assert any("auxiliary" in name for name in used(supernet, DARTS_V2))


# drop-path ---------------------------------------------------------------------------------------------------------


def test_drop_paths_takes_whole_images() -> None:
    x = torch.randn(20_000, 2, 2, 2)
    kept = drop_paths(x, 0.3)
    gone = (kept == 0).flatten(1).all(1)
    torch.testing.assert_close(kept[~gone], x[~gone] / 0.7)
    assert abs(gone.float().mean().item() - 0.3) < 5 * (0.3 * 0.7 / 20_000) ** 0.5


def test_drop_path_rises_with_the_epochs_and_spares_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    """0.2 * epoch / 10 on pools, convolutions and factorised skips; 8 slots a cell, three cells."""
    seen: list[float] = []

    def recorded(x: Tensor, probability: float) -> Tensor:
        seen.append(probability)
        return x

    monkeypatch.setattr(module, "drop_paths", recorded)
    x, y = torch.randn(2, 1, 8, 8), torch.tensor([0, 1])
    training = dataclasses.replace(TRAINING, auxiliary=0.0)
    for progress, probability in ((0.0, 0), (0.09, 0), (0.1, 0.02), (0.5, 0.1), (0.59, 0.1), (0.999, 0.18)):
        seen.clear()
        Network(4, 3, 10, 1, arch=all_of(AVG_POOL, DIL3)).training_loss(x, y, None, training, progress)
        assert seen == pytest.approx([probability] * (24 if probability else 0))
    # normal cell: identities; reduction cells: node 2 reads inputs 0 and 1, node 3 reads 1 and 2
    seen.clear()
    Network(4, 3, 10, 1, arch=all_of(SKIP, SKIP)).training_loss(x, y, None, training, 0.5)
    assert len(seen) == 2 * 3
    seen.clear()
    Network(4, 3, 10, 1, arch=all_of(AVG_POOL, DIL3))(x)  # neither scores nor calibration drop anything
    assert not seen


# the same function -----------------------------------------------------------------------------------------------


def test_swapped_slots_compute_the_same(scrambled: Any) -> None:
    """With the weights in the other slot; in floating point but for the layout in memory that the sum takes over."""
    for one in some(5):
        other = Architecture(*(tuple(node[::-1] for node in cell) for cell in (one.normal, one.reduce)))  # type: ignore[arg-type]
        first, second = scrambled(Network(4, 3, 10, 1, arch=one)).double(), Network(4, 3, 10, 1, arch=other).double()
        weights = {}
        for name, value in first.state_dict().items():
            parts = name.split(".")
            if "nodes" in parts:
                parts[4] = str(1 - int(parts[4]))
            weights[".".join(parts)] = value
        second.load_state_dict(weights)
        x = torch.randn(4, 1, 8, 8, dtype=torch.float64)
        torch.testing.assert_close(first.train()(x), second.train()(x), rtol=1e-9, atol=1e-9)


def test_renumbered_nodes_compute_the_same(scrambled: Any) -> None:
    """Nodes of both cells in another order, and what reads the cells' outputs with its channels in that order."""
    tried = 0
    for one in some(25, seed=3):
        for order in list(itertools.permutations(range(4)))[1:]:
            label = [0, 1, *(2 + order.index(i) for i in range(4))]
            cells = [
                tuple(tuple((op, label[source]) for op, source in cell[i]) for i in order)
                for cell in (one.normal, one.reduce)
            ]
            if any(source > i + 1 for cell in cells for i, node in enumerate(cell) for _, source in node):
                continue
            other = Architecture(*cells)  # type: ignore[arg-type]
            assert training_key(other) == training_key(one)
            first = scrambled(Network(4, 4, 10, 1, arch=one)).double()
            second = Network(4, 4, 10, 1, arch=other).double()
            weights = {}
            for name, value in first.state_dict().items():
                parts = name.split(".")
                reads = None  # the cell whose output this reads
                if "nodes" in parts:
                    parts[3] = str(order.index(int(parts[3])))
                elif parts[0] == "cells" and value.ndim == 4:
                    reads = int(parts[1]) - (2 if parts[2] == "first" else 1)
                elif name == "classifier.weight":
                    reads = 3
                if reads is not None and reads >= 0:
                    value = torch.cat([value.chunk(4, 1)[i] for i in order], 1)
                weights[".".join(parts)] = value
            second.load_state_dict(weights)
            x = torch.randn(4, 1, 8, 8, dtype=torch.float64)
            torch.testing.assert_close(second(x), first(x), rtol=1e-9, atol=1e-9)
            tried += 1
            break
    assert tried > 5


# counts ------------------------------------------------------------------------------------------------------------


def test_published_parameter_counts() -> None:
    """DARTS_V2 at 36 channels, 20 cells, 10 classes: 3.3 M, exactly these."""
    without = dataclasses.replace(PAPER, auxiliary_head=False)
    for recipe, count in ((without, 3_349_342), (PAPER, 3_825_768)):
        assert SPACE.parameters(DARTS_V2, recipe) == count
        assert sum(p.numel() for p in SPACE.network(DARTS_V2, recipe).parameters()) == count


@pytest.mark.parametrize(
    ("channels", "cells", "classes", "inputs", "head"),
    [(36, 20, 10, 3, True), (8, 3, 10, 1, False), (3, 4, 7, 2, True), (2, 1, 5, 3, False), (4, 2, 5, 3, True)],
)
def test_parameters_are_counted_exactly(channels: int, cells: int, classes: int, inputs: int, head: bool) -> None:
    for one in [*(all_of(op, 6 - op) for op in range(7)), *some(2 if cells == 20 else 10)]:
        built = sum(p.numel() for p in Network(channels, cells, classes, inputs, head, one).parameters())
        assert parameters(one, channels, cells, classes, inputs, head) == built


@pytest.mark.parametrize(
    ("channels", "cells", "inputs", "height", "width"),
    [(8, 3, 1, 8, 8), (4, 5, 3, 32, 32), (4, 3, 3, 33, 33), (4, 5, 3, 16, 32), (4, 5, 3, 33, 16)],
)
def test_multiply_adds_are_counted_exactly(channels: int, cells: int, inputs: int, height: int, width: int) -> None:
    """By torch's own counter, which counts two operations each, over our network and the textbook's."""
    for one in [DARTS_V2, all_of(SEP5, SKIP), all_of(DIL5, DIL3), *some(6)]:
        found = macs(one, channels, cells, 10, inputs, height, width)
        models = [Network(channels, cells, 10, inputs, arch=one)]
        if height % 2 == width % 2 == 0:
            models.append(Textbook(one, channels, cells, 10, inputs, False))  # type: ignore[arg-type]
        for model in models:
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                model.eval()(torch.zeros(1, inputs, height, width))
            assert counter.get_total_flops() == 2 * found


@pytest.mark.parametrize(("side", "cells"), [(8, 3), (16, 1), (32, 6), (33, 4), (7, 3)])
def test_shapes(side: int, cells: int) -> None:
    """A cell keeps the side or halves it, rounded up; four nodes, doubled twice; the head gives logits at any size."""
    network = Network(4, cells, 5, 3, True, some(1)[0])
    seen = []
    for cell in network.cells:
        cell.register_forward_hook(lambda part, args, output: seen.append(tuple(output.shape)))
    loss = network.training_loss(torch.randn(2, 3, side, side), torch.tensor([0, 1]), None, TRAINING, 0.0)
    assert loss.isfinite()
    width = 4
    for i, shape in enumerate(seen):
        if i in (cells // 3, 2 * cells // 3):
            side, width = (side + 1) // 2, 2 * width
        assert shape == (2, 4 * width, side, side)
