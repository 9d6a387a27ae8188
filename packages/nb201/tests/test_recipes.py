"""The recipes against the numbers as they are printed, and the ground truth that ships with the package."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nb201 import SPACE
from wsnas.agreement import load_ground_truth
from wsnas.data.images import steps_of
from wsnas.data.sources import shape_of
from wsnas.errors import WsnasError
from wsnas.metrics import noise_ceiling
from wsnas.recipe import change_recipe, recipe_fields
from wsnas.recipe_options import chosen_recipe
from wsnas.standalone import train_architecture
from wsnas.table import MACS, Table


def with_one(recipe: Any, dataset: str) -> Any:
    """As the command line does it."""
    return chosen_recipe(SimpleNamespace(recipes={"paper": recipe}), "paper", {"dataset": dataset})  # type: ignore[arg-type]


PAPER = SPACE.recipes["paper"]
MICRO = SPACE.recipes["micro"]


def test_supernet_recipe_beside_table_2() -> None:
    assert PAPER.dataset == "cifar100"
    assert (PAPER.channels, PAPER.cells) == (16, 5)


def test_standalone_recipe_does_nothing_that_the_benchmark_does_not() -> None:
    """Dong & Yang (2020), Table 1: beside the steps, which tests/test_paper_recipes.py takes, flip and crop 4."""
    steps = {"optimizer", "epochs", "lr", "schedule", "momentum", "nesterov", "weight_decay"}
    used = {name: one.value for name, one in recipe_fields(PAPER.standalone).items() if one.value and name not in steps}
    assert used == {"batch": 256, "flip": True, "crop": 4, "last_batch": "keep"}


def test_a_standalone_epoch_is_as_long_as_the_benchmarks() -> None:
    """Their loader: torch's, without drop_last; of CIFAR-100, and of the half of CIFAR-10."""
    for images in (50_000, 25_000):
        theirs = len(torch.utils.data.DataLoader(range(images), batch_size=256))  # type: ignore[arg-type]
        assert {steps_of(images, PAPER.standalone, epoch) for epoch in range(200)} == {theirs}
        assert steps_of(images, PAPER.supernet, 0) == theirs - 1


@pytest.mark.parametrize("changed", [change_recipe, with_one])
def test_imagenet16_is_padded_by_two(changed: Any) -> None:
    """lib/datasets of the benchmark's code: RandomCrop(16, padding=2), RandomCrop(32, padding=4) for CIFAR."""
    recipe = changed(PAPER, dataset="imagenet16-120")
    assert [one.inputs.crop for one in (recipe.supernet, recipe.standalone)] == [2, 2]
    assert recipe == changed(recipe, dataset="imagenet16-120")  # once
    assert changed(recipe, dataset="cifar10") == changed(PAPER, dataset="cifar10")  # and back
    assert dataclasses.replace(recipe, supernet=PAPER.supernet, standalone=PAPER.standalone) == dataclasses.replace(
        PAPER, dataset="imagenet16-120"
    )  # nothing else differs
    assert changed(PAPER, dataset="cifar10").supernet.inputs.crop == 4
    assert change_recipe(PAPER, dataset="imagenet16-120", crop=3).supernet.inputs.crop == 3  # given
    assert change_recipe(MICRO, dataset="imagenet16-120").supernet.inputs.crop == 0


@pytest.mark.parametrize(
    ("dataset", "classes", "inputs", "side"),
    [("cifar10", 10, 3, 32), ("cifar100", 100, 3, 32), ("imagenet16-120", 120, 3, 16)],
)
def test_the_number_of_classes_follows_the_data_set(dataset: str, classes: int, inputs: int, side: int) -> None:
    recipe = dataclasses.replace(PAPER, dataset=dataset, channels=4, cells=1)
    one = next(iter(SPACE))
    for network in (SPACE.network(one, recipe), SPACE.supernet(recipe)):
        assert network.classifier.out_features == classes
        assert network.stem.conv.in_channels == inputs
    assert shape_of(dataset) == (classes, inputs, side, side)


def test_micro_images_are_what_the_networks_are_told() -> None:
    """``shape_of`` is a table; the images themselves must agree with it."""
    splits = SPACE.load_data(MICRO, torch.device("cpu"))
    classes, inputs, side, _ = shape_of(MICRO.dataset)
    for part in (splits.train, splits.valid, splits.test):
        x, y = next(iter(part.ordered(7)))
        assert x.shape == (7, inputs, side, side)
        assert set(part.labels.unique().tolist()) == set(range(classes))
        assert y.tolist() == part.labels[:7].tolist()


def test_averaged_weights_are_not_scored_without_calibration() -> None:
    """Their batch norms have no statistics of their own: said before the training, not scored as garbage."""
    careless = dataclasses.replace(MICRO, calibration_steps=0)
    with pytest.raises(WsnasError, match="--calibration-steps above 0"):
        train_architecture(SPACE, SPACE.sample(np.random.default_rng(0)), careless)


# the shipped ground truth ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> Table:
    return load_ground_truth(SPACE)


def test_shipped_table_has_every_architecture(shipped: Table) -> None:
    """Of the space, once, with 3 seeds: of two epochs all of them, of sufficient trainings 700 or more."""
    assert sorted(shipped.archs) == sorted(SPACE.encode(arch) for arch in SPACE)
    assert shipped.seeds(MICRO.dataset, "test").shape == (15_284, 3)
    assert np.isfinite(shipped.seeds(MICRO.dataset, "test", 2)).all()
    assert shipped.have_results().sum() >= 700


def test_multiply_adds_of_the_shipped_table_are_counted_by_one_rule(shipped: Table) -> None:
    """An older file leaves out edges that reach nothing and counts two operations each: 2,120 architectures differ.

    Nothing else in it changes.
    """
    raw = Table.load(SPACE.tables[MICRO.dataset])
    assert shipped.macs is not None
    assert raw.macs is not None
    assert shipped.macs == pytest.approx([1e-6 * SPACE.macs(SPACE.decode(arch), MICRO) for arch in shipped.archs])
    if "macs" not in raw.about:
        assert (shipped.macs > raw.macs * (1 + 1e-5)).sum() == 2120
        assert np.isclose(shipped.macs, raw.macs, rtol=1e-6).sum() == len(shipped) - 2120
    assert shipped.archs == raw.archs
    assert list(shipped.columns) == list(raw.columns)
    for column, values in shipped.columns.items():
        np.testing.assert_array_equal(values, raw.columns[column])
    for name in ("parameters", "latency", "failed"):
        np.testing.assert_array_equal(getattr(shipped, name), getattr(raw, name))
    assert {**raw.about, "macs": MACS} == shipped.about


def test_shipped_table_can_be_trusted(shipped: Table) -> None:
    """Spearman-Brown reliability of the three seeds' mean, test accuracy: 0.941."""
    seeds = shipped.seeds(MICRO.dataset, "test")
    ceiling = noise_ceiling(seeds[np.isfinite(seeds).all(1)])
    assert ceiling is not None
    assert ceiling.reliability >= 0.93
