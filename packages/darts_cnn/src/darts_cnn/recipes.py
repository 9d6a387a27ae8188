"""How DARTS's convolutional networks are trained, at each scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from wsnas.recipe import SGD, Augmentation, Between, Count, Fraction, Linear, NotNegative, Recipe, Training


@dataclass(frozen=True)
class DartsTraining(Training):
    """A training with the additions of DARTS's loss to cross-entropy (network.py)."""

    auxiliary: Annotated[NotNegative, "weight of the auxiliary head's loss; 0: none"] = 0.0
    drop_path: Annotated[Fraction, "probability of dropping a path at the end of training; rises linearly from 0"] = 0.0

    def guess(self, classes: int) -> float:
        """Both heads guess."""
        return (1 + self.auxiliary) * super().guess(classes)


@dataclass(frozen=True)
class DartsRecipe(Recipe):
    """A recipe with the skeleton's sizes, the same for the supernet and the stand-alone network."""

    channels: Annotated[Count, "channels of the first cell; each of the two reductions doubles them"] = 36
    cells: Annotated[int, Between(2), "total number of cells, including the two reduction cells"] = 20
    auxiliary_head: Annotated[bool, "supernet and stand-alone network have an auxiliary head"] = False


# Supernet: Table 2 of the paper (which gives no momentum: 0.9 is a choice), with the flips and crops of DARTS's own
# search. Stand-alone: the evaluation of Liu et al. (2019), A.2.1 and the released train.py; the paper's batch is
# also 96; the last batch of an epoch is smaller, as in the released code. Both train on 40,000 images, as nb101 does,
# which leaves 10,000 for validation.
PAPER = DartsRecipe(
    dataset="cifar10",
    supernet=DartsTraining(
        epochs=1000,
        batch=448,
        optimizer=SGD(lr=0.1, weight_decay=3e-4),
        clip=5.0,
        inputs=Augmentation(flip=True, crop=4),
    ),
    standalone=DartsTraining(
        epochs=600,
        batch=96,
        optimizer=SGD(lr=0.025, weight_decay=3e-4),
        clip=5.0,
        inputs=Augmentation(flip=True, crop=4, cutout=16, last_batch="keep"),
        auxiliary=0.4,
        drop_path=0.2,
    ),
    calibration_batch=200,
    calibration_steps=100,
    train_size=40_000,
    channels=36,
    cells=20,
    auxiliary_head=True,
)

# DARTS's published accuracies: trained on all 50,000 images (521 steps an epoch), with none left to validate. No
# supernet can be scored with it.
PUBLISHED = replace(PAPER, train_size=50_000)

# The same space and loops on images that ship with scikit-learn, for a laptop's CPU; without augmentation, auxiliary
# head and drop-path, which a short training does not need. The supernet needs more and smaller steps than nb201's: a
# cell ends without batch norm, so pools and sums of skips reach the linear layer on a different scale in each path.
# Many images, because trained cells differ little: the noise of overfitting and of a small test set would hide which
# are better (docs/tables.md).
MICRO = DartsRecipe(
    dataset="more-digits",
    supernet=DartsTraining(
        epochs=6,
        batch=64,
        optimizer=SGD(lr=0.05, nesterov=True, weight_decay=3e-4),
        schedule=Linear(warmup=0.3),
        clip=1.0,
        average_last=0.2,
    ),
    standalone=DartsTraining(
        epochs=4,
        batch=128,
        optimizer=SGD(lr=0.2, nesterov=True, weight_decay=3e-4),
        schedule=Linear(warmup=0.4),
        clip=5.0,  # without it, cells of many pools diverge
        average_last=0.3,
    ),
    calibration_batch=250,
    calibration_steps=8,
    evaluation_batch=500,
    train_size=20_000,  # of the 60,000
    valid_size=2000,  # of the 10,000: scoring submodels is most of a study's time
    channels=8,
    cells=3,
)

# As ``MICRO``, with supernets trained ten times as long.
DESK = replace(MICRO, supernet=replace(MICRO.supernet, epochs=60))

RECIPES = {"paper": PAPER, "published": PUBLISHED, "desk": DESK, "micro": MICRO}
