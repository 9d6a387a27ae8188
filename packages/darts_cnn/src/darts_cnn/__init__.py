"""The convolutional search space of DARTS (Liu et al., 2019) for wsnas: ``wsnas.load_space("darts_cnn")``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from darts_cnn import space as cells
from darts_cnn.recipes import MICRO, PAPER, RECIPES, DartsRecipe
from darts_cnn.space import Architecture
from wsnas.space import SearchSpace

if TYPE_CHECKING:
    from darts_cnn.network import Network
    from wsnas.table import Table


class DartsCNN(SearchSpace[Architecture]):
    """The space, as ``wsnas.space.SearchSpace`` asks for it."""

    name = "darts_cnn"
    size = cells.SIZE
    micro_table = Path(__file__).with_name("micro.parquet")
    recipes: Mapping[str, DartsRecipe] = RECIPES

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

        channels, cells, classes, inputs, _ = _sizes(recipe)
        return Network(channels, cells, classes, inputs, recipe.auxiliary_head, arch)

    def parameters(self, arch: Architecture, recipe: DartsRecipe) -> int:
        from darts_cnn.network import parameters

        return parameters(arch, *_sizes(recipe)[:4], recipe.auxiliary_head)

    def macs(self, arch: Architecture, recipe: DartsRecipe) -> int:
        from darts_cnn.network import macs

        return macs(arch, *_sizes(recipe))

    def import_table(self, path: Path) -> Table:
        from darts_cnn.tables import import_table

        return import_table(path)


def _sizes(recipe: DartsRecipe) -> tuple[int, int, int, int, int]:
    """Channels and cells of the skeleton; classes, channels and side in pixels of the images."""
    from wsnas.data.sources import shape_of

    return recipe.channels, recipe.cells, *shape_of(recipe.dataset)


SPACE = DartsCNN()

__all__ = ["MICRO", "PAPER", "SPACE", "DartsCNN", "DartsRecipe"]
