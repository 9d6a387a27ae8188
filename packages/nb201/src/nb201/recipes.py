"""How NAS-Bench-201's networks are trained, at each scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Self

from wsnas.recipe import SGD, Augmentation, Count, Linear, Recipe, Training, change_recipe, recipe_fields


@dataclass(frozen=True)
class NB201Recipe(Recipe):
    """A recipe with the skeleton's sizes."""

    channels: Annotated[Count, "channels of the first stage; the next two have 2 and 4 times as many"] = 16
    cells: Annotated[Count, "cells in each of the three stages"] = 5

    def on(self, dataset: str) -> Self:
        """The benchmark pads ImageNet16's 16x16 images by 2 before a crop, CIFAR's 32x32 by 4: half as much.

        ``get_dataset_with_transform.py`` in D-X-Y/AutoDL-Projects.
        """
        small, was_small = dataset == "imagenet16-120", self.dataset == "imagenet16-120"
        if small == was_small:
            return super().on(dataset)
        padded = [recipe_fields(one)["crop"].value for one in (self.supernet, self.standalone)]
        supernet, alone = (
            change_recipe(one, crop=pixels // 2 if small else 2 * pixels)
            for one, pixels in zip((self.supernet, self.standalone), padded, strict=True)
        )
        return replace(super().on(dataset), supernet=supernet, standalone=alone)


# Supernet: Table 2 of the paper (which gives no momentum: 0.9 is a choice). Stand-alone: Dong & Yang (2020),
# Table 1 and their released 200-epoch configuration; cosine stepped per epoch; their loaders keep the last, smaller
# batch (exps/NAS-Bench-201/main.py in D-X-Y/AutoDL-Projects), 196 steps an epoch on CIFAR-100.
PAPER = NB201Recipe(
    dataset="cifar100",
    supernet=Training(
        epochs=1000,
        batch=256,
        optimizer=SGD(lr=0.05, weight_decay=5e-4),
        clip=5.0,
        inputs=Augmentation(flip=True, crop=4),
    ),
    standalone=Training(
        epochs=200,
        batch=256,
        optimizer=SGD(lr=0.1, nesterov=True, weight_decay=5e-4),
        inputs=Augmentation(flip=True, crop=4, last_batch="keep"),
    ),
    calibration_batch=400,
    calibration_steps=25,
    channels=16,
    cells=5,
)

# The same space and loops on images that ship with scikit-learn, for a laptop's CPU. Stand-alone trainings are
# sufficient (docs/tables.md), supernets are not.
MICRO = NB201Recipe(
    dataset="digits",
    # With warm-up, Nesterov momentum and averaged weights, 20 epochs nearly match 30 of plain cosine.
    supernet=Training(
        epochs=20,
        batch=128,
        optimizer=SGD(lr=0.2, nesterov=True, weight_decay=5e-4),
        schedule=Linear(warmup=0.3),
        clip=5.0,
        average_last=0.2,
    ),
    standalone=Training(
        epochs=10,
        batch=128,
        optimizer=SGD(lr=0.1, nesterov=True, weight_decay=5e-4),
        schedule=Linear(warmup=0.4),
        average_last=0.3,  # two seeds agree better on averaged weights
    ),
    calibration_batch=250,
    calibration_steps=8,
    evaluation_batch=500,  # faster than 1,000 on a CPU
    valid_size=2000,  # of the 4,000: scoring submodels is most of a study's time
    channels=8,
    cells=1,
)

# As ``MICRO``, with supernets trained to the end: hours instead of minutes.
DESK = replace(MICRO, supernet=replace(MICRO.supernet, epochs=100))

RECIPES = {"paper": PAPER, "desk": DESK, "micro": MICRO}
