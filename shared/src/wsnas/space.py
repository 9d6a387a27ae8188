"""The contract between a search space and everything else.

A search space says which architectures exist, how they are written down, and which
modules and images they are trained with. The core trains, calibrates, evaluates and
correlates; it knows no space by name. A package makes its space known with an entry
point in the group ``wsnas.spaces``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar

import numpy as np

from wsnas.errors import WsnasError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from wsnas.images import Splits
    from wsnas.table import Table

A = TypeVar("A", bound=Hashable)
A_co = TypeVar("A_co", bound=Hashable, covariant=True)

ENTRY_POINTS = "wsnas.spaces"


@dataclass(frozen=True)
class Training:
    """How one network, supernet or stand-alone, is trained. Every number has its unit.

    A run's identity holds what differs from the defaults: they never change, and a new field must be off by
    default, so that it does not make old runs foreign.
    """

    epochs: int
    batch: int  # images a step, over all devices together
    lr: float  # initial learning rate
    decay: Literal["cosine-epoch", "cosine-step", "linear-step", "fixed"] = "cosine-epoch"  # to 0, stepped per ...
    warmup: float = 0.0  # fraction of all steps in which the learning rate rises linearly to ``lr`` (linear-step)
    average: float = 0.0  # the final weights are the mean over this last fraction of all steps; 0 is off
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0  # L2, on every trainable weight a step used
    clip: float = 0.0  # greatest L2 norm of the whole gradient; 0 is off
    flip: bool = False  # random horizontal flip, probability 1/2
    crop: int = 0  # pixels of black padding before a random crop back to size; 0 is off
    cutout: int = 0  # side of a square set to the mean colour; 0 is off
    colour_jitter: float = 0.0  # greatest relative change of brightness, contrast and saturation (streamed images)
    hue: float = 0.0  # greatest turn of the hue either way, in whole turns (streamed images, with colour_jitter)
    label_smoothing: float = 0.0  # probability spread over all classes
    spare_norms: bool = False  # no weight decay on batch norms
    optimizer: Literal["sgd", "rmsprop-tf"] = "sgd"  # RMSProp in TensorFlow's form: eps inside the square root
    rms_alpha: float = 0.9  # RMSProp's decay of the squared gradient's mean
    rms_eps: float = 1e-10
    auxiliary: float = 0.0  # weight of an auxiliary head's loss
    drop_path: float = 0.0  # probability of dropping a path at the end of training, rising linearly from 0
    bptt: int = 0  # tokens a sequence and step (text); the learning rate is scaled by the step's own length / bptt
    patience: int = 0  # epochs; averaging starts once validation is no better than all but the last this many; 0 is off


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a result besides the seed. A space adds its skeleton's sizes."""

    dataset: str  # one of ``datasets.KNOWN``, e.g. "cifar10", or the path of a .npz or folder
    supernet: Training
    standalone: Training
    calibration_batch: int  # images a calibration step (Table 2)
    calibration_steps: int  # 0: the space has no batch norm to calibrate
    evaluation_batch: int = 1000  # images a forward pass; no effect on the result
    train_images: int | None = None  # None: the data set's own split (images.py)
    valid_images: int | None = None  # how many validation images score a submodel; None: all
    split_file: str | None = None  # the benchmark authors' index file, in place of the seeded split
    max_macs: int | None = None  # multiply-adds above which an architecture is not drawn for evaluation; None: no limit

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def identity(self) -> dict[str, Any]:
        """What of ``to_json()`` is not a default: two recipes with one identity are one recipe."""
        return _beside_defaults(self)


def _beside_defaults(part: Any) -> dict[str, Any]:
    values = {field.name: (getattr(part, field.name), field.default) for field in dataclasses.fields(part)}
    return {
        name: _beside_defaults(value) if dataclasses.is_dataclass(value) else value
        for name, (value, default) in values.items()
        if value != default
    }


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

    def drawing(self, arch: A) -> Mapping[str, Sequence[tuple[str, str, str]]]:
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

    def loaders(self, recipe: Any, device: torch.device) -> Splits: ...

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


