"""The network against a textbook's, published counts, torch's counter, and the supernet it shares its code with."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from proxyless import SPACE
from proxyless.network import Bottleneck, Network, Skeleton, costs, macs, parameters, scaled
from proxyless.recipes import MICRO, PAPER
from proxyless.space import OPS, SKIP, Architecture, decode, sample
from wsnas import WsnasError

torch.set_num_threads(1)

GPU = (
    "k5e3 skip skip skip | k7e3 k3e3 skip skip | k7e6 k5e3 skip skip | k5e6 k3e3 k5e3 skip | k7e6 k7e6 k7e6 k5e6 | k7e6"
)
SMALL = Skeleton(0.125, "2111121", 10, 1)


def some_architectures(count: int) -> list[Architecture]:
    rng = np.random.default_rng(0)
    return [sample(rng) for _ in range(count)]


# published -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "parameters", "multiply_adds"), [(1.35, 7_119_848, 465_260_160), (1.0, 4_359_048, 264_130_112)]
)
def test_proxyless_gpu_as_published(width: float, parameters: int, multiply_adds: int) -> None:
    """7.1 M parameters and 465 M multiply-adds at width 1.35, 4.36 M and 264.1 M at 1.0; counted and built."""
    recipe = dataclasses.replace(PAPER, width=width)
    assert SPACE.parameters(decode(GPU), recipe) == parameters
    assert SPACE.macs(decode(GPU), recipe) == multiply_adds
    network = SPACE.network(decode(GPU), recipe)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_widths_at_135() -> None:
    """Stem 40, first block 24, stages 32/56/112/128/256/432, head 1728; strides 2 2 2 1 2 1."""
    skeleton = Skeleton(width=1.35)
    assert (skeleton.stem, skeleton.first, skeleton.head) == ((40, 2), 24, 1728)
    firsts = [skeleton.blocks[block] for block in (0, 4, 8, 12, 16, 20)]
    assert firsts == [(24, 32, 2), (32, 56, 2), (56, 112, 2), (112, 128, 1), (128, 256, 2), (256, 432, 1)]
    assert all(skeleton.blocks[b] == (w, w, 1) for b, w in ((1, 32), (7, 56), (11, 112), (15, 128), (19, 256)))


def test_widths_are_multiples_of_eight_not_far_below() -> None:
    assert [scaled(c, w) for c, w in ((32, 1.35), (40, 0.25), (24, 0.1), (80, 0.25), (16, 1.0))] == [40, 16, 8, 24, 16]


def test_range_of_multiply_adds() -> None:
    """182 M to 1,037 M at width 1.35 and 224x224: each block's cheapest and dearest choice."""
    (_, fixed), blocks = costs(Skeleton(width=1.35))
    extremes = [fixed + sum(pick(m for _, m in of) for of in blocks) for pick in (min, max)]
    assert [round(total / 1e6) for total in extremes] == [182, 1037]


# the textbook ----------------------------------------------------------------------------------------------------


def conv_bn(inputs: int, outputs: int, kernel: int, stride: int, groups: int, relu: bool) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=(kernel - 1) // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs, eps=0.001), *([nn.ReLU6()] if relu else [])]


class TextbookBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        layers = conv_bn(inputs, inner, 1, 1, 1, True) if expansion != 1 else []
        layers += conv_bn(inner, inner, kernel, stride, inner, True) + conv_bn(inner, outputs, 1, 1, 1, False)
        self.layers, self.shortcut = nn.Sequential(*layers), stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) + x if self.shortcut else self.layers(x)  # type: ignore[no-any-return]


def textbook(text: str) -> nn.Sequential:
    """The network of ``SMALL`` written out from the architecture's text: widths 8 8 | 8 8 16 16 24 40 | 160."""
    layers: list[nn.Module] = [*conv_bn(1, 8, 3, 2, 1, True), TextbookBlock(8, 8, 3, 1, 1)]
    inputs = 8
    for stage, outputs, stride in zip(text.split("|"), (8, 8, 16, 16, 24, 40), (1, 1, 1, 1, 2, 1), strict=True):
        for i, name in enumerate(stage.split()):
            if name != "skip":
                kernel, expansion = int(name[1]), int(name[3])
                layers.append(TextbookBlock(inputs, outputs, kernel, expansion, stride if i == 0 else 1))
                inputs = outputs
    layers += conv_bn(40, 160, 1, 1, 1, True)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(160, 10))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_equals_the_textbook(training: bool, scrambled: Any) -> None:
    """Outputs and gradients of five architectures; the state of both lists the same tensors in the same order."""
    torch.manual_seed(0)
    for one in [decode(GPU), *some_architectures(4)]:
        network = Network(SMALL, one).double().train(training)
        naive = scrambled(textbook(SPACE.encode(one))).double().train(training)
        ours, theirs = network.state_dict(), naive.state_dict()
        network.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
        x = torch.randn(5, 1, 8, 8, dtype=torch.float64)
        outputs = network(x), naive(x)
        torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)
        for output in outputs:
            F.cross_entropy(output, torch.arange(5)).backward()  # type: ignore[no-untyped-call, unused-ignore]
        for mine, other in zip(network.parameters(), naive.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-7, atol=1e-9)


