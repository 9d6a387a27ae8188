"""DARTS's recurrent cells (Liu et al., 2019) as a wsnas search space: ``wsnas.load_space("darts_rnn")``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from darts_rnn import space as cells
from darts_rnn.space import Architecture
from wsnas.recipe import Recipe, Training
from wsnas.space import SearchSpace

if TYPE_CHECKING:
    import torch

    from darts_rnn.network import Network
    from wsnas.data.images import Splits
    from wsnas.table import Table


@dataclass(frozen=True)
class RNNRecipe(Recipe):
    """A recipe with the network's width, its regularisation, and how text is read.

    ``train_size`` and ``valid_size`` count tokens. Supernet and stand-alone network share all of it.
    """

    units: int = 850  # of the embedding and of every state
    vocabulary: int | None = None  # most frequent words that are kept, <unk> and <eos> included; None: all
    dropout: float = 0.75  # of the cell's outputs
    dropout_hidden: float = 0.25  # of the states inside the cell, one mask for all nodes
    dropout_input: float = 0.75  # of the cell's input
    dropout_embedding: float = 0.2  # of embedded words
    dropout_words: float = 0.1  # of whole words of the embedding
    slowness: float = 1e-3  # weight of the mean squared change of the state from token to token
    valid_streams: int = 10  # parts of the validation text that are read side by side
    test_streams: int = 1


# Supernet: Table 2 of the paper, which gives neither momentum nor width nor regularisation. No momentum, as in
# DARTS's recurrent code (with 0.9, learning rate 40 would be 400); the width and dropouts of the stand-alone
# network, because one network serves all architectures here: --units chooses another. Stand-alone: DARTS,
# section A.4.2 and its released code, which takes the best weights by validation; it trains "until convergence",
# 8,000 epochs is the code's limit.
PAPER = RNNRecipe(
    dataset="ptb",
    supernet=Training(
        epochs=1000, batch=256, lr=40.0, decay="fixed", momentum=0.0, weight_decay=8e-7, clip=0.1, bptt=35
    ),
    standalone=Training(
        epochs=8000, batch=64, lr=20.0, decay="fixed", momentum=0.0, weight_decay=8e-7, clip=0.25, bptt=35, patience=5
    ),
    calibration_batch=0,
    calibration_steps=0,  # there is no batch norm
)

# The same space and loops on a text that ships with this package, for a laptop's CPU. With 500 words and 32 units
# the cell, not the softmax, has most of the weights and takes most of the time.
MICRO = RNNRecipe(
    dataset="tragedies",
    supernet=Training(epochs=30, batch=64, lr=2.0, decay="linear-step", warmup=0.2, momentum=0.9, clip=0.25, bptt=16),
    standalone=Training(epochs=2, batch=64, lr=6.0, decay="linear-step", warmup=0.2, momentum=0.9, clip=0.25, bptt=16),
    calibration_batch=0,
    calibration_steps=0,
    evaluation_batch=1600,
    train_size=64_000,
    units=32,
    vocabulary=500,
    dropout=0.0,  # two epochs do not overfit
    dropout_hidden=0.0,
    dropout_input=0.0,
    dropout_embedding=0.0,
    dropout_words=0.0,
    slowness=0.0,
    valid_streams=40,  # quicker than 10 and 1
    test_streams=40,
)


class DartsRNN:
    """The space; its methods are the contract ``wsnas.space.SearchSpace`` asks for."""

    name = "darts_rnn"
    size = cells.SIZE
    metric: Literal["accuracy", "perplexity"] = "perplexity"
    micro_table = Path(__file__).with_name("micro.parquet")
    recipes: Mapping[str, RNNRecipe] = {"paper": PAPER, "micro": MICRO}

    sample = staticmethod(cells.sample)
    index = staticmethod(cells.index)
    arch = staticmethod(cells.arch)
    encode = staticmethod(cells.encode)
    decode = staticmethod(cells.decode)
    canonical = staticmethod(cells.shape)
    training_key = staticmethod(cells.shape)
    fair_paths = staticmethod(cells.fair_paths)
    decisions = staticmethod(cells.decisions)
    cell_graph = staticmethod(cells.cell_graph)

    def __iter__(self) -> Iterator[Architecture]:
        return cells.architectures()

    def supernet(self, recipe: RNNRecipe) -> Network:
        return self._network(recipe, None)

    def network(self, arch: Architecture, recipe: RNNRecipe) -> Network:
        return self._network(recipe, arch)

    def _network(self, recipe: RNNRecipe, arch: Architecture | None) -> Network:
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

    def import_table(self, path: Path) -> Table:
        """A CSV table of perplexities (``wsnas.table.read_csv``) or one of ours.

        The paper's authors published none that is still to be had in another form. An architecture may be written
        in any way that ``decode`` reads, and is there once.
        """
        from wsnas.table import read_table

        return read_table(path, self.name, lambda text: self.encode(self.decode(text)))


SPACE: SearchSpace[Architecture] = DartsRNN()  # mypy checks the contract here

__all__ = ["MICRO", "PAPER", "SPACE", "DartsRNN", "RNNRecipe"]