def sample_within(space: SearchSpace[A], recipe: Recipe, rng: np.random.Generator) -> A:
    """One architecture, uniform over those with at most ``recipe.max_macs`` multiply-adds: by rejection."""
    for _ in range(10_000):
        arch = space.sample(rng)
        if recipe.max_macs is None or space.macs(arch, recipe) <= recipe.max_macs:
            return arch
    raise WsnasError(
        f"none of 10,000 random architectures of {space.name} has at most {recipe.max_macs:,} multiply-adds; "
        f"raise the limit (one of them has {space.macs(arch, recipe):,})"
    )


def sample_distinct(space: Paths[A], count: int, rng: np.random.Generator) -> list[A]:
    """``count`` different architectures, uniform; a longer sample of the same generator begins with a shorter one."""
    size = getattr(space, "size", count)
    if not 1 <= count <= size:
        raise WsnasError(f"cannot draw {count} different architectures: the space has {size}")
    return _distinct(space.sample, count, rng)


def sample_candidates(space: SearchSpace[A], recipe: Recipe, count: int, rng: np.random.Generator) -> list[A]:
    """As ``sample_distinct``, of the architectures that ``recipe.max_macs`` lets evaluation and ground truth draw."""
    if recipe.max_macs is None:
        return sample_distinct(space, count, rng)
    return _distinct(lambda rng: sample_within(space, recipe, rng), count, rng)


def _distinct(draw: Callable[[np.random.Generator], A], count: int, rng: np.random.Generator) -> list[A]:
    drawn: dict[A, None] = {}
    for _ in range(100 * count + 1_000_000):
        drawn.setdefault(draw(rng))
        if len(drawn) == count:
            return list(drawn)
    raise WsnasError(f"cannot draw {count} different architectures: there seem to be only {len(drawn)}")


def random_archs(archs: Sequence[A], factor: float, rng: np.random.Generator) -> list[A]:
    """``len(archs) / factor`` of them, uniform, without replacement (Figure 2)."""
    keep = max(1, round(len(archs) / factor))
    return [archs[int(i)] for i in rng.choice(len(archs), keep, replace=False)]


def best_archs(archs: Sequence[A], truth: np.ndarray, factor: float) -> list[A]:
    """The best ``len(archs) / factor`` by ground truth, higher is better (Figure 5)."""
    keep = max(1, round(len(archs) / factor))
    return [archs[int(i)] for i in np.argsort(-np.asarray(truth), kind="stable")[:keep]]


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


def change_recipe(recipe: Recipe, **changes: Any) -> Recipe:
    """``recipe`` with the fields that are not None replaced; both trainings' with ``epochs=...`` etc.

    A name that only ``Training`` has (``epochs``, ``batch``, ``lr`` ...) changes the supernet's training.
    """
    own = {field.name for field in dataclasses.fields(recipe)}
    trained = {field.name for field in dataclasses.fields(Training)}
    changes = {name: value for name, value in changes.items() if value is not None}
    for name in changes:
        if name not in own | trained:
            raise WsnasError(f"this space's recipe has no '{name}'; it has {', '.join(sorted(own | trained))}")
    supernet = {name: changes.pop(name) for name in list(changes) if name not in own}
    if supernet:
        changes["supernet"] = dataclasses.replace(recipe.supernet, **supernet)
    return dataclasses.replace(recipe, **changes)


def recipe_from_json(like: Recipe, stored: Mapping[str, Any]) -> Recipe:
    """The recipe that ``to_json`` wrote, of the same class as ``like``."""
    try:
        trainings = {name: Training(**stored[name]) for name in ("supernet", "standalone")}
        return type(like)(**{**stored, **trainings})
    except (TypeError, KeyError) as error:
        raise WsnasError(f"the stored recipe does not fit this version of wsnas ({error})") from error


def digest(identity: Mapping[str, Any]) -> str:
    """Sixteen hex digits of a JSON-able description: what a content-addressed run is called."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
