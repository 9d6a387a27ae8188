"""DARTS's recurrent cells (Liu et al., 2019) as a wsnas search space: ``wsnas.load_space("darts_rnn")``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from darts_rnn import space as cells
from darts_rnn.recipes import RECIPES, RNNRecipe
from wsnas.space import SearchSpace

if TYPE_CHECKING:
    import torch

    from darts_rnn.network import Network
    from wsnas.data.images import Splits

TABLES = {"tragedies": Path(__file__).with_name("micro.parquet")}  # data set -> ground truth


class DartsRNN(SearchSpace[cells.Architecture]):
    name = "darts_rnn"
    size = cells.SIZE
    metric = "perplexity"
    tables = TABLES
    recipes = RECIPES

    sample = staticmethod(cells.sample)
    encode = staticmethod(cells.encode)
    decode = staticmethod(cells.decode)
    canonical = training_key = staticmethod(cells.shape)
    decisions = staticmethod(cells.decisions)
    cell_graph = staticmethod(cells.cell_graph)
    fair_paths = staticmethod(cells.fair_paths)

    def __iter__(self) -> Iterator[cells.Architecture]:
        return cells.architectures()

    def build(self, recipe: RNNRecipe, arch: cells.Architecture | None = None) -> Network:
        from darts_rnn import network, text

        return network.Network(recipe, text.vocabulary_size(recipe), arch)

    def load_data(self, recipe: RNNRecipe, device: torch.device) -> Splits:
        from darts_rnn import text

        return text.load_splits(recipe, device)

    def data_place(self, recipe: RNNRecipe) -> Path | None:
        return None if recipe.dataset in ("ptb", "tragedies") else Path(recipe.dataset)

    def parameters(self, arch: cells.Architecture, recipe: RNNRecipe) -> int:
        from darts_rnn import network, text

        return network.parameters(text.vocabulary_size(recipe), recipe.units)

    def macs(self, arch: cells.Architecture, recipe: RNNRecipe) -> int:  # of one token
        from darts_rnn import network, text

        return network.macs(text.vocabulary_size(recipe), recipe.units)


SPACE = DartsRNN()
