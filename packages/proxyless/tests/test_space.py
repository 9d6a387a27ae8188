"""The space against arithmetic, enumeration of what can be enumerated, and networks that are compared."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats

from proxyless import SPACE
from proxyless.network import Network, Skeleton
from proxyless.recipes import PAPER
from proxyless.space import (
    BLOCKS,
    OPS,
    RADIX,
    SKIP,
    STAGES,
    Architecture,
    canonical,
    decode,
    encode,
    fair_paths,
    sample,
    training_key,
)
from wsnas import WsnasError
from wsnas.sampling import sample_candidates, sample_distinct, sample_within_limit

# Proxyless-GPU as Cai et al. publish it, read from its blocks: a stage between bars.
GPU = (
    "k5e3 skip skip skip | k7e3 k3e3 skip skip | k7e6 k5e3 skip skip | k5e6 k3e3 k5e3 skip | k7e6 k7e6 k7e6 k5e6 | k7e6"
)
FIRSTS = (0, 4, 8, 12, 16, 20)  # the first block of each stage


# how many, and which -----------------------------------------------------------------------------------------


def test_size_is_table_1() -> None:
    """2.22e17: six blocks of 3 kernels x 2 expansions, fifteen with a skip besides."""
    assert SPACE.size == 6**6 * 7**15 == 221_502_229_807_900_608
    assert [block for block, choices in enumerate(RADIX) if choices == 6] == list(FIRSTS)
    assert set(RADIX) == {6, 7}
    assert len(RADIX) == BLOCKS == sum(STAGES) == 21


def test_iteration_is_lazy_and_in_order() -> None:
    """The last block changes fastest and cannot be skipped; those before it in stage 5 can."""
    first = list(itertools.islice(SPACE, 6 * 7 * 7 + 1))
    expected = [(0,) * 18 + last for last in itertools.product(range(7), range(7), range(6))]
    assert [one.blocks for one in first] == [*expected, (0,) * 17 + (1, 0, 0, 0)]


def test_samples_are_uniform() -> None:
    """Each block's choices over 8,000 samples, by a chi-squared test each; 21 tests, so p above 1e-5."""
    rng = np.random.default_rng(1)
    drawn = np.array([sample(rng).blocks for _ in range(8000)])
    for block, choices in enumerate(RADIX):
        counts = np.bincount(drawn[:, block], minlength=choices)
        assert len(counts) == choices
        assert stats.chisquare(counts).pvalue > 1e-5


# notation ----------------------------------------------------------------------------------------------------


def test_notation_by_hand() -> None:
    one = decode(GPU)
    assert [OPS[choice] for choice in one.blocks[:8]] == ["k5e3", *["skip"] * 3, "k7e3", "k3e3", "skip", "skip"]
    assert [OPS[choice] for choice in one.blocks[16:]] == ["k7e6", "k7e6", "k7e6", "k5e6", "k7e6"]
    assert encode(one) == GPU
    assert decode(f"  {GPU.replace(' | ', '|')}\t") == one  # blanks around bars and names carry no meaning
    assert SPACE.decisions(one)["stage 4 block 1"] == "k5e6"
    assert SPACE.decisions(one)["stage 4 block 4"] == "skip"
    assert SPACE.decisions(one)["stage 6 block 1"] == "k7e6"
    assert len(SPACE.decisions(one)) == 21
    drawn = SPACE.cell_graph(one)
    assert list(drawn) == [f"stage {stage}" for stage in range(1, 7)]
    assert drawn["stage 1"] == [
        ("input", "1", "k5e3"),
        ("1", "2", "skip"),
        ("2", "3", "skip"),
        ("3", "output", "skip"),
    ]
    assert drawn["stage 6"] == [("input", "output", "k7e6")]


@pytest.mark.parametrize(
    ("damaged", "why"),
    [
        (GPU.replace("k5e3 skip skip skip", "skip skip skip skip"), "is never skipped"),
        (GPU.replace("| k7e6 k5e3", "| skip k5e3"), "block 9 .* is never skipped"),
        (GPU[: GPU.rindex("|") + 2] + "skip", "block 21"),
        (GPU.replace("k7e3", "k9e3"), "'k9e3' is not a block"),
        (GPU.replace("k7e3", "k7e4"), "'k7e4' is not a block"),
        (GPU.replace("k7e3", "K7E3"), "is not a block"),
        (GPU.replace("k5e3 skip skip skip", "k5e3 skip skip"), "six stages"),
        (GPU.replace("k5e3 skip skip skip", "k5e3 skip skip skip skip"), "six stages"),
        (GPU[: GPU.rindex("|")], "six stages"),
        (GPU + " | k3e3", "six stages"),
        (GPU.replace(" | ", " "), "six stages"),
        (GPU.replace(" ", ", "), "six stages|is not a block"),
    ],
)
def test_what_is_not_an_architecture_is_refused(damaged: str, why: str) -> None:
    with pytest.raises(WsnasError, match=why):
        decode(damaged)


# what trains to the same function ----------------------------------------------------------------------------


