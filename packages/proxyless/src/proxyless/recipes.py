"""How ProxylessNAS's networks are trained, at each scale."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from wsnas.errors import WsnasError
from wsnas.recipe import (
    SGD,
    ColourAugmentation,
    CosinePerStep,
    Decides,
    Linear,
    Natural,
    Positive,
    Recipe,
    Training,
)


@dataclass(frozen=True)
class ProxylessTraining(Training):
    """A training whose weight decay can exempt batch norms."""

    decay_on_norms: Annotated[bool, "weight decay on batch norms, too"] = True
    inputs: ColourAugmentation = field(default_factory=ColourAugmentation)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.decay_on_norms and not self.optimizer.weight_decay:
            raise WsnasError("to exempt batch norms from weight decay (decay_on_norms), give a weight_decay above 0")


@dataclass(frozen=True)
class ProxylessRecipe(Recipe):
    """A recipe with the skeleton's sizes and the reading of image folders."""

    width: Annotated[Positive, "factor on all widths"] = 1.0
    strides: Annotated[str, "strides of the stem and of the six stages, one digit each"] = "2222121"
    identity_start: Annotated[bool, "blocks with a residual begin as the identity, for short trainings"] = False
    size: Annotated[Natural, "side in pixels at which an image folder is streamed; 0: read into memory unchanged"] = 0
    skip_corrupt: Annotated[
        bool, "skip images of a streamed folder that cannot be decoded, instead of stopping", Decides.NOTHING
    ] = False


# Supernet: Table 2 and Appendix A.1 of the paper, which give neither momentum nor augmentation: 0.9, and crops and
# flips, are choices. Stand-alone: Cai et al. (2019) and their released configuration, with the paper's batch of 1024
# and 0.2 for it (from 0.05 for 256). One thing differs from it: the last linear layer starts normal with deviation
# 0.01 (network.py), theirs uniform in +-1/sqrt(inputs). The last batch of an epoch is smaller, as in their
# search/data_providers/imagenet.py. 50,000 of ImageNet's 1,281,167 training images validate.
PAPER = ProxylessRecipe(
    dataset="imagenet",
    supernet=ProxylessTraining(
        epochs=1000,
        batch=1024,
        optimizer=SGD(lr=0.2, weight_decay=5e-4),
        inputs=ColourAugmentation(flip=True),
    ),
    standalone=ProxylessTraining(
        epochs=300,
        batch=1024,
        optimizer=SGD(lr=0.2, nesterov=True, weight_decay=4e-5),
        decay_on_norms=False,
        schedule=CosinePerStep(),
        label_smoothing=0.1,
        inputs=ColourAugmentation(flip=True, colour_jitter=0.4, hue=0.1, last_batch="keep"),
    ),
    calibration_batch=400,
    calibration_steps=25,
    evaluation_batch=250,
    train_size=1_231_167,
    max_macs=600_000_000,  # A.1: only networks that fit a mobile setting are evaluated
    width=1.35,
    size=224,
)

# ProxylessNAS's published accuracies: trained on all 1,281,167 images (1,252 steps an epoch), with none left to
# validate, scored on ImageNet's validation set. No supernet can be scored with it.
PUBLISHED = replace(PAPER, train_size=1_281_167)

# The same space and loops on images that ship with scikit-learn, for a laptop's CPU. Two of the five strides remain:
# 8x8 images are 4x4 after the stem, where a kernel of 7 still sees more than one of 5, and 2x2 from the fifth stage on.
# Images and the stand-alone training: docs/trials.md.
MICRO = ProxylessRecipe(
    dataset="more-digits",
    supernet=ProxylessTraining(
        epochs=6,
        batch=64,
        optimizer=SGD(lr=0.2, weight_decay=5e-4),
        schedule=Linear(warmup=0.3),
        clip=1.0,
    ),
    standalone=ProxylessTraining(
        epochs=8,
        batch=64,
        optimizer=SGD(lr=0.2, nesterov=True, weight_decay=5e-4),
        schedule=Linear(warmup=0.4),
        average_last=0.3,  # two seeds agree better on averaged weights
    ),
    calibration_batch=250,
    calibration_steps=8,
    evaluation_batch=500,
    train_size=20_000,  # of the 60,000
    valid_size=2000,  # of the 10,000: scoring submodels is most of a study's time
    width=0.125,
    strides="2111121",
    identity_start=True,
)

# As ``MICRO``, with supernets trained ten times as long.
DESK = replace(MICRO, supernet=replace(MICRO.supernet, epochs=60))

RECIPES = {"paper": PAPER, "published": PUBLISHED, "desk": DESK, "micro": MICRO}
