"""The convolutional search space of DARTS (Liu et al., 2019) for wsnas: ``wsnas.load_space("darts_cnn")``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from darts_cnn import space as cells
from darts_cnn.space import Architecture
from wsnas.recipe import Recipe, Training
from wsnas.space import SearchSpace

if TYPE_CHECKING:
    import torch

    from darts_cnn.network import Network
    from wsnas.data.images import Splits
    from wsnas.table import Table


@dataclass(frozen=True)
class DartsRecipe(Recipe):
    """A recipe with the skeleton's sizes, the same for the supernet and the stand-alone network."""

    channels: int = 36  # of the first cell; each of the two reductions doubles them
    cells: int = 20  # in all, the two reduction cells among them
    auxiliary_head: bool = False  # whether both networks hold one; a training's ``auxiliary`` is the weight of its loss


# Supernet: Table 2 of the paper (which gives no momentum: 0.9 is a choice), with the flips and crops of DARTS's own
# search. Stand-alone: the evaluation of Liu et al. (2019), A.3 and the released train.py; the paper's batch is
# 96, too. Both train on the 40,000 images that nb101 trains on, so that 10,000 are left to validate; DARTS's published
# accuracies come from all 50,000.
PAPER = DartsRecipe(
    dataset="cifar10",
    supernet=Training(epochs=1000, batch=448, lr=0.1, weight_decay=3e-4, clip=5.0, flip=True, crop=4),
    standalone=Training(
        epochs=600,
        batch=96,
        lr=0.025,
        weight_decay=3e-4,
        clip=5.0,
        flip=True,
        crop=4,
        cutout=16,
        auxiliary=0.4,
        drop_path=0.2,
    ),
    calibration_batch=200,
    calibration_steps=100,
    train_size=40_000,
    channels=36,
    cells=20,
    auxiliary_head=True,
)

# The same space and loops on images that ship with scikit-learn, for a laptop's CPU; without augmentation, auxiliary
# head and drop-path, which a short training does not need. The supernet needs more and smaller steps than nb201's: a
# cell ends without batch norm, so that pools and sums of skips reach the linear layer on another scale in each path.
MICRO = DartsRecipe(
    dataset="digits",
    supernet=Training(
        epochs=20,
        batch=64,
        lr=0.05,
        decay="linear-step",
        warmup=0.3,
        average_last=0.2,
        nesterov=True,
        weight_decay=3e-4,
        clip=1.0,
    ),
    standalone=Training(
        epochs=2,
        batch=256,
        lr=0.2,
        decay="linear-step",
        warmup=0.4,
        average_last=0.3,
        nesterov=True,
        weight_decay=3e-4,
        clip=5.0,  # without it, cells of many pools diverge
    ),
    calibration_batch=250,
    calibration_steps=8,
    evaluation_batch=500,
    valid_size=2000,  # of the 4,000: scoring submodels is most of a study's time
    channels=8,
    cells=3,
)


class DartsCNN:
    """The space; its methods are the contract ``wsnas.space.SearchSpace`` asks for."""

    name = "darts_cnn"
    size = cells.SIZE
    metric: Literal["accuracy", "perplexity"] = "accuracy"
    micro_table = Path(__file__).with_name("micro.parquet")
    recipes: Mapping[str, DartsRecipe] = {"paper": PAPER, "micro": MICRO}

    sample = staticmethod(cells.sample)
    index = staticmethod(cells.index)
    arch = staticmethod(cells.architecture)
    encode = staticmethod(cells.encode)
    decode = staticmethod(cells.decode)
    canonical = staticmethod(cells.canonical)
    training_key = staticmethod(cells.training_key)
    decisions = staticmethod(cells.decisions)
    cell_graph = staticmethod(cells.cell_graph)
    fair_paths = staticmethod(cells.fair_paths)

    def __iter__(self) -> Iterator[Architecture]:
        """All of them, one at a time: nobody lives to see the last."""
        return map(cells.architecture, range(self.size))

    def supernet(self, recipe: DartsRecipe) -> Network:
        return self._network(recipe, None)

    def network(self, arch: Architecture, recipe: DartsRecipe) -> Network:
        return self._network(recipe, arch)

    def _network(self, recipe: DartsRecipe, arch: Architecture | None) -> Network:
        from darts_cnn.network import Network
        from wsnas.data.sources import shape_of

        classes, inputs, _ = shape_of(recipe.dataset)
        return Network(recipe.channels, recipe.cells, classes, inputs, recipe.auxiliary_head, arch)

    def load_data(self, recipe: DartsRecipe, device: torch.device) -> Splits:
        from wsnas.data.sources import load_splits

        return load_splits(recipe, device)

    def parameters(self, arch: Architecture, recipe: DartsRecipe) -> int:
        from darts_cnn.network import parameters
        from wsnas.data.sources import shape_of

        classes, inputs, _ = shape_of(recipe.dataset)
        return parameters(arch, recipe.channels, recipe.cells, classes, inputs, recipe.auxiliary_head)

    def macs(self, arch: Architecture, recipe: DartsRecipe) -> int:
        from darts_cnn.network import macs
        from wsnas.data.sources import shape_of

        return macs(arch, recipe.channels, recipe.cells, *shape_of(recipe.dataset))

    def import_table(self, path: Path) -> Table:
        from darts_cnn.tables import import_table

        return import_table(path)


SPACE: SearchSpace[Architecture] = DartsCNN()  # mypy checks the contract here

__all__ = ["MICRO", "PAPER", "SPACE", "DartsCNN", "DartsRecipe"]
