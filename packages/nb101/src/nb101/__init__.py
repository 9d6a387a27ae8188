"""The paper's part of NAS-Bench-101 (Ying et al., 2019) as a wsnas search space: ``wsnas.load_space("nb101")``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nb101 import space as cells
from nb101.recipes import RECIPES, NB101Recipe
from nb101.space import Architecture
from wsnas.space import SearchSpace

if TYPE_CHECKING:
    from nb101.network import Network
    from wsnas.table import Table

TABLES = {"digits": Path(__file__).with_name("micro.parquet")}  # data set -> ground truth


class NB101(SearchSpace[Architecture]):
    name = "nb101"
    size = 95_985
    tables = TABLES
    recipes = RECIPES
    published = "nasbench_only108.tfrecord or nasbench_full.tfrecord, linked at github.com/google-research/nasbench"

    sample = staticmethod(cells.sample)
    encode = staticmethod(cells.encode)
    decode = staticmethod(cells.decode)
    canonical = staticmethod(cells.canonical)
    training_key = staticmethod(cells.training_key)
    decisions = staticmethod(cells.decisions)
    cell_graph = staticmethod(cells.cell_graph)
    fair_paths = staticmethod(cells.fair_paths)

    def __iter__(self) -> Iterator[Architecture]:
        return iter(cells.architectures())

    def build(self, recipe: NB101Recipe, arch: Architecture | None = None) -> Network:
        from nb101.network import Network

        classes, inputs = self.image_shape(recipe)[:2]
        return Network(recipe.channels, recipe.cells, classes, inputs, arch, recipe.bn_momentum)

    def parameters(self, arch: Architecture, recipe: NB101Recipe) -> int:
        from nb101.network import parameters

        return parameters(arch, recipe.channels, recipe.cells, *self.image_shape(recipe)[:2])

    def macs(self, arch: Architecture, recipe: NB101Recipe) -> int:
        from nb101.network import macs

        return macs(arch, recipe.channels, recipe.cells, *self.image_shape(recipe))

    def import_table(self, path: Path) -> Table:
        from nb101.tables import import_table

        return import_table(path)


SPACE = NB101()