def test_keys_of_one_stage() -> None:
    """All 6 x 7^3 of a stage: the key forgets where the skips are and nothing else: 6 (1 + 6 + 36 + 216) classes."""
    rest = (0,) * 17
    classes: dict[str, set[tuple[int, ...]]] = {}
    for stage in itertools.product(range(6), range(7), range(7), range(7)):
        classes.setdefault(training_key(Architecture(stage + rest)), set()).add(
            tuple(choice for choice in stage if choice != SKIP)
        )
    assert len(classes) == 6 * (1 + 6 + 36 + 216)
    assert all(len(found) == 1 for found in classes.values())
    assert canonical(decode(GPU.replace("k7e6 k5e3 skip skip", "k7e6 skip k5e3 skip"))) == GPU


def test_networks_of_one_key_are_one_network() -> None:
    """Skips moved inside a stage: the same initial weights in the same order, the same outputs and gradients.

    As paths of a supernet they are not the same: the blocks there have weights of their own.
    """
    skeleton = Skeleton(0.125, "2111121", 10, 1)
    x = torch.randn(6, 1, 8, 8)
    one = decode(GPU)
    two = decode(
        GPU.replace("k7e6 k5e3 skip skip", "k7e6 skip skip k5e3").replace("k5e6 k3e3 k5e3 skip", "k5e6 k3e3 skip k5e3")
    )
    assert one != two
    assert training_key(one) == training_key(two)
    networks = []
    for arch in (one, two):
        torch.manual_seed(0)
        networks.append(Network(skeleton, arch))
    outputs = [network(x) for network in networks]
    assert torch.equal(*outputs)
    for output in outputs:
        output.square().sum().backward()
    for a, b in zip(*(network.parameters() for network in networks), strict=True):
        assert torch.equal(a, b)
        assert a.grad is not None
        assert b.grad is not None
        assert torch.equal(a.grad, b.grad)
    supernet = Network(skeleton)
    assert not torch.equal(supernet(x, one), supernet(x, two))
    other = decode(GPU.replace("k5e6 k3e3 k5e3 skip", "k5e6 k5e3 k3e3 skip"))  # an order of kernels is a function
    assert training_key(other) != training_key(one)


# sets of paths -----------------------------------------------------------------------------------------------


def test_fair_paths_use_each_choice_equally_often() -> None:
    """42, the least common multiple of 6 and 7: seven times each of six choices, six times each of seven."""
    paths = fair_paths(np.random.default_rng(0))
    assert len(paths) == math.lcm(6, 7) == 42
    for block, choices in enumerate(RADIX):
        times = Counter(path.blocks[block] for path in paths)
        assert times == dict.fromkeys(range(choices), 42 // choices)


def test_fair_paths_are_independent_permutations() -> None:
    """Two blocks' choices meet as often as chance has it, over 200 sets."""
    rng = np.random.default_rng(0)
    together = np.zeros((6, 7))
    for _ in range(200):
        for path in fair_paths(rng):
            together[path.blocks[0], path.blocks[1]] += 1
    assert stats.chi2_contingency(together).pvalue > 1e-4


# the filter on multiply-adds ---------------------------------------------------------------------------------


def test_a_fifth_of_the_space_fits_a_mobile_setting() -> None:
    """20 % have at most 600 M multiply-adds; what rejection draws is what a filter of uniform samples leaves."""
    rng = np.random.default_rng(0)
    every = [sample(rng) for _ in range(4000)]
    macs = np.array([SPACE.macs(one, PAPER) for one in every])
    assert PAPER.max_macs == 600_000_000
    assert np.mean(macs <= 6e8) == pytest.approx(0.2, abs=0.02)
    assert np.median(macs) == pytest.approx(655e6, rel=0.01)
    kept = [one for one, count in zip(every, macs, strict=True) if count <= 6e8]
    drawn = [sample_within_limit(SPACE, PAPER, rng) for _ in range(800)]
    assert max(SPACE.macs(one, PAPER) for one in drawn) <= 6e8
    for block, choices in enumerate(RADIX):
        counts = [np.bincount([one.blocks[block] for one in part], minlength=choices) for part in (kept, drawn)]
        assert stats.chi2_contingency(np.array(counts) + 1).pvalue > 1e-5


def test_candidates_are_different_and_a_longer_sample_begins_with_a_shorter() -> None:
    twenty = sample_candidates(SPACE, PAPER, 20, np.random.default_rng(0))
    ten = sample_candidates(SPACE, PAPER, 10, np.random.default_rng(0))
    assert len(set(twenty)) == 20
    assert twenty[:10] == ten
    whole = dataclasses.replace(PAPER, max_macs=None)
    rng = np.random.default_rng
    assert sample_candidates(SPACE, whole, 9, rng(3)) == sample_distinct(SPACE, 9, rng(3))


def test_a_limit_that_nothing_meets_is_refused() -> None:
    with pytest.raises(WsnasError, match="at most 1,000 multiply-adds"):
        sample_candidates(SPACE, dataclasses.replace(PAPER, max_macs=1000), 1, np.random.default_rng(0))
