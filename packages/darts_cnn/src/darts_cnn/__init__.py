"""The convolutional search space of DARTS (Liu et al., 2019) for wsnas: ``wsnas.load_space("darts_cnn")``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from darts_cnn import space as cells
from darts_cnn.recipes import RECIPES, DartsRecipe
from darts_cnn.space import Architecture
from wsnas.space import SearchSpace

if TYPE_CHECKING:
    from darts_cnn.network import Network
    from wsnas.table import Table

TABLES = {"more-digits": Path(__file__).with_name("micro.parquet")}  # data set -> ground truth


class DartsCNN(SearchSpace[Architecture]):
    name = "darts_cnn"
    size = cells.SIZE
    tables = TABLES
    recipes = RECIPES

    sample = staticmethod(cells.sample)
    encode = staticmethod(cells.encode)
    decode = staticmethod(cells.decode)
    canonical = staticmethod(cells.canonical)
    training_key = staticmethod(cells.training_key)
    decisions = staticmethod(cells.decisions)
    cell_graph = staticmethod(cells.cell_graph)
    fair_paths = staticmethod(cells.fair_paths)

    def __iter__(self) -> Iterator[Architecture]:
        return cells.architectures()

    def build(self, recipe: DartsRecipe, arch: Architecture | None = None) -> Network:
        from darts_cnn.network import Network

        classes, inputs = self.image_shape(recipe)[:2]
        return Network(recipe.channels, recipe.cells, classes, inputs, recipe.auxiliary_head, arch)

    def parameters(self, arch: Architecture, recipe: DartsRecipe) -> int:
        from darts_cnn.network import parameters

        return parameters(arch, recipe.channels, recipe.cells, *self.image_shape(recipe)[:2], recipe.auxiliary_head)

    def macs(self, arch: Architecture, recipe: DartsRecipe) -> int:
        from darts_cnn.network import macs

        return macs(arch, recipe.channels, recipe.cells, *self.image_shape(recipe))

    def import_table(self, path: Path) -> Table:
        from darts_cnn.tables import import_table

        return import_table(path)


SPACE = DartsCNN()
