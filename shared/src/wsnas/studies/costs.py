"""What ranking a sample costs, in multiply-adds times images: a training step counts as three forward passes.

The unit is one sufficient stand-alone training, as in the ground truth, of an average architecture of the sample.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wsnas import paths as path_samplers
from wsnas.data.images import Splits
from wsnas.devices import choose_device
from wsnas.ground_truth import splits_once
from wsnas.metrics import Floats
from wsnas.randomness import numpy_rng
from wsnas.recipe import Recipe, Sequences, Training, change_recipe, recipe_fields, recipe_from_json
from wsnas.studies.jobs import Variant
from wsnas.studies.sample import GroundTruth, SpaceSample
from wsnas.table import TRAINED

# forward passes per image, where a gradient by the weights costs two more, and one by anything else one more
PASSES = {"naswot": 1, "synflow": 3, "grad_norm": 3, "snip": 3, "grasp": 9, "fisher": 2, "jacob_cov": 2}
PUBLISHED_IMAGES = {"cifar10": 25_000, "cifar100": 50_000, "imagenet16-120": 151_700}  # unless the recipe says


def training_items(data: Any, training: Training) -> int:
    """Images (text: tokens) that a training sees."""
    if isinstance(training.inputs, Sequences):
        return int(len(data) * training.epochs)
    return int(sum(data.steps(training, 0, epoch) for epoch in range(training.epochs)) * training.batch)


def macs_of(sample: SpaceSample, recipe: Recipe) -> Floats:
    """[n] multiply-adds for one image."""
    return np.array([sample.space.macs(arch, recipe) for arch in sample.archs], dtype=np.float64)


def published(truth: GroundTruth) -> bool:
    """Whether somebody else's trainings are meant, of the paper's size."""
    return truth.table.about.get("source") != TRAINED and truth.dataset in PUBLISHED_IMAGES


def recipe_of_trainings(sample: SpaceSample, epochs: int) -> Recipe:
    """That of the table's trainings of so many epochs: a publisher's table has the paper's, one that names none the
    study's.
    """
    truth = sample.truth
    if published(truth):
        recipe: Recipe = sample.space.recipes["paper"].on(truth.dataset)
        return recipe
    stored = json.loads(truth.table.about_length(epochs).get("recipe", "{}"))
    if not stored:
        return change_recipe(sample.recipe, **{"standalone.epochs": epochs})
    calibration = {"calibration_batch", "calibration_steps"} & recipe_fields(sample.recipe).keys()
    missing = calibration - stored.keys()  # the identity of a training that recalibrates nothing
    same = {name: getattr(sample.recipe, name) for name in ("supernet", "evaluation_batch", *missing)}
    if Path(stored["dataset"]).name == Path(sample.recipe.dataset).name:  # a file may lie elsewhere now
        same["dataset"] = sample.recipe.dataset
    return recipe_from_json(sample.recipe, {**stored, **same})


def trained_with(sample: SpaceSample, splits: Splits, epochs: int) -> tuple[float, int]:
    """Mean multiply-adds for one image, and images seen, of the table's trainings of so many epochs."""
    truth, recipe = sample.truth, recipe_of_trainings(sample, epochs)
    macs = float(macs_of(sample, recipe).mean())
    if published(truth):
        return macs, epochs * (recipe.train_size or PUBLISHED_IMAGES[truth.dataset])
    if "recipe" in truth.table.about_length(epochs):
        splits = splits_once(sample.name, recipe, choose_device())
    return macs, training_items(splits.train, recipe.standalone)


def same_networks(sample: SpaceSample) -> bool:
    """Whether the ground truth trained networks of the sample's own size."""
    theirs = recipe_of_trainings(sample, sample.truth.epochs)
    return np.array_equal(macs_of(sample, theirs), macs_of(sample, sample.recipe))


@dataclass(frozen=True)
class Costs:
    """Counts multiply-adds times images of the networks of one sample."""

    sample: SpaceSample
    splits: Splits
    macs: Floats  # [n] of the sample's networks, for one image
    training: float  # one sufficient stand-alone training, the unit of all costs
    truth: dict[str, Any]  # what the unit is

    @staticmethod
    def of(sample: SpaceSample, splits: Splits) -> Costs:
        truth = sample.truth
        macs, images = trained_with(sample, splits, truth.epochs)
        about: dict[str, Any] = {"macs": macs, "images": images // truth.epochs, "epochs": truth.epochs}
        seconds = truth.table.about_length(truth.epochs).get("seconds")
        about |= {} if seconds is None else {"seconds": seconds}
        return Costs(sample, splits, macs_of(sample, sample.recipe), 3 * macs * images, about)

    def short(self, epochs: int) -> float:
        """In trainings: each architecture's training of so many epochs in the table."""
        macs, images = trained_with(self.sample, self.splits, epochs)
        return len(self.sample.archs) * 3 * macs * images / self.training

    def fresh(self, training: Training) -> float:
        """In trainings: one of each architecture, by the study's recipe but for its ``training``."""
        return 3 * float(self.macs.sum()) * training_items(self.splits.train, training) / self.training

    def supernet(self, variant: Variant) -> float:
        """In trainings: the exact multiply-adds of the paths that were drawn, mean over seeds, and of the scoring."""
        space, recipe, training = self.sample.space, variant.recipe, variant.recipe.supernet
        sampler, known = path_samplers.parse(variant.paths), dict[Any, int]()

        def step(seed: int, number: int) -> int:
            drawn = [arch for arch, _ in sampler(space, numpy_rng(seed, "paths", number))]
            for arch in drawn:
                if arch not in known:
                    known[arch] = space.macs(arch, recipe)
            return sum(known[arch] for arch in drawn)

        if isinstance(training.inputs, Sequences):  # every architecture has the same multiply-adds
            trained = float(step(0, 0)) * training_items(self.splits.train, training)
        else:
            steps = training_items(self.splits.train, training) // training.batch
            of_seeds = [sum(step(seed, number) for number in range(steps)) for seed in variant.seeds]
            trained = float(np.mean(of_seeds)) * training.batch
        return 3 * trained / self.training + self.scoring(recipe)

    def scoring(self, recipe: Recipe) -> float:
        """In trainings: calibrating and validating each architecture of the sample with a supernet's weights."""
        images = recipe.calibration_images + recipe.validation_images(len(self.splits.valid))
        return float(self.macs.sum()) * images / self.training

    def untrained(self, proxy: str, images: int) -> float:
        """In trainings; the comparison of the images' patterns or gradients is not counted."""
        if isinstance(self.sample.recipe.standalone.inputs, Sequences):
            images *= self.sample.recipe.standalone.inputs.bptt
        return float(self.macs.sum()) * PASSES[proxy] * (1 if proxy == "synflow" else images) / self.training
