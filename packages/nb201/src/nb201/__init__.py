"""NAS-Bench-201 (Dong & Yang, 2020) as a wsnas search space: ``wsnas.load_space("nb201")``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nb201 import space as cells
from nb201.recipes import MICRO, PAPER, RECIPES, NB201Recipe
from nb201.space import Architecture
from wsnas.space import SearchSpace

if TYPE_CHECKING:
    from nb201.network import Network
    from wsnas.table import Table


class NB201(SearchSpace[Architecture]):
    """The space, as ``wsnas.space.SearchSpace`` asks for it."""

    name = "nb201"
    size = 15_284
    micro_table = Path(__file__).with_name("micro.parquet")
    recipes: Mapping[str, NB201Recipe] = RECIPES

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

        channels, cells, classes, inputs, _ = _sizes(recipe)
        return Network(channels, cells, classes, inputs, arch)

    def parameters(self, arch: Architecture, recipe: NB201Recipe) -> int:
        from nb201.network import parameters

        return parameters(arch, *_sizes(recipe)[:4])

    def macs(self, arch: Architecture, recipe: NB201Recipe) -> int:
        from nb201.network import macs

        return macs(arch, *_sizes(recipe))

    def import_table(self, path: Path) -> Table:
        from nb201.tables import import_table

        return import_table(path)


def _sizes(recipe: NB201Recipe) -> tuple[int, int, int, int, int]:
    """Channels and cells of the skeleton; classes, channels and side in pixels of the images."""
    from wsnas.data.sources import shape_of

    return recipe.channels, recipe.cells, *shape_of(recipe.dataset)


SPACE = NB201()

__all__ = ["MICRO", "NB201", "PAPER", "SPACE", "NB201Recipe"]
