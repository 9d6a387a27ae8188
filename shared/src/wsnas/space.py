"""The contract between a search space and everything else.

A search space defines which architectures exist, their notation, and the modules and data they are trained
with. The core trains, calibrates, evaluates and correlates; it knows no space by name. A package registers its
space with an entry point in the group ``wsnas.spaces``.
"""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

from wsnas.errors import WsnasError
from wsnas.words import did_you_mean, spelled

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import nn

    from wsnas.data.fingerprint import Version
    from wsnas.data.images import Splits
    from wsnas.recipe import Recipe
    from wsnas.table import Table

A = TypeVar("A", bound=Hashable)
A_co = TypeVar("A_co", bound=Hashable, covariant=True)

ENTRY_POINTS = "wsnas.spaces"
OF_AN_ARCHITECTURE = {"canonical", "cell_graph", "decisions", "encode", "macs", "parameters", "training_key"}


def _also_of_encodings(method: Any) -> Callable[..., Any]:
    """A method (or a static one) of a space that also takes an architecture's encoding, and a recipe's scale."""

    @functools.wraps(method)
    def of(space: SearchSpace[Any], arch: Any, *others: Any, **named: Any) -> Any:
        def recipe(one: Any) -> Any:
            return space.recipe(one) if isinstance(one, str) else one

        recipes = {name: recipe(one) for name, one in named.items()}
        return method.__get__(space)(space.arch(arch), *map(recipe, others), **recipes)

    return of


