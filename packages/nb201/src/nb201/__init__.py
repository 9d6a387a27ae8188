"""NAS-Bench-201 (Dong & Yang, 2020) as a wsnas search space: ``wsnas.load_space("nb201")``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nb201 import space as cells
from nb201.recipes import RECIPES, NB201Recipe
from nb201.space import Architecture
from wsnas.space import SearchSpace

if TYPE_CHECKING:
    from nb201.network import Network
    from wsnas.table import Table

TABLES = {"digits": Path(__file__).with_name("micro.parquet")}  # data set -> ground truth


class NB201(SearchSpace[Architecture]):
    name = "nb201"
    size = 15_284
    tables = TABLES
    recipes = RECIPES
    published = (
        "NAS-Bench-201-v1_1-096897.pth, linked at github.com/D-X-Y/NAS-Bench-201, or the folder "
        "NATS-tss-v1_0-3ffb9-simple, linked at github.com/D-X-Y/NATS-Bench"
    )

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

    def build(self, recipe: NB201Recipe, arch: Architecture | None = None) -> Network:
        from nb201.network import Network

        classes, inputs = self.image_shape(recipe)[:2]
        return Network(recipe.channels, recipe.cells, classes, inputs, arch)

    def parameters(self, arch: Architecture, recipe: NB201Recipe) -> int:
        from nb201.network import parameters

        return parameters(arch, recipe.channels, recipe.cells, *self.image_shape(recipe)[:2])

    def macs(self, arch: Architecture, recipe: NB201Recipe) -> int:
        from nb201.network import macs

        return macs(arch, recipe.channels, recipe.cells, *self.image_shape(recipe))

    def import_table(self, path: Path) -> Table:
        from nb201.tables import import_table

        return import_table(path)


SPACE = NB201()