def test_relu6_and_epsilon() -> None:
    network = Network(SMALL, decode(GPU))
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {norm.eps for norm in norms} == {1e-3}
    assert network.stem(1e6 * torch.randn(4, 1, 8, 8)).max() <= 6
    assert network.first(torch.randn(4, 8, 4, 4)).min() < 0  # no activation after the last convolution of a block


def test_malformed_strides_are_refused() -> None:
    for wrong in ("222212", "22221211", "2222123", "abcdefg", ""):
        with pytest.raises(WsnasError, match="seven digits"):
            Skeleton(strides=wrong)


# one code for both -----------------------------------------------------------------------------------------------


def test_the_supernet_holds_every_choice() -> None:
    """Counted one choice at a time: what is fixed, and six bottlenecks in each of 21 blocks."""
    supernet = Network(SMALL)
    (fixed, _), blocks = costs(SMALL)
    assert sum(p.numel() for p in supernet.parameters()) == fixed + sum(p for of in blocks for p, _ in of)
    assert all(set(block) == set(OPS) - {"skip"} for block in supernet.blocks)  # type: ignore[call-overload]


def test_a_skipped_block_is_the_identity() -> None:
    """Of two paths that differ in one skip, the block's input is the other's output."""
    supernet = Network(SMALL).eval()
    one = decode(GPU)
    with_block = Architecture((*one.blocks[:19], 0, one.blocks[20]))
    without = Architecture((*one.blocks[:19], SKIP, one.blocks[20]))
    seen: list[Tensor] = []
    supernet.blocks[20]["k7e6"].register_forward_pre_hook(lambda module, args: seen.append(args[0]))  # type: ignore[index]
    x = torch.randn(2, 1, 8, 8)
    supernet(x, with_block)
    supernet(x, without)
    block: Bottleneck = supernet.blocks[19][OPS[0]]  # type: ignore[index, assignment]
    torch.testing.assert_close(seen[0], block(seen[1]))


def test_an_identity_start_is_one() -> None:
    """Blocks with a residual, and only they, add nothing at first; the other recipe's blocks do."""
    torch.manual_seed(0)
    for identity in (True, False):
        supernet = Network(dataclasses.replace(SMALL, identity_start=identity))
        for block, (inputs, _, _) in enumerate(SMALL.blocks):
            x = torch.randn(4, inputs, 4, 4)
            found = supernet.blocks[block]["k5e3"](x)  # type: ignore[index]
            residual = SMALL.blocks[block][0] == SMALL.blocks[block][1] and SMALL.blocks[block][2] == 1
            assert (found.shape == x.shape and torch.equal(found, x)) == (identity and residual)


# counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "skeleton",
    [SMALL, Skeleton(0.25, "1122121", 7, 3), Skeleton(0.5), Skeleton(1.35)],
    ids=lambda s: f"width {s.width}",
)
def test_parameters_are_counted_exactly(skeleton: Skeleton) -> None:
    for one in some_architectures(4):
        assert parameters(one, skeleton) == sum(p.numel() for p in Network(skeleton, one).parameters())


@pytest.mark.parametrize(
    ("skeleton", "height", "width"),
    [
        (SMALL, 8, 8),
        (Skeleton(0.25, "1122121", 7, 3), 33, 33),
        (Skeleton(0.25), 65, 65),
        (Skeleton(0.5), 64, 64),
        (Skeleton(0.25), 64, 32),
        (Skeleton(0.25), 33, 64),
    ],
)
def test_multiply_adds_are_counted_exactly(skeleton: Skeleton, height: int, width: int) -> None:
    """By torch's own counter, which counts two operations each; also where a side is odd."""
    for one in some_architectures(2):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            Network(skeleton, one).eval()(torch.zeros(1, skeleton.inputs, height, width))
        assert counter.get_total_flops() == 2 * macs(one, skeleton, height, width)


@pytest.mark.parametrize(("side", "classes", "inputs"), [(8, 10, 1), (32, 5, 3), (224, 1000, 3)])
def test_shapes(side: int, classes: int, inputs: int) -> None:
    strides = MICRO.strides if side == 8 else PAPER.strides
    network = Network(Skeleton(0.125, strides, classes, inputs), decode(GPU)).eval()
    with torch.no_grad():
        assert network(torch.randn(2, inputs, side, side)).shape == (2, classes)
