"""DARTS's recurrent cells (Liu et al., 2019) as a wsnas search space: ``wsnas.load_space("darts_rnn")``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from darts_rnn import space as cells
from darts_rnn.recipes import MICRO, PAPER, RECIPES, RNNRecipe
from darts_rnn.space import Architecture
from wsnas.space import SearchSpace

if TYPE_CHECKING:
    import torch

    from darts_rnn.network import Network
    from wsnas.data.images import Splits


class DartsRNN(SearchSpace[Architecture]):
    """The space, as ``wsnas.space.SearchSpace`` asks for it."""

    name = "darts_rnn"
    size = cells.SIZE
    metric: Literal["accuracy", "perplexity"] = "perplexity"
    micro_table = Path(__file__).with_name("micro.parquet")
    recipes: Mapping[str, RNNRecipe] = RECIPES

    sample = staticmethod(cells.sample)
    encode = staticmethod(cells.encode)
    decode = staticmethod(cells.decode)
    canonical = staticmethod(cells.shape)
    training_key = staticmethod(cells.shape)
    decisions = staticmethod(cells.decisions)
    cell_graph = staticmethod(cells.cell_graph)
    fair_paths = staticmethod(cells.fair_paths)

    def __iter__(self) -> Iterator[Architecture]:
        return cells.architectures()

    def build(self, recipe: RNNRecipe, arch: Architecture | None = None) -> Network:
        from darts_rnn.network import Network
        from darts_rnn.text import vocabulary_size

        return Network(recipe, vocabulary_size(recipe), arch)

    def load_data(self, recipe: RNNRecipe, device: torch.device) -> Splits:
        from darts_rnn.text import load_splits

        return load_splits(recipe, device)

    def parameters(self, arch: Architecture, recipe: RNNRecipe) -> int:
        from darts_rnn.network import parameters
        from darts_rnn.text import vocabulary_size

        return parameters(vocabulary_size(recipe), recipe.units)

    def macs(self, arch: Architecture, recipe: RNNRecipe) -> int:
        """Multiply-adds of one token: of the cell's products and the decoder."""
        from darts_rnn.network import macs
        from darts_rnn.text import vocabulary_size

        return macs(vocabulary_size(recipe), recipe.units)


SPACE = DartsRNN()

__all__ = ["MICRO", "PAPER", "SPACE", "DartsRNN", "RNNRecipe"]
