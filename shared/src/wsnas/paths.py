"""The paths that a supernet's training step draws, and the weight of each path's loss.

A sampler is a function of the space (or sub-space) and a generator that returns
``[(architecture, weight), ...]``; the step minimises the weighted sum of their losses.
Write your own the same way and pass it as ``train_supernet(..., paths=mine)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from wsnas.errors import WsnasError
from wsnas.space import Paths
from wsnas.words import own_name

A = TypeVar("A")
Step = Sequence[tuple[Any, float]]
MOST = 10_000  # paths of a step
Sampler = Callable[[Paths[Any], np.random.Generator], Step]


def uniform(space: Paths[Any], rng: np.random.Generator) -> Step:
    """One path per step, every valid architecture equally likely: SPOS (Guo et al., 2019)."""
    return [(space.sample(rng), 1.0)]


def fair(space: Paths[Any], rng: np.random.Generator) -> Step:
    """Strict fairness: paths that use each choice exactly once, gradients summed (FairNAS, Chu et al., 2019).

    Each step draws new permutations.
    """
    return [(arch, 1.0) for arch in space.fair_paths(rng)]


def multi_path(paths: int) -> Sampler:
    """The mean loss of ``paths`` independent uniform paths (as ENAS averages over M, Pham et al., 2018)."""
    if not 1 <= paths <= MOST:
        raise WsnasError(f"multi-path takes 1 to {MOST:,} paths per step, not {paths}")

    def sample(space: Paths[Any], rng: np.random.Generator) -> Step:
        return [(space.sample(rng), 1.0 / paths) for _ in range(paths)]

    sample.__name__ = f"multi:{paths}"
    return sample


def drawn(sampler: Sampler, space: Paths[Any], rng: np.random.Generator) -> Step:
    """What ``sampler`` draws. Raises WsnasError unless it is a list of architectures, each with a weight above 0."""
    step = sampler(space, rng)
    if not (isinstance(step, Sequence) and step and all(map(_weighted, step))):
        shown, name = repr(step), getattr(sampler, "__name__", sampler)
        raise WsnasError(
            f"the path sampler {name} returned {shown[:100]}{'...' * (len(shown) > 100)}: it must return a "
            "list of at least one pair, (architecture, weight above 0)"
        )
    return step


def _weighted(pair: Any) -> bool:
    """Whether it is a pair of something and a positive, finite number."""
    if not (isinstance(pair, Sequence) and len(pair) == 2 and isinstance(pair[1], Real)):
        return False
    return 0.0 < float(pair[1]) < math.inf


def taken(own: A | None, path: A | None) -> A:
    """The architecture that a network computes: its own or, if it is a supernet, the path that it is called with."""
    arch = path if own is None else own
    if arch is None:
        raise WsnasError("a supernet needs the path to take: model(x, arch)")
    return arch


def parse(text: str) -> Sampler:
    """``uniform``, ``fair`` or ``multi:N`` as a sampler."""
    kind, colon, count = text.lower().partition(":")
    if kind in ("uniform", "fair") and not colon:
        return uniform if kind == "uniform" else fair
    if kind == "multi" and count.isdecimal():
        return multi_path(int(count))
    raise WsnasError(f"unknown path sampler '{text}'; use uniform, fair or multi:N (e.g. multi:4)")


def name_of(sampler: Sampler) -> str:
    """The sampler's name in a run's identity: ``uniform``, ``fair``, ``multi:4``, or your function's, with a digest."""
    return own_name(sampler, (uniform, fair), "a path sampler")
