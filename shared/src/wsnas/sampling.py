"""Architectures drawn uniformly from a space."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import TypeVar

import numpy as np

from wsnas.errors import WsnasError
from wsnas.recipe import Recipe
from wsnas.space import Paths, SearchSpace

A = TypeVar("A", bound=Hashable)


def sample_within_limit(space: SearchSpace[A], recipe: Recipe, rng: np.random.Generator) -> A:
    """One architecture, uniform over those with at most ``recipe.max_macs`` multiply-adds: by rejection."""
    for _ in range(10_000):
        arch = space.sample(rng)
        if recipe.max_macs is None or space.macs(arch, recipe) <= recipe.max_macs:
            return arch
    raise WsnasError(
        f"none of 10,000 random architectures of {space.name} has at most {recipe.max_macs:,} multiply-adds; "
        f"raise the limit (the last one had {space.macs(arch, recipe):,})"
    )


def sample_distinct(space: Paths[A], count: int, rng: np.random.Generator) -> list[A]:
    """``count`` different architectures, uniform; with the same generator, a smaller sample begins a larger one."""
    size = getattr(space, "size", count)
    if not 1 <= count <= size:
        raise WsnasError(f"cannot draw {count} different architectures: the space has {size}")
    return _distinct(space.sample, count, rng)


def sample_candidates(space: SearchSpace[A], recipe: Recipe, count: int, rng: np.random.Generator) -> list[A]:
    """Like ``sample_distinct``, restricted to architectures within ``recipe.max_macs``."""
    if recipe.max_macs is None:
        return sample_distinct(space, count, rng)
    limit = f" with at most {recipe.max_macs:,} multiply-adds"
    return _distinct(lambda rng: sample_within_limit(space, recipe, rng), count, rng, patience=30, limit=limit)


def _distinct(
    draw: Callable[[np.random.Generator], A],
    count: int,
    rng: np.random.Generator,
    patience: float = math.inf,
    limit: str = "",
) -> list[A]:
    """Gives up after so many draws in a row that are not new: ``patience`` for each architecture found, and 1,000."""
    drawn: dict[A, None] = {}
    in_vain = 0
    for _ in range(100 * count + 1_000_000):
        found = len(drawn)
        drawn.setdefault(draw(rng))
        if len(drawn) == count:
            return list(drawn)
        in_vain = 0 if len(drawn) > found else in_vain + 1
        if in_vain > 1000 + patience * len(drawn):
            break
    raise WsnasError(f"cannot draw {count} different architectures{limit}: only {len(drawn)} were found")
