"""The convolutional search space of DARTS (Liu et al., 2019) for wsnas: ``wsnas.load_space("darts_cnn")``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from darts_cnn import space as cells
from darts_cnn.space import Architecture
from wsnas.space import Recipe, SearchSpace, Training

if TYPE_CHECKING:
    import torch

    from darts_cnn.network import Network
    from wsnas.images import Splits
    from wsnas.table import Table


@dataclass(frozen=True)
class DartsRecipe(Recipe):
    """A recipe with the skeletons' sizes: the stand-alone network's, and the supernet's where it differs."""

    channels: int = 36  # of the first cell; each reduction doubles them
    cells: int = 20  # in all, the two reduction cells among them
    auxiliary_head: bool = False  # in both networks, so that one's weights fit the other; a loss only where a training has


# Supernet: Table 2 of the paper, without augmentation beyond DARTS's own, momentum 0.9 a choice.
# Stand-alone: DARTS's evaluation (Liu et al., 2019, A.3 and the released train.py); the paper keeps its batch of 96.
PAPER = DartsRecipe(
    dataset="cifar10",
    supernet=Training(epochs=1000, batch=448, lr=0.1, weight_decay=3e-4, clip=5.0, flip=True, crop=4),
    standalone=Training(
        epochs=600,
        batch=96,
        lr=0.025,
        weight_decay=3e-4,
        clip=5.0,
        flip=True,
        crop=4,
        cutout=16,
        auxiliary=0.4,
        drop_path=0.2,
    ),
    calibration_batch=200,
    calibration_steps=100,
    channels=36,
    cells=20,
    auxiliary_head=True,
)
