"""How DARTS's recurrent networks are trained, at each scale."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from wsnas.recipe import SGD, Between, Count, Decides, Fixed, Fraction, Linear, NotNegative, Recipe, Sequences, Training


@dataclass(frozen=True)
class RNNRecipe(Recipe):
    """A recipe with the network's width, its regularisation, and the reading of text.

    Supernet and stand-alone network share all of it. There is no batch norm to calibrate, and texts have fixed splits.
    """

    dataset: Annotated[str, "text: ptb, tragedies, or the path of a folder"]
    calibration_batch: int = field(default=0, init=False)
    calibration_steps: int = field(default=0, init=False)
    train_size: Annotated[Count | None, "training tokens; none: all"] = None
    valid_size: Annotated[Count | None, "validation tokens used to score a submodel; none: all", Decides.SUBMODELS] = (
        None
    )
    split_file: None = field(default=None, init=False)
    units: Annotated[Count, "width of the embedding and of every state"] = 850
    vocabulary: Annotated[
        Annotated[int, Between(3)] | None, "number of most frequent words kept, including <unk> and <eos>; none: all"
    ] = None
    dropout: Annotated[Fraction, "dropout of the cell's outputs"] = 0.75
    dropout_hidden: Annotated[Fraction, "dropout of the states inside the cell, one mask for all nodes"] = 0.25
    dropout_input: Annotated[Fraction, "dropout of the cell's input"] = 0.75
    dropout_embedding: Annotated[Fraction, "dropout of embedded words"] = 0.2
    dropout_words: Annotated[Fraction, "dropout of whole words of the embedding"] = 0.1
    slowness: Annotated[NotNegative, "weight of the state's mean squared change from token to token"] = 1e-3
    valid_streams: Annotated[Count, "parts of the validation text read in parallel", Decides.SCORES] = 10
    test_streams: Annotated[Count, "parts of the test text read in parallel", Decides.SCORES] = 1


# Supernet: Table 2 of the paper, which gives neither momentum nor width nor regularisation. No momentum, as in
# DARTS's recurrent code (with 0.9, learning rate 40 would be 400); the width and dropouts of the stand-alone
# network, because one network serves all architectures here: --units chooses another (DARTS's search has 300 and
# drops no whole words). Stand-alone: DARTS, section A.2.2 and its released code, which takes the best weights by
# validation; it trains "until convergence", 8,000 epochs is the code's limit.
PAPER = RNNRecipe(
    dataset="ptb",
    supernet=Training(
        epochs=1000,
        batch=256,
        optimizer=SGD(lr=40.0, momentum=0.0, weight_decay=8e-7),
        schedule=Fixed(),
        clip=0.1,
        inputs=Sequences(bptt=35),
    ),
    standalone=Training(
        epochs=8000,
        batch=64,
        optimizer=SGD(lr=20.0, momentum=0.0, weight_decay=8e-7),
        schedule=Fixed(),
        clip=0.25,
        patience=5,
        inputs=Sequences(bptt=35),
    ),
)

# The same space and loops on a text that ships with this package, for a laptop's CPU. With 500 words and 32 units
# the cell, not the softmax, has most of the weights and takes most of the time. Stand-alone trainings average their
# weights at a constant learning rate, as DARTS's do; without that, seeds agree less, and on half of the text longer
# ones overfit. They are sufficient (docs/tables.md).
MICRO = RNNRecipe(
    dataset="tragedies",
    supernet=Training(
        epochs=15,
        batch=64,
        optimizer=SGD(lr=2.0),
        schedule=Linear(warmup=0.2),
        clip=0.25,
        inputs=Sequences(bptt=16),
    ),
    standalone=Training(
        epochs=16,
        batch=64,
        optimizer=SGD(lr=3.0),
        schedule=Fixed(),
        clip=0.25,
        average_last=0.5,
        inputs=Sequences(bptt=16),
    ),
    evaluation_batch=1600,
    units=32,
    vocabulary=500,
    dropout=0.0,  # sixteen epochs do not overfit
    dropout_hidden=0.0,
    dropout_input=0.0,
    dropout_embedding=0.0,
    dropout_words=0.0,
    slowness=0.0,
    valid_streams=40,  # faster than 10 and 1
    test_streams=40,
)

# As ``MICRO``, with supernets trained until their submodels stop improving.
DESK = replace(MICRO, supernet=replace(MICRO.supernet, epochs=30))

RECIPES = {"paper": PAPER, "desk": DESK, "micro": MICRO}
