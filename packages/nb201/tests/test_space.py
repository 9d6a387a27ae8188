"""The space against counts of its own making: reachability by matrix powers, functions by evaluating them."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from nb201 import SPACE
from nb201.network import Cell
from nb201.space import (
    CONV1,
    CONV3,
    EDGES,
    NONE,
    OPS,
    POOL,
    SKIP,
    Architecture,
    canonical,
    decode,
    encode,
    fair_paths,
    training_key,
)
from nb201.space import architectures as valid_architectures
from wsnas import WsnasError

EVERY = [Architecture(ops) for ops in itertools.product(range(5), repeat=6)]  # type: ignore[arg-type]
CONVOLUTIONS = (CONV1, CONV3)


def arch(**edges: int) -> Architecture:
    """``arch(e03=SKIP)``: the named edges, everything else none."""
    return Architecture(tuple(edges.get(f"e{s}{t}", NONE) for s, t in EDGES))  # type: ignore[arg-type]


# how many, and which -----------------------------------------------------------------------------------------


def test_valid_architectures_are_those_whose_output_is_reached() -> None:
    """By powers of the adjacency matrix, for all 15,625."""
    adjacency = np.zeros((len(EVERY), 4, 4), dtype=np.int64)
    for e, (source, target) in enumerate(EDGES):
        adjacency[:, source, target] = [a.ops[e] != NONE for a in EVERY]
    square = adjacency @ adjacency
    ways = (adjacency + square + square @ adjacency)[:, 0, 3]
    expected = [a for a, count in zip(EVERY, ways, strict=True) if count > 0]
    assert len(EVERY) == 15_625
    assert len(expected) == 15_284  # Table 1
    assert list(valid_architectures()) == expected
    assert list(SPACE) == expected
    assert SPACE.size == 15_284


def test_official_classes() -> None:
    """6,466 over all 15,625 cells, as published; 6,461 of them hold a valid one."""
    assert len({canonical(a) for a in EVERY}) == 6_466
    assert len({canonical(a) for a in valid_architectures()}) == 6_461


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (arch(), "#+#+#"),
        (arch(e03=SKIP), "#+#+0"),
        (arch(e03=CONV3, e01=SKIP, e13=CONV1), "#+(0)@nor_conv_1x1+(0)@nor_conv_3x3"),
        (arch(e01=POOL, e13=SKIP), "#+#+(0)@avg_pool_3x3"),
        # node 2 is "#+#", which is not reduced to "#": its convolution stays in the string
        (arch(e03=SKIP, e23=CONV3), "#+(#+#)@nor_conv_3x3+0"),
        (arch(e03=SKIP, e13=CONV3), "#+#+0"),  # while node 1 alone is "#", and its convolution is lost
        # node 2 is "0+0"; a skip copies it as one term, so that the terms are not sorted again
        (arch(e01=SKIP, e02=SKIP, e12=SKIP, e03=CONV1, e23=SKIP), "#+(0)@nor_conv_1x1+0+0"),
    ],
)
def test_official_string_by_hand(one: Architecture, expected: str) -> None:
    assert canonical(one) == expected


# training_key ------------------------------------------------------------------------------------------------


def fingerprints() -> dict[Architecture, tuple[float, ...]]:
    """A number for each valid cell that only its function decides, whatever its convolutions are called.

    Nodes are scalars. Edge e's convolution is ``b + a * h(x)`` with a random (a, b) of its own, h odd and
    different for 1x1 and 3x3; pooling is a nonlinear odd function, so that it does not distribute over sums. The
    six pairs (a, b) are dealt to the edges in all 720 ways at once: cells that differ only in what their
    convolutions are called see the same 720 values.
    """
    rng = np.random.default_rng(0)
    a, b = rng.uniform(0.5, 1.5, 6), rng.uniform(-1, 1, 6)
    deals = np.array(list(itertools.permutations(range(6)))).T  # [6 edges, 720]
    found = {}
    for one in valid_architectures():
        nodes: list[NDArray[np.float64]] = [np.full(720, 0.7), np.zeros(720), np.zeros(720), np.zeros(720)]
        for e, (source, target) in enumerate(EDGES):
            x, op = nodes[source], one.ops[e]
            if op == SKIP:
                nodes[target] = nodes[target] + x
            elif op == POOL:
                nodes[target] = nodes[target] + np.sin(1.7 * x)
            elif op in CONVOLUTIONS:
                h = np.tanh(1.9 * x) if op == CONV1 else np.sin(x) * np.cos(0.3 * x)
                nodes[target] = nodes[target] + b[deals[e]] + a[deals[e]] * h
        values = np.sort(nodes[3])
        found[one] = tuple(round(float(moment), 8) for moment in (values.mean(), (values**2).mean(), values[0]))
    return found


def test_training_key_is_the_function_up_to_names() -> None:
    """5,476 classes: equal keys where, and only where, the functions are equal."""
    found = fingerprints()
    assert len(set(found.values())) == 5_476
    assert len({(training_key(a), value) for a, value in found.items()}) == 5_476
    assert len({training_key(a) for a in found}) == 5_476


def live_convolutions(one: Architecture) -> list[int]:
    """The convolution edges whose target reaches the output."""
    reaches = {3}
    for source, target in sorted(EDGES, key=lambda edge: -edge[1]):
        if target in reaches and one.ops[EDGES.index((source, target))] != NONE:
            reaches.add(source)
    return [e for e, (_, target) in enumerate(EDGES) if one.ops[e] in CONVOLUTIONS and target in reaches]


def random_cell(one: Architecture) -> Cell:
    cell = Cell(2, [(op,) for op in one.ops]).double()
    for parameter in cell.parameters():
        torch.nn.init.normal_(parameter)
    return cell


def same_function(a: Architecture, b: Architecture, x: torch.Tensor) -> bool:
    """Whether some dealing of a's random convolution weights to b's convolutions makes the two cells equal.

    Where kernels differ only the batch norm is copied: enough where the convolution's input is nothing.
    """
    first, second = random_cell(a), random_cell(b)
    expected = first(x, a)
    ours, theirs = live_convolutions(a), live_convolutions(b)
    if len(ours) != len(theirs):
        return False
    for order in itertools.permutations(ours):
        for source, target in zip(order, theirs, strict=True):
            copied = first.edges[source][OPS[a.ops[source]]].state_dict()  # type: ignore[index]
            if a.ops[source] != b.ops[target]:
                del copied["conv.weight"]
            second.edges[target][OPS[b.ops[target]]].load_state_dict(copied, strict=False)  # type: ignore[index]
        if torch.allclose(second(x, b), expected, rtol=1e-9, atol=1e-9):
            return True
    return False


def test_networks_of_one_training_key_compute_the_same() -> None:
    """With the cell that is trained: batch norm in train mode, weights dealt anew."""
    torch.manual_seed(0)
    groups = defaultdict(list)
    for one in valid_architectures():
        groups[training_key(one)].append(one)
    shared = [group for group in groups.values() if len(group) > 1]
    rng = np.random.default_rng(1)
    x = torch.randn(3, 2, 5, 5, dtype=torch.float64)
    pairs = []
    for i in rng.choice(len(shared), 60, replace=False):
        group = shared[int(i)]
        first, second = rng.choice(len(group), 2, replace=False)
        pairs.append((group[int(first)], group[int(second)]))
    different = [(a, b) for a, b in pairs if sorted(a.ops) != sorted(b.ops)]
    assert len(different) > 10  # not only reordered operations
    assert all(same_function(a, b, x) for a, b in pairs)


def test_one_convolution_used_twice_is_not_two() -> None:
    """Node 1 added to the output directly and through node 2, against two convolutions: one official class."""
    torch.manual_seed(0)
    once = arch(e01=CONV3, e13=SKIP, e12=SKIP, e23=SKIP)
    twice = arch(e01=CONV3, e02=CONV3, e13=SKIP, e23=SKIP)
    x = torch.randn(3, 2, 5, 5, dtype=torch.float64)
    assert canonical(once) == canonical(twice)
    assert training_key(once) != training_key(twice)
    assert not same_function(once, twice, x)
    direct = arch(e01=CONV3, e13=SKIP, e03=CONV3)  # the two convolutions once more, without node 2
    assert training_key(direct) == training_key(twice)
    assert same_function(direct, twice, x)


def test_official_classes_that_train_differently() -> None:
    """430 merge one convolution used twice with two; with a convolution of nothing forgotten there are more."""
    keys, without_bias = defaultdict(set), defaultdict(set)
    for one in valid_architectures():
        key = training_key(one)
        keys[canonical(one)].add(key)
        if "bias" not in key:
            without_bias[canonical(one)].add(key)
    assert sum(len(found) > 1 for found in without_bias.values()) == 430
    assert sum(len(found) > 1 for found in keys.values()) > 430


def test_an_edge_that_reaches_nothing_does_not_matter() -> None:
    """Every operation on 0-1 and 1-2 where node 2 leads nowhere and node 1 only to node 2."""
    base = arch(e03=CONV1)
    for op01, op02, op12 in itertools.product(range(5), repeat=3):
        assert training_key(arch(e03=CONV1, e01=op01, e02=op02, e12=op12)) == training_key(base)
    assert training_key(arch(e03=CONV3)) != training_key(base)


def test_a_convolution_of_nothing_is_a_bias() -> None:
    """1x1 or 3x3, whichever node is empty; not nothing, and not a convolution of something."""
    keys = {training_key(arch(e03=SKIP, **{edge: op})) for edge in ("e13", "e23") for op in CONVOLUTIONS}
    assert len(keys) == 1
    assert keys.isdisjoint({training_key(arch(e03=SKIP)), training_key(arch(e03=SKIP, e01=SKIP, e13=CONV1))})
    assert training_key(arch(e03=SKIP, e13=POOL)) == training_key(arch(e03=SKIP))


# notation ----------------------------------------------------------------------------------------------------


def test_encode_writes_the_published_string() -> None:
    """Index 0 and 1 of the published table."""
    first = "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|"
    second = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
    assert encode(arch(e01=POOL, e02=CONV1, e12=SKIP, e03=CONV1, e13=SKIP, e23=SKIP)) == first
    assert decode(second) == arch(e01=CONV3, e02=CONV3, e12=POOL, e03=SKIP, e13=CONV3, e23=SKIP)


def test_every_architecture_survives_writing_and_reading() -> None:
    written = {encode(one): one for one in SPACE}
    assert len(written) == 15_284
    assert all(decode(text) == one for text, one in written.items())


VALID = "|skip_connect~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is not a NAS-Bench-201 architecture"),
        ("resnet18", "is not a NAS-Bench-201 architecture"),
        (VALID[:-1], "is not a NAS-Bench-201 architecture"),
        (VALID + "|", "is not a NAS-Bench-201 architecture"),
        (VALID + "\n" + VALID, "is not a NAS-Bench-201 architecture"),
        (VALID.replace("none~2", "none~1"), "is not a NAS-Bench-201 architecture"),
        (VALID.replace("+|none~0|none~1|", ""), "is not a NAS-Bench-201 architecture"),
        (VALID.replace("skip_connect~0", "dil_conv_3x3~0", 1), "unknown operation 'dil_conv_3x3'"),
        (VALID.replace("skip_connect", "SKIP_CONNECT"), "unknown operation 'SKIP_CONNECT'"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|", "is not valid"),
        ("|skip_connect~0|+|skip_connect~0|skip_connect~1|+|none~0|none~1|none~2|", "is not valid"),
        ("|none~0|+|none~0|skip_connect~1|+|none~0|skip_connect~1|nor_conv_3x3~2|", "is not valid"),
    ],
)
def test_decode_says_what_is_wrong(text: str, reason: str) -> None:
    assert decode(VALID) == arch(e01=SKIP, e03=SKIP)
    with pytest.raises(WsnasError, match=reason):
        decode(text)


def test_the_space_is_iterated_in_order() -> None:
    every = list(SPACE)
    assert len(set(every)) == len(every) == 15_284
    assert every[0] == arch(e03=SKIP)  # 0-1, 0-2 and 1-2 none: only 0-3 can reach the output, and comes first
    assert sorted(every) == every


# chance ------------------------------------------------------------------------------------------------------


def test_sampling_is_uniform() -> None:
    """Chi-square over all 15,284 cells, about 13 draws each; a generator decides the draws."""
    rng = np.random.default_rng(0)
    drawn = Counter(SPACE.sample(rng) for _ in range(200_000))
    assert drawn.keys() <= set(SPACE)
    counts = np.array([drawn[one] for one in SPACE])
    assert 1e-3 < stats.chisquare(counts).pvalue < 1 - 1e-3  # too even is not chance either
    again = np.random.default_rng(0)
    assert Counter(SPACE.sample(again) for _ in range(1000)) != Counter(SPACE.sample(again) for _ in range(1000))
    assert SPACE.sample(np.random.default_rng(5)) == SPACE.sample(np.random.default_rng(5))


def test_fair_paths_use_each_operation_once_per_edge() -> None:
    """And the permutations are uniform: by symmetry each path has each operation on each edge in 1/5 of the sets."""
    rng = np.random.default_rng(0)
    valid = set(SPACE)
    counts = np.zeros((5, 6, 5), dtype=np.int64)  # path, edge, operation
    firsts: Counter[Architecture] = Counter()
    sets = 2000
    for _ in range(sets):
        paths = fair_paths(rng)
        assert len(paths) == 5
        assert set(paths) <= valid
        for edge in range(6):
            assert sorted(path.ops[edge] for path in paths) == [0, 1, 2, 3, 4]
        for i, path in enumerate(paths):
            for edge, op in enumerate(path.ops):
                counts[i, edge, op] += 1
        firsts[paths[0]] += 1
    for i in range(5):
        for edge in range(6):
            assert stats.chisquare(counts[i, edge]).pvalue > 1e-4
    assert len(firsts) > 0.9 * sets  # drawn anew each time: 2,000 draws of 15,284 repeat about 120
    assert list(fair_paths(np.random.default_rng(3))) == list(fair_paths(np.random.default_rng(3)))


def test_decisions_name_every_edge() -> None:
    one = arch(e01=POOL, e02=CONV1, e12=SKIP, e03=CONV3, e13=SKIP)
    assert SPACE.decisions(one) == {
        "edge 0-1": "avg_pool_3x3",
        "edge 0-2": "nor_conv_1x1",
        "edge 1-2": "skip_connect",
        "edge 0-3": "nor_conv_3x3",
        "edge 1-3": "skip_connect",
        "edge 2-3": "none",
    }
    assert SPACE.cell_graph(one) == {
        "cell": [
            ("input 0", "1", "avg_pool_3x3"),
            ("input 0", "2", "nor_conv_1x1"),
            ("1", "2", "skip_connect"),
            ("input 0", "output 3", "nor_conv_3x3"),
            ("1", "output 3", "skip_connect"),
        ]
    }
