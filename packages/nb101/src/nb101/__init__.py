"""The paper's part of NAS-Bench-101 (Ying et al., 2019) as a wsnas search space: ``wsnas.load_space("nb101")``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nb101 import space as cells
from nb101.recipes import MICRO, PAPER, RECIPES, NB101Recipe
from nb101.space import Architecture
from wsnas.space import SearchSpace

if TYPE_CHECKING:
    from nb101.network import Network
    from wsnas.table import Table


class NB101(SearchSpace[Architecture]):
    """The space, as ``wsnas.space.SearchSpace`` asks for it."""

    name = "nb101"
    size = 95_985
    micro_table = Path(__file__).with_name("micro.parquet")
    recipes: Mapping[str, NB101Recipe] = RECIPES

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

        channels, cells, classes, inputs, _ = _sizes(recipe)
        return Network(channels, cells, classes, inputs, arch, recipe.bn_momentum)

    def parameters(self, arch: Architecture, recipe: NB101Recipe) -> int:
        from nb101.network import parameters

        return parameters(arch, *_sizes(recipe)[:4])

    def macs(self, arch: Architecture, recipe: NB101Recipe) -> int:
        from nb101.network import macs

        return macs(arch, *_sizes(recipe))

    def import_table(self, path: Path) -> Table:
        from nb101.tables import import_table

        return import_table(path)


def _sizes(recipe: NB101Recipe) -> tuple[int, int, int, int, int]:
    """Channels and cells of the skeleton; classes, channels and side in pixels of the images."""
    from wsnas.data.sources import shape_of

    return recipe.channels, recipe.cells, *shape_of(recipe.dataset)


SPACE = NB101()

__all__ = ["MICRO", "NB101", "PAPER", "SPACE", "NB101Recipe"]
