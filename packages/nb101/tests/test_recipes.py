"""The recipes against the numbers as they are printed, and the ground truth that ships with the package."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats
from torch import nn

from nb101 import SPACE
from nb101.isomorphism import index
from nb101.space import dags
from wsnas.agreement import load_ground_truth
from wsnas.data.images import steps_of
from wsnas.data.sources import shape_of
from wsnas.metrics import noise_ceiling, spearman
from wsnas.recipe import recipe_fields
from wsnas.table import Table
from wsnas.training import learning_rate, optimizer_of

PAPER = SPACE.recipes["paper"]
MICRO = SPACE.recipes["micro"]


def test_supernet_recipe_beside_table_2() -> None:
    """A.1: 40k images for training, 10k for validation; the benchmark's skeleton."""
    assert (PAPER.dataset, PAPER.train_size) == ("cifar10", 40_000)
    assert (PAPER.channels, PAPER.cells) == (128, 3)


def test_standalone_recipe_does_nothing_that_the_benchmark_does_not() -> None:
    """Ying et al. (2019), section 2.3 and the released configuration: beside the steps below, flip and crop 4."""
    steps = {"optimizer", "epochs", "lr", "schedule", "momentum", "alpha", "eps", "weight_decay"}
    used = {name: one.value for name, one in recipe_fields(PAPER.standalone).items() if one.value and name not in steps}
    assert used == {"batch": 256, "flip": True, "crop": 4, "last_batch": "carry"}
    assert PAPER.bn_momentum == pytest.approx(1 - 0.997)  # TensorFlow counts what is kept


def test_standalone_training_has_the_benchmarks_steps() -> None:
    """evaluate.py: train_steps = int(train_epochs * num_train_images / batch_size); cifar.py: all batches are whole."""
    assert sum(steps_of(40_000, PAPER.standalone, epoch) for epoch in range(108)) == int(108 * 40_000 / 256) == 16_875
    assert {steps_of(40_000, PAPER.standalone, epoch) for epoch in range(108)} == {156, 157}


def test_standalone_optimizer_by_hand() -> None:
    """Three steps of TensorFlow's RMSProp on one weight: ms = 0.9 ms + 0.1 g^2 from 1, m = 0.9 m + lr g / sqrt(ms + 1),
    w = w - m, with g the loss's gradient and that of L2; batch norms decay, too.
    """
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1, affine=True))
    linear, norm = model[0].weight, model[1].weight
    nn.init.constant_(linear, 0.5)
    optimizer = optimizer_of(model, PAPER.standalone)
    w, ms, m = 0.5, 1.0, 0.0
    before = float(norm.detach())
    for step in range(3):
        lr = learning_rate(PAPER.standalone, 0, step, 156)
        assert lr == pytest.approx(0.1 * (1 + math.cos(math.pi * step / (108 * 156))))
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        (3.0 * linear.sum() + 0.0 * norm.sum()).backward()
        optimizer.step()
        g = 3.0 + 1e-4 * w
        ms = 0.9 * ms + 0.1 * g * g
        m = 0.9 * m + lr * g / math.sqrt(ms + 1.0)
        w -= m
        assert float(linear.detach()) == pytest.approx(w, rel=1e-5)
    assert float(norm.detach()) < before


@pytest.mark.parametrize(
    ("dataset", "classes", "inputs"), [("cifar10", 10, 3), ("cifar100", 100, 3), ("digits", 10, 1)]
)
def test_the_number_of_classes_follows_the_data_set(dataset: str, classes: int, inputs: int) -> None:
    recipe = dataclasses.replace(PAPER, dataset=dataset, channels=4, cells=1)
    one = next(iter(SPACE))
    for network in (SPACE.network(one, recipe), SPACE.supernet(recipe)):
        assert network.classifier.out_features == classes
        assert network.stem.conv.in_channels == inputs
    assert shape_of(dataset)[:2] == (classes, inputs)


# the shipped ground truth ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> Table:
    return load_ground_truth(SPACE)


def test_shipped_table_has_enough_cells(shipped: Table) -> None:
    """2,000 distinct cells or more, 150 of them trained sufficiently, 3 seeds."""
    assert len({SPACE.canonical(SPACE.decode(arch)) for arch in shipped.archs}) >= 2000
    assert shipped.have_results().sum() >= 150
    assert shipped.seeds(MICRO.dataset, "test").shape[1] == 3


def test_shipped_table_is_a_sample_of_the_space(shipped: Table) -> None:
    """Graphs and operations as often as in the whole space: chi-square. Those trained sufficiently are its first."""
    drawn = np.array([index(SPACE.decode(name)) for name in shipped.archs])
    places = drawn % 243
    for vertex in range(5):
        assert stats.chisquare(np.bincount(places // 3**vertex % 3)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(drawn // 243, minlength=len(dags()))).pvalue > 1e-3
    results = shipped.have_results()
    assert results[: results.sum()].all()


def test_shipped_table_can_be_trusted(shipped: Table) -> None:
    """Spearman-Brown reliability of the seeds' mean, test accuracy."""
    seeds = shipped.seeds(MICRO.dataset, "test")
    ceiling = noise_ceiling(seeds[np.isfinite(seeds).all(1)])
    assert ceiling is not None
    assert ceiling.reliability >= 0.9


def test_isomorphic_cells_of_the_table_share_a_training(shipped: Table) -> None:
    """Of so many cells some are isomorphic; trained once, they have one row's numbers."""
    first: dict[str, int] = {}
    values = shipped.mean(MICRO.dataset, "test", 2)
    shared = 0
    for row, arch in enumerate(shipped.archs):
        other = first.setdefault(SPACE.training_key(SPACE.decode(arch)), row)
        shared += other != row
        assert values[other] == values[row]
    assert shared > 0


def test_larger_cells_are_better_on_the_whole(shipped: Table) -> None:
    """The parameter count ranks the real benchmark at 0.67; the micro one is like it in this."""
    assert shipped.parameters is not None
    values = shipped.mean(MICRO.dataset, "test")
    known = np.isfinite(values)
    assert spearman(shipped.parameters[known], values[known]) > 0.4
