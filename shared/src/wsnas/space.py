"""The contract between a search space and everything else.

A search space says which architectures exist, how they are written down, and which
modules and images they are trained with. The core trains, calibrates, evaluates and
correlates; it knows no space by name. A package makes its space known with an entry
point in the group ``wsnas.spaces``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import numpy as np

from wsnas.errors import WsnasError
from wsnas.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch import nn

    from wsnas.data.images import Splits
    from wsnas.table import Table

A = TypeVar("A", bound=Hashable)
A_co = TypeVar("A_co", bound=Hashable, covariant=True)

ENTRY_POINTS = "wsnas.spaces"


class SearchSpace(Protocol[A]):
    """What a space package provides. ``A``: its architectures, frozen, hashable, ordered."""

    name: str
    size: int  # exact number of valid architectures (the paper's Table 1)
    metric: Literal["accuracy", "perplexity"]
    micro_table: Path  # trained ground truth of the micro recipe, shipped with the package

    @property
    def recipes(self) -> Mapping[str, Recipe]: ...  # "paper" and "micro"

    def sample(self, rng: np.random.Generator) -> A:
        """One architecture, uniform over the valid ones."""
        ...

    def __iter__(self) -> Iterator[A]: ...

    def index(self, arch: A) -> int: ...

    def arch(self, index: int) -> A: ...

    def encode(self, arch: A) -> str:
        """The field's own notation; ``decode(encode(a)) == a``."""
        ...

    def decode(self, text: str) -> A:
        """Raises WsnasError, saying why, for what is not a valid architecture."""
        ...

    def canonical(self, arch: A) -> str:
        """The benchmark's own isomorphism class."""
        ...

    def training_key(self, arch: A) -> str:
        """Equal only for architectures whose trained function is the same."""
        ...

    def decisions(self, arch: A) -> Mapping[str, str]:
        """Each choice by name, e.g. ``{"edge 0-3": "skip_connect", ...}``."""
        ...

    def cell_graph(self, arch: A) -> Mapping[str, Sequence[tuple[str, str, str]]]:
        """Each cell by name, to be drawn: its edges as (from, to, operation), "" where an edge has no operation.

        What is an operation on a vertex ends the vertex's name, after a space: ``"1 conv3x3"``.
        """
        ...

    def fair_paths(self, rng: np.random.Generator) -> Sequence[A]:
        """Valid architectures that together use each choice equally often, once where that is possible (FairNAS)."""
        ...

    def supernet(self, recipe: Any) -> nn.Module:
        """``forward(x, arch) -> logits``. Initial weights come from torch's generator."""
        ...

    def network(self, arch: A, recipe: Any) -> nn.Module:
        """``forward(x) -> logits``; parameter names are a subset of the supernet's."""
        ...

    def load_data(self, recipe: Any, device: torch.device) -> Splits: ...

    def parameters(self, arch: A, recipe: Any) -> int:
        """Exact parameter count of ``network(arch, recipe)``, without building it."""
        ...

    def macs(self, arch: A, recipe: Any) -> int:
        """Exact multiply-adds of its convolutions and linear layers, one image."""
        ...

    def import_table(self, path: Path) -> Table:
        """Reads a published ground-truth file of this benchmark, without executing it."""
        ...


class SubSpace(Generic[A]):
    """Some architectures of a space, as a space to sample supernet paths from."""

    def __init__(self, space: SearchSpace[A], archs: Iterable[A]) -> None:
        self.space = space
        self.archs = sorted(set(archs))  # type: ignore[type-var]  # architectures are ordered
        if not self.archs:
            raise WsnasError(f"a sub-space of {space.name} needs at least one architecture")
        self._members = frozenset(self.archs)

    @property
    def size(self) -> int:
        return len(self.archs)

    def __iter__(self) -> Iterator[A]:
        return iter(self.archs)

    def __contains__(self, arch: A) -> bool:
        return arch in self._members

    def sample(self, rng: np.random.Generator) -> A:
        return self.archs[int(rng.integers(len(self.archs)))]

    def fair_paths(self, rng: np.random.Generator) -> Sequence[A]:
        raise WsnasError(
            f"strict fairness needs all of {self.space.name}: a sub-space does not hold every permutation; "
            "use uniform paths"
        )

    def fingerprint(self) -> str:
        """Sixteen hex digits that name this set of architectures in a run's identity."""
        text = "\n".join(self.space.encode(arch) for arch in self.archs)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class Paths(Protocol[A_co]):
    """What a path sampler needs: a space or a sub-space."""

    def sample(self, rng: np.random.Generator) -> A_co: ...

    def fair_paths(self, rng: np.random.Generator) -> Sequence[A_co]: ...


def installed_spaces() -> tuple[str, ...]:
    """Names of the search spaces installed in this environment."""
    return tuple(sorted({point.name for point in entry_points(group=ENTRY_POINTS)}))


def load_space(name: str) -> SearchSpace[Any]:
    """The installed search space called ``name``. Raises WsnasError when there is none."""
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            space: SearchSpace[Any] = point.load()
            return space
    have = ", ".join(installed_spaces()) or "none"
    raise WsnasError(
        f"no search space '{name}' is installed (installed: {have}); "
        f"install its package, e.g. pip install ./packages/{name}, or check the spelling"
    )
