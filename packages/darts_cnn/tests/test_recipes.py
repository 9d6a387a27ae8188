"""The recipes against the numbers as they are printed, and the ground truth that ships with the package."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from darts_cnn import SPACE
from darts_cnn.recipes import MICRO, PAPER, PUBLISHED
from darts_cnn.space import OPS
from wsnas.agreement import load_ground_truth
from wsnas.data.images import steps_of
from wsnas.data.sources import shape_of
from wsnas.errors import WsnasError
from wsnas.executor import Executor
from wsnas.ground_truth import train_many
from wsnas.metrics import noise_ceiling
from wsnas.randomness import numpy_rng
from wsnas.recipe import change_recipe, recipe_fields
from wsnas.sampling import sample_distinct
from wsnas.standalone import train_architecture
from wsnas.supernet import train_supernet
from wsnas.table import Table


def test_supernet_recipe_beside_table_2() -> None:
    assert PAPER.dataset == "cifar10"
    assert PAPER.supernet.auxiliary == PAPER.supernet.drop_path == PAPER.supernet.inputs.cutout == 0
    assert PAPER.supernet.batch % 4 == 0  # GPUs


def test_standalone_recipe_does_nothing_that_darts_does_not() -> None:
    """Liu et al. (2019), A.2.1, and the paper's batch of 96; the steps are in tests/test_paper_recipes.py."""
    steps = {"optimizer", "epochs", "lr", "schedule", "momentum", "weight_decay"}
    used = {name: one.value for name, one in recipe_fields(PAPER.standalone).items() if one.value and name not in steps}
    inputs = {"flip": True, "crop": 4, "cutout": 16, "last_batch": "keep"}
    assert used == {"batch": 96, "clip": 5.0, **inputs, "auxiliary": 0.4, "drop_path": 0.2}
    assert (PAPER.channels, PAPER.cells, PAPER.auxiliary_head) == (36, 20, True)


def test_the_published_accuracies_come_from_all_images() -> None:
    """train.py of DARTS: CIFAR10(train=True), all 50,000, in a loader that drops nothing; else as the paper's."""
    assert PUBLISHED.train_size == 50_000
    theirs = len(torch.utils.data.DataLoader(range(50_000), batch_size=96))  # type: ignore[arg-type]
    assert {steps_of(50_000, PUBLISHED.standalone, epoch) for epoch in range(600)} == {theirs}
    assert dataclasses.replace(PUBLISHED, train_size=PAPER.train_size) == PAPER
    assert PUBLISHED.standalone_identity() != PAPER.standalone_identity()


@pytest.mark.parametrize(("dataset", "classes", "inputs", "side"), [("cifar10", 10, 3, 32), ("cifar100", 100, 3, 32)])
def test_the_number_of_classes_follows_the_data_set(dataset: str, classes: int, inputs: int, side: int) -> None:
    recipe = dataclasses.replace(PAPER, dataset=dataset, channels=4, cells=3)
    for network in (SPACE.network(next(iter(SPACE)), recipe), SPACE.supernet(recipe)):
        assert network.classifier.out_features == network.auxiliary.classifier.out_features == classes
        assert network.stem.conv.in_channels == inputs
    assert shape_of(dataset) == (classes, inputs, side, side)


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Drop-path and auxiliary loss draw from (seed, step): a supernet stopped at step 5 of 8 ends as if it was not."""
    torch.set_num_threads(1)
    training = dataclasses.replace(MICRO.supernet, epochs=2, batch=64, drop_path=0.5, auxiliary=0.4)
    recipe = dataclasses.replace(MICRO, channels=2, cells=2, train_size=256, auxiliary_head=True, supernet=training)
    splits = SPACE.load_data(recipe, torch.device("cpu"))

    def stop(done: int, total: int, note: str) -> None:
        assert total == 8
        if done == 5:
            raise KeyboardInterrupt

    whole = train_supernet(SPACE, recipe, out=tmp_path / "whole", device="cpu", splits=splits)
    common = {"out": tmp_path / "parts", "device": "cpu", "splits": splits}
    with pytest.raises(KeyboardInterrupt):
        train_supernet(SPACE, recipe, **common, checkpoint_seconds=0, report=stop)  # type: ignore[arg-type]
    parts = train_supernet(SPACE, recipe, **common)  # type: ignore[arg-type]
    weights = parts.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in whole.model.state_dict().items())
    assert whole.run.metrics() == parts.run.metrics()


def test_an_auxiliary_loss_without_a_head_leaves_no_directory(tmp_path: Path) -> None:
    """For the supernet only the supernet's training counts, for a network only its own."""
    recipe = dataclasses.replace(MICRO, channels=2, cells=2, train_size=256)
    recipe = change_recipe(recipe, epochs=1, batch=128, **{"standalone.epochs": 1})
    splits = SPACE.load_data(recipe, torch.device("cpu"))
    one = next(iter(SPACE))
    said = "add --auxiliary-head"
    with pytest.raises(WsnasError, match=said):
        train_supernet(SPACE, change_recipe(recipe, auxiliary=0.4), out=tmp_path / "net", splits=splits)
    alone = change_recipe(recipe, **{"standalone.auxiliary": 0.4})
    with pytest.raises(WsnasError, match=said):
        train_architecture(SPACE, one, alone, out=tmp_path / "alone", splits=splits)
    with pytest.raises(WsnasError, match=said):
        train_many(SPACE, [one], tmp_path / "truth", alone, executor=Executor(workers=0))
    assert not list(tmp_path.iterdir())
    assert train_supernet(SPACE, alone, out=tmp_path / "net", device="cpu", splits=splits).step == 2


# the shipped ground truth ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> Table:
    return load_ground_truth(SPACE)


def test_shipped_table_is_the_uniform_sample(shipped: Table) -> None:
    """The architectures that the seed of ``wsnas ground-truth`` draws, not some chosen later."""
    drawn = sample_distinct(SPACE, len(shipped), numpy_rng(0, "ground truth"))
    assert shipped.archs == tuple(SPACE.encode(one) for one in drawn)
    ops = np.array([[op for node in (*one.normal, *one.reduce) for op, _ in node] for one in drawn])
    assert np.bincount(ops.reshape(-1), minlength=len(OPS)).min() > 0


def test_shipped_table_can_be_trusted(shipped: Table) -> None:
    """Spearman-Brown reliability of the seeds' mean, test accuracy."""
    ceiling = noise_ceiling(shipped.seeds(MICRO.dataset, "test"))
    assert ceiling is not None
    assert ceiling.reliability >= 0.8
