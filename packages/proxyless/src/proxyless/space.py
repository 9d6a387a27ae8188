"""The ProxylessNAS search space (Cai, Zhu & Han, 2019): 21 inverted bottlenecks in six stages.

Each block picks a depthwise kernel of 3, 5 or 7 pixels and an expansion of 3 or 6. The 15 blocks that are
not the first of their stage keep size and width, and can also be skipped: 6^6 * 7^15 architectures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wsnas.errors import WsnasError
from wsnas.words import did_you_mean

if TYPE_CHECKING:
    import numpy as np

STAGES = (4, 4, 4, 4, 4, 1)  # blocks
BLOCKS = sum(STAGES)
CHOICES = ((3, 3), (5, 3), (7, 3), (3, 6), (5, 6), (7, 6))  # (kernel, expansion)
OPS = (*(f"k{kernel}e{expansion}" for kernel, expansion in CHOICES), "skip")
SKIP = len(CHOICES)
STARTS = (0, *itertools.accumulate(STAGES))  # first block of each stage, then the end
RADIX = tuple(len(CHOICES) if block in STARTS else len(OPS) for block in range(BLOCKS))  # choices of each block
SIZE = math.prod(RADIX)  # 221,502,229,807,900,608


@dataclass(frozen=True, order=True, slots=True)
class Architecture:
    """``blocks[b]`` is the choice (index into ``OPS``) of block ``b``, 21 of them."""

    blocks: tuple[int, ...]


def stages(arch: Architecture) -> Iterator[tuple[int, ...]]:
    """The choices of each stage in turn."""
    return (arch.blocks[start:end] for start, end in itertools.pairwise(STARTS))


def architectures() -> Iterator[Architecture]:
    """Every architecture, one at a time, in lexicographic order."""
    return (Architecture(blocks) for blocks in itertools.product(*map(range, RADIX)))


def encode(arch: Architecture) -> str:
    """``k5e3 skip skip skip | k7e3 k3e3 skip skip | ...``: blocks between spaces, stages between bars."""
    return " | ".join(" ".join(OPS[choice] for choice in stage) for stage in stages(arch))


def decode(text: str) -> Architecture:
    """The architecture of a string. Raises WsnasError if it is malformed or skips the first block of a stage."""
    found = [stage.split() for stage in text.split("|")]
    if [len(stage) for stage in found] != list(STAGES):
        raise WsnasError(
            f"'{text[:200]}' is not a ProxylessNAS architecture: write six stages of 4, 4, 4, 4, 4 and 1 blocks "
            f"between bars, e.g. '{encode(Architecture((0,) * BLOCKS))}'"
        )
    blocks = []
    for position, name in enumerate(itertools.chain(*found)):
        if name not in OPS:
            hint = did_you_mean(name[:200], OPS) or f"; the blocks are {', '.join(OPS)}"
            raise WsnasError(f"'{name[:200]}' is not a block{hint}")
        choice = OPS.index(name)
        if choice >= RADIX[position]:
            raise WsnasError(f"block {position + 1} is the first of its stage, which is never skipped")
        blocks.append(choice)
    return Architecture(tuple(blocks))


def sample(rng: np.random.Generator) -> Architecture:
    return Architecture(tuple(rng.integers(RADIX).tolist()))


def fair_paths(rng: np.random.Generator) -> Sequence[Architecture]:
    """42 architectures in which each block takes each of its choices equally often: 7 times each of 6, 6 each of 7.

    FairNAS uses each choice once, which requires the same number of choices in every block. Here six blocks have 6
    choices and fifteen have 7, so the smallest fair set has their least common multiple. That is 42 passes per step:
    with the same number of passes, training has 42 times fewer steps, and the summed gradient needs a lower learning
    rate than one path's.
    """
    paths = math.lcm(*RADIX)
    columns = [rng.permutation([i % radix for i in range(paths)]).tolist() for radix in RADIX]
    return [Architecture(blocks) for blocks in zip(*columns, strict=True)]


def decisions(arch: Architecture) -> Mapping[str, str]:
    found = {}
    for block, choice in enumerate(arch.blocks):
        stage = sum(start <= block for start in STARTS)
        found[f"stage {stage} block {block - STARTS[stage - 1] + 1}"] = OPS[choice]
    return found


def cell_graph(arch: Architecture) -> Mapping[str, Sequence[tuple[str, str, str]]]:
    """Each stage, a chain of blocks: kernel and expansion."""
    found = {}
    for stage, choices in enumerate(stages(arch), start=1):
        nodes = ["input", *map(str, range(1, len(choices))), "output"]
        found[f"stage {stage}"] = [(nodes[i], nodes[i + 1], OPS[choice]) for i, choice in enumerate(choices)]
    return found


def canonical(arch: Architecture) -> str:
    """The architecture with the skips of each stage moved to its end, as it is usually written."""
    return encode(Architecture(tuple(itertools.chain(*(sorted(stage, key=SKIP.__eq__) for stage in stages(arch))))))


def training_key(arch: Architecture) -> str:
    """Equal only if the trained function is the same; the same classes as ``canonical``.

    All blocks of a stage but the first keep stride and width, so ``k5e3 skip k3e3 skip``, trained stand-alone, is
    the same network as ``k5e3 k3e3 skip skip``: the same modules in the same order. As paths of a supernet the
    two use different weights and score differently. At the paper's widths, any other two differ in a kernel or a
    width. At micro they may not: stages 1 and 2 have 8 channels each, 3 and 4 have 16, and none of the four has a
    stride, so the first blocks of stages 1, 2 and 4 have a residual, and a block can be on either side of the
    bar (``k3e3 k5e3 skip skip | k7e3 ...`` and ``k3e3 skip skip skip | k5e3 k7e3 ...``). Those are trained separately.
    """
    return canonical(arch)
