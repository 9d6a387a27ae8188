"""How NAS-Bench-101's networks are trained, at each scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from wsnas.recipe import SGD, Augmentation, CosinePerStep, Count, Fraction, Linear, Recipe, RMSpropTF, Training


@dataclass(frozen=True)
class NB101Recipe(Recipe):
    """A recipe with the skeleton's sizes."""

    channels: Annotated[Count, "channels of the stem and the first stack; the next two have 2 and 4 times as many"] = (
        128
    )
    cells: Annotated[Count, "cells in each of the three stacks"] = 3
    bn_momentum: Annotated[Fraction, "weight of each batch in batch norm's running statistics"] = (
        0.003  # TensorFlow's 0.997
    )


# Supernet: Table 2 of the paper (which gives no momentum: 0.9 is a choice). Stand-alone: Ying et al. (2019), section
# 2.3, and their released ``config.py`` and ``model_builder.py``: RMSProp as in TensorFlow with eps 1 inside the
# square root, cosine by step, L2 on every weight, including those of batch norm, no clip. Their ``cifar.py`` repeats
# the data before it cuts batches, so that none is incomplete: 108 x 40,000 / 256 = 16,875 steps (``evaluate.py``).
PAPER = NB101Recipe(
    dataset="cifar10",
    supernet=Training(
        epochs=1000,
        batch=256,
        optimizer=SGD(lr=0.1, weight_decay=1e-4),
        clip=5.0,
        inputs=Augmentation(flip=True, crop=4),
    ),
    standalone=Training(
        epochs=108,
        batch=256,
        optimizer=RMSpropTF(lr=0.2, alpha=0.9, eps=1.0, weight_decay=1e-4),
        schedule=CosinePerStep(),
        inputs=Augmentation(flip=True, crop=4, last_batch="carry"),
    ),
    calibration_batch=400,
    calibration_steps=25,
    train_size=40_000,  # Appendix A.1: the other 10,000 validate
)

# The same space and loops on images that ship with scikit-learn, for a laptop's CPU. Stand-alone trainings are
# sufficient (docs/tables.md), supernets are not.
MICRO = NB101Recipe(
    dataset="digits",
    # With warm-up, Nesterov momentum and averaged weights, 40 epochs of half as many images ranked better than 60 of
    # plain cosine.
    supernet=Training(
        epochs=20,
        batch=128,
        optimizer=SGD(lr=0.2, nesterov=True, weight_decay=1e-4),
        schedule=Linear(warmup=0.3),
        clip=1.0,
        average_last=0.2,
    ),
    standalone=Training(
        epochs=20,  # ten are 1.4 points short of twenty
        batch=128,
        optimizer=SGD(lr=0.1, nesterov=True, weight_decay=5e-4),
        schedule=Linear(warmup=0.4),
        average_last=0.3,  # two seeds agree better on averaged weights
    ),
    calibration_batch=250,
    calibration_steps=8,
    evaluation_batch=500,  # faster than 1,000 on a CPU
    valid_size=2000,  # of the 4,000: scoring submodels is most of a study's time
    train_size=6000,
    channels=16,
    cells=1,
    bn_momentum=0.1,  # 0.997 averages over more steps than there are
)

# As ``MICRO``, with supernets trained to the end: hours instead of minutes.
DESK = replace(MICRO, supernet=replace(MICRO.supernet, epochs=400))

RECIPES = {"paper": PAPER, "desk": DESK, "micro": MICRO}