class SearchSpace(ABC, Generic[A]):
    """Base class of a space. ``A``: its architectures: frozen, hashable and ordered.

    A space must define five things: iteration, ``encode``, ``decisions``, ``build`` and the attributes. All
    below these, up to the methods that say otherwise, has a default that it can override.
    """

    name: str
    size: int  # exact number of valid architectures (the paper's Table 1)
    recipes: Mapping[str, Any]  # scale -> Recipe; "micro" and "paper" at least
    metric: Literal["accuracy", "perplexity"] = "accuracy"
    tables: Mapping[str, Path] = {}  # data set -> the ground truth on it that the package ships
    published: str = ""  # the official ground truth that ``import_table`` reads: its file's name, and where it is

    @abstractmethod
    def __iter__(self) -> Iterator[A]: ...

    @abstractmethod
    def encode(self, arch: A) -> str:
        """The notation used in the literature; ``decode(encode(a)) == a``."""

    @abstractmethod
    def decisions(self, arch: A) -> Mapping[str, str]:
        """Each choice by name, e.g. ``{"edge 0-3": "skip_connect", ...}``."""

    @abstractmethod
    def build(self, recipe: Any, arch: A | None = None) -> nn.Module:
        """The network of ``arch``, ``forward(x) -> logits``; if None, the supernet, ``forward(x, arch) -> logits``.

        A network's parameter names are a subset of the supernet's. Initial weights come from torch's global generator.
        """

    # defaults ----------------------------------------------------------------------------------------------------

    @cached_property
    def _by_name(self) -> Mapping[str, A]:
        self._kind  # noqa: B018  # refuses text, whose encoding would be looked up again, without end
        return {self.encode(arch): arch for arch in self}

    @cached_property
    def _every(self) -> Sequence[A]:
        return tuple(self)

    def sample(self, rng: np.random.Generator) -> A:
        """One architecture, uniform over the valid ones. Default: from the list of all."""
        return self._every[int(rng.integers(len(self._every)))]

    def decode(self, text: str) -> A:
        """The architecture of an encoding. Default: looked up in the list of all.

        Raises WsnasError, with the reason, if ``text`` is not a valid architecture.
        """
        if text not in self._by_name:
            example = next(iter(self._by_name))
            raise WsnasError(f"'{text[:200]}' is not an architecture of {self.name}; an example is {example}")
        return self._by_name[text]

    def canonical(self, arch: A) -> str:
        """The benchmark's own isomorphism class. Default: one per architecture."""
        return self.encode(arch)

    def training_key(self, arch: A) -> str:
        """Equal only for architectures whose trained function is the same. Default: the encoding."""
        return self.encode(arch)

    def cell_graph(self, arch: A) -> Mapping[str, Sequence[tuple[str, str, str]]]:
        """Each cell by name, for drawing: its edges as (from, to, operation), with "" for no operation.

        An operation on a vertex is appended to the vertex's name: ``"1 conv3x3"``. Default: a chain of the decisions.
        """
        chosen = self.decisions(arch).values()
        return {"architecture": [(str(i), str(i + 1), "" if c == "none" else c) for i, c in enumerate(chosen)]}

    def fair_paths(self, rng: np.random.Generator) -> Sequence[A]:
        """Valid architectures that together use each choice equally often, once if possible (FairNAS).

        Default: refused.
        """
        raise WsnasError(f"{self.name} does not define strictly fair paths; use uniform or multi:N")

    def load_data(self, recipe: Any, device: torch.device) -> Splits:
        """The recipe's data on the device. Default: images in memory."""
        from wsnas.data.sources import load_splits

        return load_splits(recipe, device)

    def data_place(self, recipe: Any) -> Path | None:
        """The file or folder of the recipe's data, unless they are installed or checked as a known data set."""
        from wsnas.data.sources import place_of

        return place_of(recipe.dataset)

    def image_shape(self, recipe: Any) -> tuple[int, int, int, int]:
        """Classes, channels, height and width (pixels) of the recipe's images, which are held in memory."""
        from wsnas.data.sources import shape_of

        return shape_of(recipe.dataset)

    def parameters(self, arch: A, recipe: Any) -> int:
        """Exact parameter count of ``network(arch, recipe)``. Default: counted on the meta device."""
        import torch

        with torch.device("meta"):
            return sum(p.numel() for p in self.network(arch, recipe).parameters())

    def macs(self, arch: A, recipe: Any) -> int:
        """Multiply-adds of all convolutions and linear layers of ``network(arch, recipe)`` for one image, exact.

        Those whose result is not used count, too; biases, norms and pools do not. Default: counted by torch.
        """
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        recipe = self.recipe(recipe)
        _, *shape = self.image_shape(recipe)
        with torch.device("meta"), FlopCounterMode(display=False) as counter:
            self.network(arch, recipe).eval()(torch.empty(1, *shape))
        return int(counter.get_total_flops()) // 2

    def load_table(self, path: Path) -> Table:
        """Reads a wsnas table whose architectures are known to be valid. Default: ``Table.load``."""
        from wsnas.table import Table

        return Table.load(path, self.name, self.metric)

    def import_table(self, path: Path) -> Table:
        """Reads a published ground-truth file, without executing it. Default: a CSV or wsnas table."""
        from wsnas.table import read_table, reader

        def read(path: Path) -> Table:
            return read_table(path, self.name, lambda text: self.encode(self.decode(text)), self.metric)

        return reader(read)(path)

    # not to be overridden ----------------------------------------------------------------------------------------

    def recipe(self, recipe: Recipe | str | None = None) -> Recipe:
        """The recipe of a scale, e.g. ``"desk"``; by default micro's. A recipe is returned as it is."""
        if recipe is not None and not isinstance(recipe, str):
            if type(recipe) not in {type(own) for own in self.recipes.values()}:
                raise WsnasError(
                    f"expected a recipe of {self.name} or the name of a scale ({', '.join(self.recipes)}), not "
                    f"{type(recipe).__name__}"
                )
            return recipe
        scale = "micro" if recipe is None else recipe.lower()
        if scale not in self.recipes:
            scales = ", ".join(self.recipes)
            raise WsnasError(f"{self.name} has no scale '{recipe}'; it has {scales}{did_you_mean(scale, self.recipes)}")
        found: Recipe = self.recipes[scale]
        return found

    def arch(self, arch: A | str) -> A:
        """An architecture, given as it is or by its encoding. Raises WsnasError if it is not one of this space."""
        if isinstance(arch, str):
            return self.decode(arch)
        if self._kind.__module__ != "builtins" and not isinstance(arch, self._kind):
            raise WsnasError(f"{str(arch)[:200]} ({type(arch).__name__}) is not an architecture of {self.name}")
        return arch

    @cached_property
    def _kind(self) -> type:
        kind = type(next(iter(self), None))
        if issubclass(kind, str | Sequence):  # they could not be told from an encoding, or from a list of several
            raise WsnasError(
                f"{self.name}'s architectures are of the class {kind.__name__}, a text or a sequence: give them a "
                "class of their own, frozen, hashable and ordered"
            )
        return kind

    def archs(self, archs: Any) -> list[A]:
        """Architectures, each given as it is or by its encoding; a single one is a list of one, a table all it has."""
        from wsnas.table import Table

        archs = archs.archs if isinstance(archs, Table) else archs
        several = isinstance(archs, Iterable) and not isinstance(archs, str)
        return [self.arch(one) for one in (archs if several else [archs])]

    def __init_subclass__(cls, **options: Any) -> None:
        """What a space defines of an architecture also takes its encoding, and the name of a scale."""
        super().__init_subclass__(**options)
        if cls.metric not in ("accuracy", "perplexity"):
            raise WsnasError(f"the metric of {cls.__name__} is {cls.metric!r}: it must be 'accuracy' or 'perplexity'")
        for name in OF_AN_ARCHITECTURE & vars(cls).keys():
            setattr(cls, name, _also_of_encodings(vars(cls)[name]))

    def data_identity(self, recipe: Any) -> dict[str, str]:
        """The part of a run's identity that tells whether its data have changed: a fingerprint of the files, if any."""
        from wsnas.data.fingerprint import fingerprint

        found = [one for one in map(fingerprint, self._data_places(recipe)) if one is not None]
        return {"data": " ".join(found)} if found else {}

    def data_version(self, recipe: Any) -> tuple[Version, ...]:
        """Another one when the recipe's files have changed, for what a process remembers of them: reads none."""
        from wsnas.data.fingerprint import version_of

        return tuple(map(version_of, self._data_places(recipe)))

    def _data_places(self, recipe: Any) -> list[Path]:
        places = self.data_place(recipe), None if recipe.split_file is None else Path(recipe.split_file)
        return [place for place in places if place is not None]

    def supernet(self, recipe: Any) -> nn.Module:
        """``forward(x, arch) -> logits``."""
        return self.build(self.recipe(recipe))

    def network(self, arch: A | str, recipe: Any) -> nn.Module:
        """``forward(x) -> logits``."""
        return self.build(self.recipe(recipe), self.arch(arch))


