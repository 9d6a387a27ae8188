"""NAS-Bench-201 (Dong & Yang, 2020) as a wsnas search space: ``wsnas.load_space("nb201")``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nb201 import space as cells
from nb201.space import EDGES, OPS, Architecture
from wsnas.errors import WsnasError
from wsnas.recipe import Recipe, Training
from wsnas.space import SearchSpace

if TYPE_CHECKING:
    import torch

    from nb201.network import Network
    from wsnas.data.images import Splits
    from wsnas.table import Table


@dataclass(frozen=True)
class NB201Recipe(Recipe):
    """A recipe with the skeleton's sizes."""

    channels: int = 16  # of the first stage; the others have 2 and 4 times as many
    cells: int = 5  # a stage


# Supernet: Table 2 of the paper (which gives no momentum: 0.9 is a choice). Stand-alone: Dong & Yang (2020),
# Table 1 and their released 200-epoch configuration; cosine stepped per epoch.
PAPER = NB201Recipe(
    dataset="cifar100",
    supernet=Training(epochs=1000, batch=256, lr=0.05, weight_decay=5e-4, clip=5.0, flip=True, crop=4),
    standalone=Training(epochs=200, batch=256, lr=0.1, nesterov=True, weight_decay=5e-4, flip=True, crop=4),
    calibration_batch=400,
    calibration_steps=25,
    channels=16,
    cells=5,
)

# The same space and loops on images that ship with scikit-learn, for a laptop's CPU.
MICRO = NB201Recipe(
    dataset="digits",
    # Warm-up, Nesterov momentum and averaged weights: after 20 epochs nearly what plain cosine is after 30.
    supernet=Training(
        epochs=20,
        batch=128,
        lr=0.2,
        decay="linear-step",
        warmup=0.3,
        average_last=0.2,
        nesterov=True,
        weight_decay=5e-4,
        clip=5.0,
    ),
    standalone=Training(
        epochs=2,
        batch=128,
        lr=0.1,
        decay="linear-step",
        warmup=0.4,
        average_last=0.3,  # two seeds agree better on averaged weights
        nesterov=True,
        weight_decay=5e-4,
    ),
    calibration_batch=250,
    calibration_steps=8,
    evaluation_batch=500,  # quicker than 1,000 on a CPU
    valid_size=2000,  # of the 4,000: scoring submodels is most of a study's time
    channels=8,
    cells=1,
)


class NB201:
    """The space; its methods are the contract ``wsnas.space.SearchSpace`` asks for."""

    name = "nb201"
    size = 15_284
    metric: Literal["accuracy", "perplexity"] = "accuracy"
    micro_table = Path(__file__).with_name("micro.parquet")
    recipes: Mapping[str, NB201Recipe] = {"paper": PAPER, "micro": MICRO}

    sample = staticmethod(cells.sample)
    encode = staticmethod(cells.encode)
    decode = staticmethod(cells.decode)
    canonical = staticmethod(cells.canonical)
    training_key = staticmethod(cells.training_key)
    fair_paths = staticmethod(cells.fair_paths)

    def __iter__(self) -> Iterator[Architecture]:
        return iter(cells.architectures())

    def index(self, arch: Architecture) -> int:
        """Position among the 15,284 valid architectures in lexicographic order (not the benchmark's shuffled index)."""
        try:
            return cells.indices()[arch]
        except KeyError as error:
            raise WsnasError(f"{arch} is not one of the {self.size} valid architectures") from error

    def arch(self, index: int) -> Architecture:
        if not 0 <= index < self.size:
            raise WsnasError(f"nb201 has architectures 0 to {self.size - 1}, not {index}")
        return cells.architectures()[index]

    def decisions(self, arch: Architecture) -> Mapping[str, str]:
        return {f"edge {s}-{t}": OPS[op] for (s, t), op in zip(EDGES, arch.ops, strict=True)}

    def cell_graph(self, arch: Architecture) -> Mapping[str, Sequence[tuple[str, str, str]]]:
        """The cell, without edges that are ``none``."""
        nodes = ("input 0", "1", "2", "output 3")
        ops = zip(EDGES, arch.ops, strict=True)
        return {"cell": [(nodes[s], nodes[t], OPS[op]) for (s, t), op in ops if op != cells.NONE]}

    def supernet(self, recipe: NB201Recipe) -> Network:
        return self._network(recipe, None)

    def network(self, arch: Architecture, recipe: NB201Recipe) -> Network:
        return self._network(recipe, arch)

    def _network(self, recipe: NB201Recipe, arch: Architecture | None) -> Network:
        from nb201.network import Network
        from wsnas.data.sources import shape_of

        classes, inputs, _ = shape_of(recipe.dataset)
        return Network(recipe.channels, recipe.cells, classes, inputs, arch)

    def load_data(self, recipe: NB201Recipe, device: torch.device) -> Splits:
        from wsnas.data.sources import load_splits

        return load_splits(recipe, device)

    def parameters(self, arch: Architecture, recipe: NB201Recipe) -> int:
        from nb201.network import parameters
        from wsnas.data.sources import shape_of

        classes, inputs, _ = shape_of(recipe.dataset)
        return parameters(arch, recipe.channels, recipe.cells, classes, inputs)

    def macs(self, arch: Architecture, recipe: NB201Recipe) -> int:
        from nb201.network import macs
        from wsnas.data.sources import shape_of

        return macs(arch, recipe.channels, recipe.cells, *shape_of(recipe.dataset))

    def import_table(self, path: Path) -> Table:
        from nb201.tables import import_table

        return import_table(path)


SPACE: SearchSpace[Architecture] = NB201()  # mypy checks the contract here

__all__ = ["MICRO", "NB201", "PAPER", "SPACE", "NB201Recipe"]
