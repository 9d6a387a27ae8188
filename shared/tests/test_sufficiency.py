"""The rule for sufficient trainings, and the tables it is computed from."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from wsnas import WsnasError
from wsnas.metrics import Interval
from wsnas.sufficiency import LEAST, Sufficiency, sufficiency
from wsnas.table import Column, Table, join

N = 80


def table(gain: float, noise: float, doubled_noise: float = 0.5, n: int = N) -> Table:
    """Accuracies around 90 %, two seeds of 10 epochs and one of 20 of the first ``n`` architectures."""
    rng = np.random.default_rng(0)
    true = rng.normal(90, 2, N)
    double = true + gain + rng.normal(0, doubled_noise, N)
    double[n:] = np.nan
    columns = {
        Column("digits", "test", 10, 0): true + rng.normal(0, noise, N),
        Column("digits", "test", 10, 1): true + rng.normal(0, noise, N),
        Column("digits", "test", 20, 0): double,
    }
    return Table("toy", tuple(f"a{i}" for i in range(N)), columns, about={"epochs": "10"})


def test_twice_the_epochs_that_change_neither_order_nor_level() -> None:
    (found,) = sufficiency(table(0.5, 0.5), "digits", "accuracy")
    assert (found.epochs, found.n, found.holds) == (10, N, True)
    columns = table(0.5, 0.5).columns
    first, second, double = (columns[Column("digits", "test", *key)] for key in ((10, 0), (10, 1), (20, 0)))
    assert found.doubled.value == pytest.approx(stats.spearmanr(double, second).statistic)
    assert found.seeds.value == pytest.approx(stats.spearmanr(first, second).statistic)
    assert found.gain == pytest.approx((double - first).mean())


def test_twice_the_epochs_are_compared_with_another_seed() -> None:
    """Whichever seed was doubled: here those of one seed are equal, as if twice the epochs had changed nothing."""
    whole = table(0.5, 0.5)
    one, other = (whole.columns[Column("digits", "test", 10, seed)] for seed in (0, 1))
    for seed, doubled in ((0, one), (1, other)):
        columns = {
            Column("digits", "test", *key): x for key, x in (((10, 0), one), ((10, 1), other), ((20, seed), doubled))
        }
        (found,) = sufficiency(Table("toy", whole.archs, columns), "digits", "accuracy")
        assert found.doubled.value == found.seeds.value == pytest.approx(stats.spearmanr(one, other).statistic)
        assert found.gain == 0
    columns = {column._replace(seed=column.seed if column.epochs == 10 else None): x for column, x in columns.items()}
    assert sufficiency(Table("toy", whole.archs, columns), "digits", "accuracy") == []  # a mean over unknown seeds


def test_every_pair_of_seeds_counts() -> None:
    """Three seeds of 10 epochs, two of 20, and one more of each of a tenth of the architectures, which is left out."""
    rng = np.random.default_rng(1)
    true = rng.normal(90, 2, N)
    ten, twenty = ([true + level + rng.normal(0, 1, N) for _ in range(count)] for level, count in ((0, 3), (0.5, 2)))
    few = np.where(np.arange(N) < N // 10, 90.0, np.nan)
    columns = {Column("digits", "test", 10, seed): values for seed, values in enumerate([*ten, few])}
    columns |= {Column("digits", "test", 20, seed): values for seed, values in enumerate([*twenty, few])}
    (found,) = sufficiency(Table("toy", tuple(f"a{i}" for i in range(N)), columns), "digits", "accuracy")

    def mean(pairs: list[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> float:
        return float(np.mean([stats.spearmanr(a, b).statistic for a, b in pairs]))

    assert found.n == N
    assert found.seeds.value == pytest.approx(mean([(ten[0], ten[1]), (ten[0], ten[2]), (ten[1], ten[2])]))
    others = [(twenty[0], ten[1]), (twenty[0], ten[2]), (twenty[1], ten[0]), (twenty[1], ten[2])]
    assert found.doubled.value == pytest.approx(mean(others))
    assert found.gain == pytest.approx(np.mean(twenty) - np.mean(ten[:2]))
    assert found.seeds.low < found.seeds.value < found.seeds.high


def test_a_level_that_still_rises_is_not_sufficient() -> None:
    (found,) = sufficiency(table(1.5, 0.5), "digits", "accuracy")
    assert found.holds is False


def test_an_order_that_still_changes_is_not_sufficient() -> None:
    (found,) = sufficiency(table(0.0, 0.5, doubled_noise=4.0), "digits", "accuracy")
    assert found.holds is False


def test_perplexity_is_measured_in_percent_and_lower_is_better() -> None:
    """Perplexities that fall by 1.5 of 90 have gained 1.7 %; those that fall by 2 have gained 2.2 %."""
    for fall, holds in ((1.5, True), (2.0, False)):
        (found,) = sufficiency(table(-fall, 0.5), "digits", "perplexity")
        assert found.gain == pytest.approx(100 * fall / 90, abs=0.2)
        assert found.holds is holds


def test_few_architectures_decide_nothing() -> None:
    (found,) = sufficiency(table(0.5, 0.5, n=LEAST - 1), "digits", "accuracy")
    assert found.holds is None
    assert "undecided" in str(found)


def test_without_trainings_twice_as_long_there_is_no_rule() -> None:
    whole = table(0.5, 0.5)
    short = {column: values for column, values in whole.columns.items() if column.epochs == 10}
    assert sufficiency(Table("toy", whole.archs, short), "digits", "accuracy") == []


def test_the_named_length_counts_not_the_longest() -> None:
    """Trainings of 20 epochs only test the 10 that the table names; without a name the longest count."""
    whole = table(0.5, 0.5)
    np.testing.assert_array_equal(whole.seeds("digits", "test")[:, 0], whole.columns[Column("digits", "test", 10, 0)])
    unnamed = Table("toy", whole.archs, whole.columns)
    assert unnamed.length("digits", "test") == 20


def test_joined_tables_hold_what_each_holds() -> None:
    one = Table(
        "toy",
        ("a", "b"),
        {Column("digits", "test", 10, 0): np.array([1.0, np.nan])},
        parameters=np.array([5, 6]),
        failed=np.array([False, True]),
        about={"epochs": "10", "recipe": "{}"},
    )
    other = Table(
        "toy",
        ("b", "c"),
        {Column("digits", "test", 10, 0): np.array([2.0, 3.0]), Column("digits", "test", 2, 0): np.array([4.0, 5.0])},
        parameters=np.array([6, 7]),
        about={"epochs": "2", "recipe": "{}", "10 epochs": '{"recipe": "{}"}'},
    )
    joined = join([one, other])
    assert joined.archs == ("a", "b", "c")
    np.testing.assert_array_equal(joined.columns[Column("digits", "test", 10, 0)], [1, 2, 3])
    np.testing.assert_array_equal(joined.columns[Column("digits", "test", 2, 0)], [np.nan, 4, 5])
    assert joined.parameters is not None
    assert joined.parameters.tolist() == [5, 6, 7]
    assert joined.failed is not None
    assert joined.failed.tolist() == [False, True, False]
    assert joined.about["epochs"] == "10"
    assert joined.about["2 epochs"] == '{"epochs": "2", "recipe": "{}"}'


def test_validation_halfway_through_a_training_is_not_that_of_a_shorter_one() -> None:
    def trained(archs: tuple[str, ...], epochs: int, valid: float, half: float) -> Table:
        names = {("valid", epochs): valid, ("test", epochs): valid, ("valid", epochs // 2): half}
        columns = {Column("digits", split, e, 0): np.full(len(archs), v) for (split, e), v in names.items()}
        return Table("toy", archs, columns, about={"epochs": str(epochs)})

    joined = join([trained(("a",), 10, 90.0, 80.0), trained(("a", "b"), 20, 91.0, 70.0)])
    np.testing.assert_array_equal(joined.columns[Column("digits", "valid", 10, 0)], [90.0, np.nan])
    np.testing.assert_array_equal(joined.columns[Column("digits", "valid", 20, 0)], [91.0, 91.0])
    np.testing.assert_array_equal(joined.columns[Column("digits", "valid", 5, 0)], [80.0, np.nan])
    shorter = join([trained(("a",), 3, 90.0, 80.0), trained(("a",), 1, 85.0, 70.0)])
    assert shorter.columns[Column("digits", "valid", 1, 0)] == [85.0]
    assert shorter.about_length(1) == {"epochs": "1"}


def test_tables_of_other_networks_or_spaces_are_not_joined() -> None:
    one = Table("toy", ("a",), {Column("digits", "test", 10, 0): np.array([1.0])}, parameters=np.array([5]))
    with pytest.raises(WsnasError, match="different parameters"):
        join([one, Table("toy", ("a",), {}, parameters=np.array([6]))])
    with pytest.raises(WsnasError, match="toy and other"):
        join([one, Table("other", ("a",), {})])


def test_trainings_of_one_length_by_different_recipes_are_not_joined() -> None:
    """Also where the first table got one of them by an earlier join, or where one does not name its recipe."""

    def trained(epochs: int, **recipe: str) -> Table:
        column = Column("digits", "test", epochs, 0)
        return Table("toy", ("a",), {column: np.array([1.0])}, about={"epochs": str(epochs), **recipe})

    ten, twenty = trained(10, recipe="lr 0.1"), trained(20, recipe="lr 0.1")
    both = join([ten, twenty])
    for tables in ([ten, trained(10, recipe="lr 0.2")], [both, trained(20, recipe="lr 0.2")]):
        with pytest.raises(WsnasError, match="0 epochs by different recipes"):
            join(tables)
    with pytest.raises(WsnasError, match="20 epochs of which only some say by which recipe"):
        join([both, trained(20)])
    assert len(join([both, twenty]).columns) == 2


def test_a_size_that_one_table_does_not_know_is_the_others() -> None:
    def sized(parameters: list[int], macs: list[float]) -> Table:
        scores = {Column("digits", "test", 10, 0): np.array([1.0, 2.0])}
        return Table("toy", ("a", "b"), scores, parameters=np.array(parameters), macs=np.array(macs))

    some, others = sized([5, -1], [np.nan, 1.5]), sized([-1, 6], [0.5, np.nan])
    for joined in (join([some, others]), join([others, some])):
        assert joined.parameters is not None
        assert joined.parameters.tolist() == [5, 6]
        assert joined.macs is not None
        assert joined.macs.tolist() == [0.5, 1.5]
    with pytest.raises(WsnasError, match="different macs"):
        join([some, sized([5, 6], [0.5, 2.5])])


@pytest.mark.parametrize(
    ("doubled", "gain", "metric", "n", "holds"),
    [
        ((0.84, 0.8, 0.88), 0.9, "accuracy", LEAST, True),  # below the agreement of seeds, but not its interval
        ((0.81, 0.77, 0.85), 0.9, "accuracy", LEAST, False),  # whatever its own interval holds
        ((0.84, 0.8, 0.88), 1.1, "accuracy", LEAST, False),
        ((0.84, 0.8, 0.88), -5.0, "accuracy", LEAST, True),  # longer trainings that overfit are no reason for more
        ((0.84, 0.8, 0.88), 1.9, "perplexity", LEAST, True),
        ((0.84, 0.8, 0.88), 2.1, "perplexity", LEAST, False),
        ((0.84, 0.8, 0.88), 0.9, "accuracy", LEAST - 1, None),
    ],
)
def test_the_rule_by_hand(doubled: tuple[float, ...], gain: float, metric: str, n: int, holds: bool | None) -> None:
    """Two seeds agree at 0.86 [0.82, 0.90]."""
    found = Sufficiency(10, n, Interval(*doubled, n), Interval(0.86, 0.82, 0.9, n), 90.0, 90.0 + gain, gain, metric)
    assert found.holds is holds


def test_the_level_is_compared_in_the_seeds_that_were_trained_for_both_lengths() -> None:
    """A seed of twice the epochs that ten epochs do not have, and that was lucky, is no gain."""
    rng = np.random.default_rng(2)
    true = rng.normal(90, 2, N)
    columns = {Column("digits", "test", 10, seed): true + rng.normal(0, 1, N) for seed in (0, 1)}
    columns |= {Column("digits", "test", 20, seed): true + level for seed, level in ((0, 0.5), (2, 5.0))}
    (found,) = sufficiency(Table("toy", tuple(map(str, range(N))), columns), "digits", "accuracy")
    first = columns[Column("digits", "test", 10, 0)]
    assert found.gain == pytest.approx((true + 0.5).mean() - first.mean())


def test_the_second_seed_may_be_that_of_fewer_architectures() -> None:
    rng = np.random.default_rng(3)
    true = rng.normal(90, 2, N)
    columns = {Column("digits", "test", *key): true + rng.normal(0, 1, N) for key in ((10, 0), (10, 1), (20, 0))}
    columns[Column("digits", "test", 10, 1)][LEAST:] = np.nan
    (found,) = sufficiency(Table("toy", tuple(map(str, range(N))), columns), "digits", "accuracy")
    assert (found.n, found.holds) == (LEAST, True)
