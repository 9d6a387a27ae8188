"""The recipes against the numbers as they are printed, and the ground truth that ships with the package."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from nb201 import SPACE
from wsnas.agreement import load_ground_truth
from wsnas.data.sources import shape_of
from wsnas.environment import environment
from wsnas.errors import WsnasError
from wsnas.metrics import noise_ceiling
from wsnas.recipe import recipe_fields
from wsnas.standalone import train_architecture
from wsnas.table import Table

PAPER = SPACE.recipes["paper"]
MICRO = SPACE.recipes["micro"]


def test_supernet_recipe_is_table_2() -> None:
    """Column NASBench-201 of Table 2, as printed; SGD's momentum is not in it and is our choice."""
    table_2 = {
        "batch": 256,
        "lr": 0.05,
        "schedule": "cosine-per-epoch",
        "weight_decay": 5e-4,
        "clip": 5.0,
        "epochs": 1000,
    }
    found = {name: one.value for name, one in recipe_fields(PAPER.supernet).items()}
    assert found.items() >= table_2.items()
    assert PAPER.supernet.optimizer.momentum == 0.9
    assert (PAPER.calibration_batch, PAPER.calibration_steps) == (400, 25)  # "400 / 25"
    assert PAPER.dataset == "cifar100"
    assert (PAPER.channels, PAPER.cells) == (16, 5)


def test_standalone_recipe_does_nothing_that_the_benchmark_does_not() -> None:
    """Dong & Yang (2020), Table 1: beside the steps, which tests/test_paper_recipes.py takes, flip and crop 4."""
    steps = {"optimizer", "epochs", "lr", "schedule", "momentum", "nesterov", "weight_decay"}
    used = {name: one.value for name, one in recipe_fields(PAPER.standalone).items() if one.value and name not in steps}
    assert used == {"batch": 256, "flip": True, "crop": 4}


@pytest.mark.parametrize(
    ("dataset", "classes", "inputs", "side"),
    [("cifar10", 10, 3, 32), ("cifar100", 100, 3, 32), ("imagenet16-120", 120, 3, 16)],
)
def test_the_class_count_follows_the_data_set(dataset: str, classes: int, inputs: int, side: int) -> None:
    recipe = dataclasses.replace(PAPER, dataset=dataset, channels=4, cells=1)
    one = next(iter(SPACE))
    for network in (SPACE.network(one, recipe), SPACE.supernet(recipe)):
        assert network.classifier.out_features == classes
        assert network.stem.conv.in_channels == inputs
    assert shape_of(dataset) == (classes, inputs, side)


def test_micro_images_are_what_the_networks_are_told() -> None:
    """``shape_of`` is a table; the images themselves must agree with it."""
    splits = SPACE.load_data(MICRO, torch.device("cpu"))
    classes, inputs, side = shape_of(MICRO.dataset)
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
    assert SPACE.micro_table.exists(), "packages/nb201/src/nb201/micro.parquet must ship with the package"
    return load_ground_truth(SPACE)


def test_shipped_table_is_whole(shipped: Table) -> None:
    """Every architecture of the space once, 3 seeds, validation and test, validation at half budget, none missing."""
    assert shipped.space == "nb201"
    assert sorted(shipped.archs) == sorted(SPACE.encode(arch) for arch in SPACE)
    assert len(shipped) == 15284
    epochs = MICRO.standalone.epochs
    for split, budget in (("valid", epochs), ("test", epochs), ("valid", epochs // 2)):
        values = shipped.seeds(MICRO.dataset, split, budget)
        assert values.shape == (len(shipped), 3)
        assert np.isfinite(values).mean() > 0.99
        assert values[np.isfinite(values)].min() >= 0
        assert values[np.isfinite(values)].max() <= 100
    full, half = (np.nanmean(shipped.mean(MICRO.dataset, "valid", budget)) for budget in (epochs, epochs // 2))
    assert full > half


def test_shipped_table_is_of_this_recipe(shipped: Table) -> None:
    """Its provenance names the recipe that the package has now, and its counts are those of its networks."""
    assert json.loads(shipped.about["recipe"]) == json.loads(json.dumps(MICRO.standalone_identity()))
    assert shipped.parameters is not None
    for row in range(0, len(shipped), 97):
        network = SPACE.network(SPACE.decode(shipped.archs[row]), MICRO)
        assert shipped.parameters[row] == sum(p.numel() for p in network.parameters())


def test_shipped_table_can_be_trusted(shipped: Table) -> None:
    """Spearman-Brown reliability of the three seeds' mean, test accuracy: 0.893."""
    seeds = shipped.seeds(MICRO.dataset, "test")
    ceiling = noise_ceiling(seeds[np.isfinite(seeds).all(1)])
    assert ceiling is not None
    assert ceiling.reliability >= 0.88


def test_shipped_rows_are_what_training_gives(shipped: Table) -> None:
    """Rows trained again, of each of those who made the table: to the last image where processor and torch are
    theirs; elsewhere within 3 points, and after one of the two epochs as near as two seeds are (all within 45).

    The table's numbers are float32, and another instruction set or torch rounds differently: at the highest
    learning rate that grows to as much as another seed makes, at the end it is gone. Each maker went on in the
    order of the sample where the one before it had stopped.
    """
    torch.set_num_threads(1)
    here = environment()
    splits = SPACE.load_data(MICRO, torch.device("cpu"))
    epochs = MICRO.standalone.epochs
    first: dict[str, int] = {}  # of those that are the same function, the first was trained, for all
    for row, name in enumerate(shipped.archs):
        first.setdefault(SPACE.training_key(SPACE.decode(name)), row)
    trained_rows = list(first.values())
    assert shipped.parameters is not None
    for maker in [*json.loads(shipped.about.get("taken over", "[]")), shipped.about]:
        made_in = json.loads(maker["environment"])
        same = all(here[name] == made_in[name] for name in ("torch", "processor", "cpu"))
        count = int(maker["seconds"].split(" in all of ")[1].split()[0]) // 3  # of three seeds each
        rows, trained_rows = trained_rows[:count], trained_rows[count:]
        rows.sort(key=lambda row: shipped.parameters[row])
        for row in (rows[len(rows) // 4], rows[len(rows) // 2]):
            trained = train_architecture(SPACE, shipped.archs[row], MICRO, seed=0, device="cpu", splits=splits)
            for split, budget, value, near in (
                ("valid", epochs, trained.valid, 3.0),
                ("test", epochs, trained.test, 3.0),
                ("valid", epochs // 2, trained.half_valid, 45.0),
            ):
                expected = float(shipped.seeds(MICRO.dataset, split, budget)[row, 0])
                assert value == pytest.approx(expected, abs=1e-3 if same else near), (shipped.archs[row], split, budget)
    assert not trained_rows  # all accounted for