class SubSpace(Generic[A]):
    """Some architectures of a space, as a space to sample supernet paths from; all else is the space's."""

    def __init__(self, space: SearchSpace[A], archs: Iterable[A | str]) -> None:
        self.space = space
        self.archs = sorted(set(space.archs(archs)))  # type: ignore[type-var]  # architectures are ordered
        if not self.archs:
            raise WsnasError(f"a sub-space of {space.name} needs at least one architecture")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also what copy and pickle look for before there is a space
            raise AttributeError(f"a sub-space has no attribute {name}")
        return getattr(self.space, name)

    @property
    def size(self) -> int:
        return len(self.archs)

    def __iter__(self) -> Iterator[A]:
        return iter(self.archs)

    def sample(self, rng: np.random.Generator) -> A:
        return self.archs[int(rng.integers(len(self.archs)))]

    def fair_paths(self, rng: np.random.Generator) -> Sequence[A]:
        raise WsnasError(
            f"strict fairness needs all of {self.space.name}: a sub-space lacks some permutations; use uniform paths"
        )

    def fingerprint(self) -> str:
        """Sixteen hex digits that name this set of architectures in a run's identity."""
        text = "\n".join(self.space.encode(arch) for arch in self.archs)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class Paths(Protocol[A_co]):
    """The part of a space or sub-space that a path sampler needs."""

    def sample(self, rng: np.random.Generator) -> A_co: ...

    def fair_paths(self, rng: np.random.Generator) -> Sequence[A_co]: ...


def installed_spaces() -> tuple[str, ...]:
    """Names of the search spaces installed in this environment."""
    return tuple(sorted({point.name for point in entry_points(group=ENTRY_POINTS)}))


def space_named(text: str) -> str | None:
    """The installed space that ``text`` spells, whatever its case, ``-`` or ``_``; None if there is none."""
    installed = installed_spaces()
    name = spelled(text, installed)
    return name if name in installed else None


def require_installed(space: SearchSpace[Any]) -> None:
    """Raises WsnasError if workers, which load a space by its name, would get another one."""
    if load_space(space.name) is not space:
        raise WsnasError(
            f"workers load the space {space.name} by its name, and that is not yours: give yours a name of its own, "
            "and install it"
        )


def load_space(space: str | SearchSpace[Any]) -> SearchSpace[Any]:
    """The installed search space of this name; a space is returned as it is.

    Raises WsnasError if there is none, or if its package cannot be imported.
    """
    if isinstance(space, SearchSpace):
        return space
    if not isinstance(space, str):
        hint = ": make an instance of the class" if isinstance(space, type) else ""
        raise WsnasError(f"expected a search space or its name, not {type(space).__name__}{hint}")
    installed = installed_spaces()
    name = space_named(space)
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            try:
                found: SearchSpace[Any] = point.load()
            except Exception as error:  # whatever a module raises that is not finished
                raise WsnasError(
                    f"the search space '{name}' is installed, but cannot be imported ({type(error).__name__}: "
                    f"{error}): mend it, or install it again with what it needs"
                ) from error
            if not isinstance(found, SearchSpace):
                raise WsnasError(
                    f"the entry point '{name}' names {point.value}, which is no search space but of {type(found)}: it "
                    "must name an instance of a subclass of wsnas.space.SearchSpace"
                )
            if found.name != name:
                raise WsnasError(
                    f"the search space installed as '{name}' is called {found.name!r}, by which its runs could not "
                    "load it: give both one name"
                )
            return found
    raise WsnasError(
        f"no search space '{space}' is installed (installed: {', '.join(installed) or 'none'})"
        + (
            did_you_mean(space, installed)
            or "; each is a package of its own: pip install ./packages/NAME in a checkout"
        )
    )
