"""The recipes against the numbers as they are printed, and the ground truth that ships with the package."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from darts_rnn import SPACE
from darts_rnn.space import ACTIVATIONS, NODES
from wsnas.agreement import load_ground_truth
from wsnas.errors import WsnasError
from wsnas.metrics import noise_ceiling
from wsnas.recipe import recipe_fields
from wsnas.table import Table

PAPER, MICRO = SPACE.recipes["paper"], SPACE.recipes["micro"]


def test_stand_alone_recipe_does_nothing_that_darts_does_not() -> None:
    """Liu et al. (2019), A.2.2 and the released train.py: beside the steps, which tests/test_paper_recipes.py takes."""
    steps = {"optimizer", "epochs", "lr", "schedule", "momentum", "weight_decay"}
    used = {name: one.value for name, one in recipe_fields(PAPER.standalone).items() if one.value and name not in steps}
    assert used == {"batch": 64, "clip": 0.25, "bptt": 35, "patience": 5}  # averaged by the non-monotone rule
    drops = (PAPER.dropout, PAPER.dropout_hidden, PAPER.dropout_input, PAPER.dropout_embedding, PAPER.dropout_words)
    assert drops == (0.75, 0.25, 0.75, 0.2, 0.1)
    assert (PAPER.units, PAPER.slowness) == (850, 1e-3)
    assert (PAPER.valid_streams, PAPER.test_streams) == (10, 1)
    assert (PAPER.train_size, PAPER.vocabulary, PAPER.valid_size) == (None, None, None)


def test_the_cell_has_most_of_the_micro_networks_work() -> None:
    one = next(iter(SPACE))
    decoder = MICRO.vocabulary * MICRO.units
    assert SPACE.macs(one, MICRO) - decoder > decoder


# the shipped ground truth ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> Table:
    return load_ground_truth(SPACE)


def test_shipped_table_has_enough_cells(shipped: Table) -> None:
    """200 or more, 60 of them trained sufficiently, which predict better than a guess among 500 words."""
    assert len(shipped) >= 200
    assert shipped.have_results().sum() >= 60
    assert 1 < np.nanmin(shipped.seeds(MICRO.dataset, "test")) < 500


def test_shipped_table_is_a_sample_of_the_space(shipped: Table) -> None:
    """Each activation and each predecessor about as often as in the whole space: within 5 standard errors."""
    drawn = np.array([SPACE.decode(name).nodes for name in shipped.archs])
    for node in range(NODES):
        for values, choices in ((drawn[:, node, 0], len(ACTIVATIONS)), (drawn[:, node, 1], node + 1)):
            share, found = 1 / choices, np.bincount(values, minlength=choices) / len(drawn)
            assert (np.abs(found - share) <= 5 * np.sqrt(share * (1 - share) / len(drawn))).all()


def test_shipped_table_can_be_trusted(shipped: Table) -> None:
    """Spearman-Brown reliability of the mean over seeds, test perplexity. After longer trainings cells differ less."""
    seeds = shipped.seeds(MICRO.dataset, "test")
    ceiling = noise_ceiling(seeds[np.isfinite(seeds).all(1)])
    assert ceiling is not None
    assert ceiling.reliability >= 0.6
    shorter = noise_ceiling(shipped.common_seeds(MICRO.dataset, "test", 8))
    assert shorter is not None
    assert shorter.reliability >= 0.85


# tables ------------------------------------------------------------------------------------------------------


def test_a_table_is_read_and_checked(tmp_path: Path) -> None:
    """Both spellings of a genotype, as CSV and as Parquet; the same cell twice and what is no cell are refused."""
    one, two = (SPACE.encode(SPACE.sample(np.random.default_rng(seed))) for seed in range(2))
    other_spelling = f"Genotype(recurrent={two}, concat=range(1, 9))"

    def write(*archs: str) -> Path:
        with (tmp_path / "t.csv").open("w", newline="") as file:
            csv.writer(file).writerows(
                [("architecture", "ptb_test_8000"), *((arch, 60 + i) for i, arch in enumerate(archs))]
            )
        return tmp_path / "t.csv"

    table = SPACE.import_table(write(one, other_spelling))
    assert table.archs == (one, two)
    assert table.mean("ptb", "test").tolist() == [60, 61]
    table.save(tmp_path / "t.parquet")
    assert SPACE.import_table(tmp_path / "t.parquet").archs == (one, two)
    with pytest.raises(WsnasError, match="twice"):
        SPACE.import_table(write(one, two, other_spelling))
    with pytest.raises(WsnasError, match="'garbage' is not a genotype"):
        SPACE.import_table(write(one, "garbage"))
    dataclasses.replace(table, space="nb201").save(tmp_path / "other.parquet")
    with pytest.raises(WsnasError, match="of the space nb201"):
        SPACE.import_table(tmp_path / "other.parquet")
    (tmp_path / "t.txt").write_text("x")
    for name, reason in (("t.txt", "cannot read"), ("none.csv", "there is no")):
        with pytest.raises(WsnasError, match=reason):
            SPACE.import_table(tmp_path / name)
