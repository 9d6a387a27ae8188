"""Rank metrics against scipy, brute force and hand computation."""

from __future__ import annotations

import itertools
import math
import os
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import ndcg_score

from wsnas import metrics
from wsnas.errors import WsnasError
from wsnas.metrics import (
    Measures,
    PerSupernet,
    any_judge,
    ceiling_interval,
    chance_of,
    contrast,
    correlation,
    correlation_matrix,
    correlation_over,
    group_difference,
    halves,
    mean_score,
    measures,
    mutual_agreement,
    noise_ceiling,
    partial_agreement,
    pruned_ceiling,
    random_top_k,
    random_top_k_range,
    rank_agreement,
    resampled,
    search_gain,
    spearman,
    top_k,
    top_k_advantage,
    without_noise,
)

DATA = Path(os.environ.get("WSNAS_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30))
def test_spearman_is_scipys_also_with_ties(pairs: list[tuple[int, int]]) -> None:
    x, y = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert spearman(x, y) == 0.0  # scipy says NaN: no order to agree with
    else:
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_spearman_of_a_perfect_and_a_reversed_order() -> None:
    x = np.array([0.1, 5.0, 5.1, 1e6])
    assert spearman(x, np.exp(-x / 1e6)) == pytest.approx(-1)
    assert spearman(x, x**3) == pytest.approx(1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    good = np.arange(10.0)
    spoiled = np.where(good == 4, bad, good)
    for x, y in ((good, spoiled), (spoiled, good)):
        with pytest.raises(WsnasError, match="finite"):
            spearman(x, y)
        with pytest.raises(WsnasError, match="finite"):
            correlation(x, y)


@pytest.mark.parametrize(("x", "y"), [([1, 2, 3], [1, 2]), ([[1, 2]], [[1, 2]]), ([1], [1]), ([], [])])
def test_lists_that_cannot_be_ranked_are_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(WsnasError):
        spearman(x, y)


def gaussian_pair(rng: np.random.Generator, n: int, rho: float) -> np.ndarray:
    return rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], n).T


def test_the_interval_covers_the_true_correlation_about_as_often_as_it_says() -> None:
    """Pearson rho of a Gaussian pair has Spearman 6/pi asin(rho/2): a truth the bootstrap does not know."""
    rng, rho, trials = np.random.default_rng(1), 0.6, 150
    truth = 6 / np.pi * np.arcsin(rho / 2)
    found = [correlation(*gaussian_pair(rng, 120, rho), resamples=400) for _ in range(trials)]
    covered = sum(interval.low <= truth <= interval.high for interval in found)
    low, high = stats.binom.ppf([1e-4, 1 - 1e-4], trials, 0.95)
    assert low - 3 <= covered <= high  # a percentile interval covers a little less than it says
    assert np.mean([i.value for i in found]) == pytest.approx(truth, abs=0.02)
    assert all(interval.n == 120 for interval in found)


def test_the_interval_narrows_with_the_square_root_of_the_sample() -> None:
    rng = np.random.default_rng(2)
    widths = [(i := correlation(*gaussian_pair(rng, n, 0.5))).high - i.low for n in (100, 1600)]
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.35)


def test_the_interval_is_the_same_every_time_and_another_with_another_seed() -> None:
    pair = gaussian_pair(np.random.default_rng(3), 40, 0.3)
    assert correlation(*pair, seed=5) == correlation(*pair, seed=5)
    assert correlation(*pair, seed=5) != correlation(*pair, seed=6)


def test_an_interval_without_information() -> None:
    constant = correlation(np.arange(20.0), np.ones(20))
    assert (constant.value, constant.low, constant.high) == (0, 0, 0)
    three = correlation([1, 2, 3], [1, 2, 3])
    assert (three.value, three.low, three.high, three.n) == (1, -1, 1, 3)


def test_correlation_matrix() -> None:
    rows = np.random.default_rng(4).normal(size=(4, 25))
    np.testing.assert_allclose(correlation_matrix(rows), stats.spearmanr(rows, axis=1).statistic, atol=1e-12)


def test_top_k_by_hand() -> None:
    score, valid, test = [9, 8, 7, 6, 5], [50, 70, 60, 99, 10], [51, 69, 75, 98, 12]
    # best score: row 0; best two: rows 0, 1, of which row 1 has the best validation; row 3 comes in with k = 4
    assert [top_k(score, valid, test, k) for k in (1, 2, 3, 4, 5)] == [51, 69, 69, 98, 98]
    for k in (0, 6, -1):
        with pytest.raises(WsnasError):
            top_k(score, valid, test, k)
        with pytest.raises(WsnasError):
            random_top_k(valid, test, k)


def brute_force(valid: list[float], test: list[float], k: int) -> float:
    """The mean over every subset of k, and inside a subset over those that tie for the best validation."""
    outcomes = []
    for subset in itertools.combinations(range(len(valid)), k):
        best = max(valid[i] for i in subset)
        outcomes.append(np.mean([test[i] for i in subset if valid[i] == best]))
    return float(np.mean(outcomes))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 100)), min_size=1, max_size=9), st.data())
def test_random_top_k_is_the_mean_over_all_subsets(rows: list[tuple[int, float]], data: st.DataObject) -> None:
    valid, test = (list(side) for side in zip(*rows, strict=True))
    k = data.draw(st.integers(1, len(rows)))
    assert random_top_k(valid, test, k) == pytest.approx(brute_force(valid, test, k), abs=1e-9)


def test_random_top_k_of_many_architectures_stays_exact() -> None:
    """K = 1 is the plain mean, k = n the best; at n = 15,284 factorials overflow and logarithms lose digits."""
    rng = np.random.default_rng(5)
    valid, test = rng.normal(size=15_284), rng.normal(size=15_284)
    assert random_top_k(valid, test, 1) == pytest.approx(test.mean(), abs=1e-8)
    assert random_top_k(valid, test, 15_284) == pytest.approx(test[valid.argmax()], abs=1e-8)
    assert random_top_k(valid, np.ones(15_284), 10) == pytest.approx(1, abs=1e-8)  # the chances sum to 1


def seeds_of(rng: np.random.Generator, n: int, noise: float, seeds: int) -> np.ndarray:
    return rng.normal(size=(n, 1)) + noise * rng.normal(size=(n, seeds))


def test_noise_ceiling_is_spearman_brown_of_the_mean_agreement() -> None:
    truth = seeds_of(np.random.default_rng(6), 400, 0.7, 3)
    pairs = [stats.spearmanr(truth[:, i], truth[:, j]).statistic for i, j in ((0, 1), (0, 2), (1, 2))]
    r = sum(pairs) / 3
    found = noise_ceiling(truth)
    assert found is not None
    assert found.agreement == pytest.approx(r)
    assert found.reliability == pytest.approx(3 * r / (1 + 2 * r))
    assert found.ceiling == pytest.approx((3 * r / (1 + 2 * r)) ** 0.5)
    assert found.seeds == 3


def test_the_interval_of_a_ceiling_holds_the_true_one_about_as_often_as_it_says() -> None:
    """The true ceiling: the correlation of the noise-free quality with the mean of three seeds, of 100,000."""
    rng, samples = np.random.default_rng(12), 60
    quality = rng.normal(size=100_000)
    true = stats.spearmanr(quality, quality + rng.normal(size=(3, 100_000)).mean(0)).statistic
    found = [ceiling_interval(seeds_of(rng, 60, 1, 3)) for _ in range(samples)]
    holds = [one.low <= true <= one.high for one in found if one is not None]
    assert len(holds) == samples
    assert 0.85 * samples <= sum(holds)
    assert any(abs(one.value - true) > 0.02 for one in found if one is not None)  # a narrower one would not hold it
    assert ceiling_interval(np.ones((5, 1))) is None


def test_no_predictor_passes_the_ceiling_and_a_perfect_one_reaches_it() -> None:
    """The perfect predictor is the noise-free quality: its correlation with the mean of the seeds is the ceiling."""
    rng = np.random.default_rng(7)
    quality = rng.normal(size=(6000, 1))
    truth = quality + 0.8 * rng.normal(size=(6000, 4))
    found = noise_ceiling(truth)
    assert found is not None
    assert found.ceiling == pytest.approx(stats.spearmanr(quality[:, 0], truth.mean(1)).statistic, abs=0.01)


def test_a_ceiling_needs_seeds() -> None:
    one, two = np.random.default_rng(8).normal(size=(2, 50, 1))
    assert noise_ceiling(one) is None
    assert noise_ceiling(one[:, 0]) is None
    both = np.hstack([one, two])
    assert noise_ceiling(both) is not None
    assert pruned_ceiling(both, both, 2) is None  # one seed must choose and two others be compared
    alone = pruned_ceiling(both, both, 1)  # but where nothing is chosen, one reports
    assert alone is not None
    assert (alone.seeds, alone.reliability) == (1, max(0.0, stats.spearmanr(*both.T).statistic))
    three = np.hstack([both, one + two])
    assert pruned_ceiling(three, three, 16) is None  # 3 architectures left


def test_seeds_that_disagree_have_no_reliability() -> None:
    found = noise_ceiling(np.array([[1.0, 4], [2, 3], [3, 2], [4, 1]]))
    assert found is not None
    assert (found.agreement, found.reliability, found.ceiling) == (pytest.approx(-1), 0, 0)


def test_pruning_by_a_seed_of_its_own_is_not_biased() -> None:
    """If architectures differ only by luck, the other seeds' agreement among one seed's best is 0.

    Choosing by the mean of the seeds that are compared would make it clearly negative: a good mean with a bad
    first seed needs a good second one.
    """
    luck = np.random.default_rng(9).normal(size=(8000, 3))
    found = pruned_ceiling(luck, luck, 8)
    assert found is not None
    assert abs(found.agreement) < 0.05
    best = np.argsort(-luck.mean(1))[:1000]
    biased = noise_ceiling(luck[best])
    assert biased is not None
    assert biased.agreement < -0.2


def test_pruned_ceiling_averages_over_the_seed_that_chooses() -> None:
    rng = np.random.default_rng(10)
    truth = seeds_of(rng, 64, 0.5, 3)
    valid = truth + 0.1 * rng.normal(size=(64, 3))
    expected = []
    for chooser, i, j in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        best = sorted(range(64), key=lambda row, c=chooser: valid[row, c], reverse=True)[:16]
        expected.append(stats.spearmanr(truth[best, i], truth[best, j]).statistic)
    found = pruned_ceiling(valid, truth, 4)
    assert found is not None
    assert found.agreement == pytest.approx(np.mean(expected))
    r = found.agreement
    assert found.ceiling == pytest.approx((2 * r / (1 + r)) ** 0.5)  # two seeds report
    whole, unpruned = pruned_ceiling(valid, truth, 1), noise_ceiling(truth)
    assert whole is not None
    assert unpruned is not None
    assert whole.agreement == pytest.approx(unpruned.agreement)


@dataclass(frozen=True)
class MadeUp:
    """A table of 100,000 architectures whose quality is known, with a tail of bad ones, as real tables have."""

    quality: np.ndarray  # [n]
    valid: np.ndarray  # [n, 3]; a training's luck is in its validation and test results alike
    test: np.ndarray


@pytest.fixture(scope="module")
def made_up() -> MadeUp:
    rng = np.random.default_rng(15)
    quality = -rng.gamma(3, 1, 100_000)
    luck = rng.normal(0, 0.8, (100_000, 3))
    valid, test = (quality[:, None] + luck + rng.normal(0, 0.2, (100_000, 3)) for _ in range(2))
    return MadeUp(quality, valid, test)


@pytest.mark.parametrize("factor", [1, 8, 32])
def test_the_pruned_ceiling_is_what_quality_itself_reaches(made_up: MadeUp, factor: int) -> None:
    """The best predictor there is, judged as the study judges: one seed chooses, the mean of the others reports."""
    each = []
    for chooser, others in ((0, [1, 2]), (1, [0, 2]), (2, [0, 1])):
        best = np.argsort(-made_up.valid[:, chooser])[: 100_000 // factor]
        each.append(stats.spearmanr(made_up.quality[best], made_up.test[best][:, others].mean(1)).statistic)
    found = pruned_ceiling(made_up.valid, made_up.test, factor)
    assert found is not None
    assert found.ceiling == pytest.approx(np.mean(each), abs=0.03)
    best = np.argsort(-made_up.valid.mean(1))[: 100_000 // factor]  # all seeds choose and report: another design
    reached = stats.spearmanr(made_up.quality[best], made_up.test[best].mean(1)).statistic
    assert factor == 1 or found.ceiling > reached + 0.05


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_any_judge_falls_as_a_worse_training_does(made_up: MadeUp, shared: bool, sign: int) -> None:
    """Quality and much more luck, which knows nothing of the pruning; also where it ranks the wrong way round."""
    report = made_up.test[:, 0 if shared else 1]
    scores = sign * made_up.quality + np.random.default_rng(16).normal(0, 3, (10, 100_000))
    results, fall = (made_up.valid[:, 0], report, made_up.test[:, 2]), []
    for factor in (1, 8, 32):
        best = np.argsort(-made_up.valid[:, 0])[: 100_000 // factor]
        fall.append(np.mean([stats.spearmanr(one[best], report[best]).statistic for one in scores]))
        assert any_judge(*results, fall[0], factor) == pytest.approx(fall[-1], abs=0.002 if factor == 1 else 0.03)
    assert abs(fall[2]) < abs(fall[0]) - 0.2


def test_a_pruned_ceiling_takes_no_seed_for_all_that_only_the_best_have(made_up: MadeUp) -> None:
    """Seeds 1 and 2 trained for seed 0's best 5,000: a ceiling for them, none for the best 20,000 or the whole."""
    valid, test = made_up.valid.copy(), made_up.test.copy()
    rest = np.argsort(-valid[:, 0])[5000:]
    valid[rest, 1:] = test[rest, 1:] = np.nan
    found = pruned_ceiling(valid, test, 20)
    assert found is not None
    best = np.argsort(-valid[:, 0])[:5000]
    assert found.agreement == pytest.approx(stats.spearmanr(test[best, 1], test[best, 2]).statistic)
    assert pruned_ceiling(valid, test, 5) is None
    assert pruned_ceiling(valid, test, 1) is None


def test_the_interval_of_one_supernet_is_that_over_architectures() -> None:
    score, truth = gaussian_pair(np.random.default_rng(11), 150, 0.5)
    found, interval = contrast((1, rank_agreement(score, truth))), correlation(score, truth)
    assert found.value == pytest.approx(interval.value)
    assert (found.low, found.high) == (pytest.approx(interval.low, abs=0.03), pytest.approx(interval.high, abs=0.03))


def per_supernet(each: list[float], drawn: float | np.ndarray = 0.0, freedom: int = 99) -> PerSupernet:
    """Numbers whose bootstrap draws are ``drawn`` [resamples] for every supernet; by default all alike."""
    spread = np.broadcast_to(drawn, (len(each), 2000))
    return PerSupernet(np.array(each), np.array(each)[:, None] + spread, 100, freedom)


def test_without_noise_of_architectures_the_interval_is_students() -> None:
    each = [0.1, 0.4, 0.9]
    found = contrast((1, per_supernet(each)))
    assert (found.low, found.high) == pytest.approx(stats.ttest_1samp(each, 0).confidence_interval())


def test_without_noise_of_architectures_a_difference_is_welchs() -> None:
    one, other = [0.1, 0.4, 0.9], [0.3, 0.35]
    found = contrast((1, per_supernet(one)), (-1, per_supernet(other)))
    assert (found.low, found.high) == pytest.approx(stats.ttest_ind(one, other, equal_var=False).confidence_interval())
    alone = contrast((1, per_supernet([0.2])), (-1, per_supernet(one)))  # of the others' spread: Student's
    half = stats.t.ppf(0.975, 2) * np.std(one, ddof=1) * (1 + 1 / 3) ** 0.5
    assert alone.high - alone.value == pytest.approx(half)


def test_supernets_that_are_alike_leave_the_bootstrap_of_architectures() -> None:
    drawn = np.random.default_rng(12).normal(0, 0.1, 2000)
    found = contrast((1, per_supernet([0.5, 0.5, 0.5], drawn)))
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.975, 99) * drawn.std(ddof=1))
    doubled = contrast((2, per_supernet([0.5, 0.5, 0.5], drawn)))
    assert doubled.high - doubled.low == pytest.approx(2 * (found.high - found.low))
    nothing = contrast((1, per_supernet([0.5, 0.5], drawn)), (-1, per_supernet([0.5, 0.5], drawn)))  # paired
    assert (nothing.low, nothing.high) == (0, 0)


def test_noise_of_a_supernets_own_is_in_both_variances() -> None:
    """If resampling changes each supernet separately, the variance is twice as large as needed, never smaller."""
    rng = np.random.default_rng(13)
    each, drawn = rng.normal(0, 0.1, 400), rng.normal(0, 0.1, (400, 2000))
    found = contrast((1, PerSupernet(each, each[:, None] + drawn, 100, 99)))
    assert found.high - found.value == pytest.approx(1.966 * 2**0.5 * 0.1 / 20, rel=0.12)


def test_resampling_takes_the_same_architectures_for_each_supernet() -> None:
    score, truth = gaussian_pair(np.random.default_rng(12), 60, 0.5)
    one = rank_agreement([score, score], truth, resamples=200)
    np.testing.assert_array_equal(one.drawn[0], one.drawn[1])
    other = rank_agreement(score, truth, seed=1, resamples=200)
    assert not np.array_equal(one.drawn[0], other.drawn[0])
    noisy = score + np.random.default_rng(13).normal(0, 1, (3, 60))  # paired: what all gain, each resample gains
    gain = rank_agreement(noisy + 5 * truth, truth) - rank_agreement(noisy, truth)
    assert gain.drawn.min() > 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=20), st.integers(0, 99))
def test_resampled_correlations_equal_the_slow_computation(pairs: list[tuple[int, int]], seed: int) -> None:
    x, y = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    found = rank_agreement(x, y, seed, resamples=20)
    expected = [spearman(x[p], y[p]) for p in resampled(len(x), seed, 20)]
    np.testing.assert_allclose(found.drawn[0], expected, atol=1e-12)


def test_resamples_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same to the last bit, in less memory than one number for each architecture of each resample takes."""
    score, truth = gaussian_pair(np.random.default_rng(12), 5000, 0.5)
    whole = rank_agreement(score, truth, resamples=100)
    monkeypatch.setattr(metrics, "AT_ONCE", 50_000)
    tracemalloc.start()
    parts = rank_agreement(score, truth, resamples=100)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(parts.drawn, whole.drawn)
    assert peak < 100 * 5000 * 8


def test_advantage_and_mean_on_resampled_architectures() -> None:
    """Each draw is recomputed directly from the architectures drawn; for top-k, from half of them."""
    rng = np.random.default_rng(14)
    scores, valid, test = rng.normal(size=(2, 30)), rng.permutation(np.arange(30.0)), rng.permutation(np.arange(30.0))
    found, half = top_k_advantage(scores, valid, test, 6, seed=5, resamples=20), halves(30, 5, 20)
    assert all(len(set(one)) == 15 for one in half.tolist())
    for one, row, drawn in zip(scores, found.each, found.drawn, strict=True):
        assert row == pytest.approx(top_k(one, valid, test, 6) - random_top_k(valid, test, 6))
        again = [top_k(one[p], valid[p], test[p], 3) - random_top_k(valid[p], test[p], 3) for p in half]
        assert drawn == pytest.approx(again)
    picks = resampled(30, 5, 20)
    scores[0, :2], scores[1] = (np.inf, np.nan), np.nan
    means = mean_score(scores, seed=5, resamples=20)
    assert means.each[0] == pytest.approx(scores[0, 2:].mean())
    assert means.drawn[0] == pytest.approx([np.mean([scores[0, i] for i in p if i > 1]) for p in picks])
    assert np.isnan(means.each[1])  # a supernet that diverged: no mean, and no interval
    assert np.isnan(contrast((1, means)).low)


PAIRS = st.lists(st.tuples(st.integers(-3, 3), st.integers(-30, 30)), min_size=4, max_size=25)


@settings(max_examples=40, deadline=None)
@given(PAIRS, st.integers(0, 99))
def test_taus_are_scipys_also_with_ties_and_on_resampled_architectures(pairs: list[tuple[int, int]], seed: int) -> None:
    score, test = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    test /= 30  # in steps that 0.1 does not resolve
    found = measures(score, test, test, 2, seed, resamples=10)
    picks = resampled(len(test), seed, 10)
    for name, truth in (("kendall", test), ("sparse_kendall", np.array([float(f"{one:.1f}") for one in test]))):
        of = getattr(found, name)
        expected = [stats.kendalltau(score[p], truth[p], variant="b").statistic for p in (np.arange(len(test)), *picks)]
        np.testing.assert_allclose([of.each[0], *of.drawn[0]], np.nan_to_num(expected), atol=1e-6)  # scipy: NaN


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 60), st.integers(1, 12), st.integers(0, 99))
def test_ndcg_is_scikit_learns(n: int, k: int, seed: int) -> None:
    """With gains from 0 to 1; scores that tie are sorted as they come here, and averaged there."""
    score, test = np.random.default_rng(seed).normal(size=(2, n))
    gains = (test - test.min()) / (test.max() - test.min())
    found = measures(score, test, test, k, resamples=2)
    assert found.ndcg.each[0] == pytest.approx(ndcg_score([gains], [score], k=k))


def test_measures_of_the_first_by_hand() -> None:
    """Twenty architectures: the best 5 % are one, the best 10 % are two."""
    test = np.arange(20.0) + 70  # the last is the best
    valid = test.copy()
    valid[15] = 99  # validation takes this one where it can
    order = [18, 3, 15, 19, *(i for i in range(20) if i not in (18, 3, 15, 19))]  # from the highest score
    score = np.empty(20)
    score[order] = np.arange(20.0, 0, -1)
    found = {k: measures(score, valid, test, k, resamples=2).each() for k in (1, 2, 3, 4)}
    assert [found[k]["best_rank"].tolist() for k in (1, 2, 3, 4)] == [[2], [2], [2], [1]]
    assert [found[k]["regret"].tolist() for k in (1, 2, 3, 4)] == [[1], [1], [4], [4]]
    assert found[1]["precision_5"].tolist() == [0]
    assert found[1]["precision_10"].tolist() == [0.5]
    perfect = measures([test, -test], test, test, 3, resamples=2)
    for name, (best, worst) in {
        "kendall": (1, -1),
        "precision_5": (1, 0),
        "precision_10": (1, 0),
        "best_rank": (1, 18),
        "regret": (0, 17),
    }.items():
        assert getattr(perfect, name).each.tolist() == [best, worst], name
    assert perfect.ndcg.each[0] == 1
    alike = measures(test, test, np.ones(20), 3, resamples=2)  # any choice is the best
    assert [float(one[0]) for one in alike.each().values()] == [0, 0, 1, 1, 1, 0, 0]


def test_drawn_measures_of_the_first_are_those_of_halves() -> None:
    """The same numbers of half the architectures, for k / 2, with the rank as it would be among all."""
    rng = np.random.default_rng(17)
    scores, valid, test = rng.normal(size=(2, 30)), rng.normal(size=30), rng.normal(size=30)
    found = measures(scores, valid, test, 6, seed=5, resamples=20)
    for i, p in enumerate(halves(30, 5, 20)):
        half = measures(scores[:, p], valid[p], test[p], 3, resamples=2)
        for name in ("precision_5", "precision_10", "ndcg", "regret"):
            np.testing.assert_allclose(getattr(found, name).drawn[:, i], getattr(half, name).each)
        np.testing.assert_allclose(found.best_rank.drawn[:, i], 2 * half.best_rank.each)


def test_intervals_of_measures_are_within_what_they_can_be() -> None:
    rng = np.random.default_rng(18)
    test = rng.normal(size=60)
    found = measures(test + rng.normal(0, 2, (2, 60)), test, test, 10)
    both = Measures.of_all([measures(one, test, test, 10) for one in test + rng.normal(0, 2, (2, 60))])
    for one in (found, both):
        assert all(values.shape == (2,) for values in one.each().values())
        for name, interval in one.intervals().items():
            least, most = {"best_rank": (1, 60), "regret": (0, np.inf)}.get(name, (-1 if "kendall" in name else 0, 1))
            assert least <= interval.low <= interval.value <= interval.high <= most, name
            assert interval.value == pytest.approx(one.each()[name].mean())


def test_a_correlation_is_within_what_correlations_can_be() -> None:
    rows = np.array([np.arange(20.0), -np.arange(20.0)])
    found = correlation_over(rank_agreement(rows, np.arange(20.0)))
    assert (found.value, found.low, found.high) == (0, -1, 1)


@pytest.mark.skipif(not (DATA / "nb101.npz").exists(), reason="needs the NAS-Bench-101 sample nb101.npz")
def test_ceiling_of_the_real_nasbench101_seeds() -> None:
    """Validation of 10,975 cells, three trainings each: seeds agree well over all cells, far less among the best."""
    with np.load(DATA / "nb101.npz", allow_pickle=False) as stored:
        truth = stored["valid_correct_of_9984"].astype(float)
    whole, eighth, last = noise_ceiling(truth), pruned_ceiling(truth, truth, 8), pruned_ceiling(truth, truth, 64)
    assert whole is not None
    assert eighth is not None
    assert last is not None
    assert whole.agreement == pytest.approx(0.954, abs=0.002)
    assert eighth.agreement == pytest.approx(0.65, abs=0.005)
    assert last.agreement == pytest.approx(0.46, abs=0.01)
    assert last.ceiling == pytest.approx((2 * last.agreement / (1 + last.agreement)) ** 0.5)  # two seeds report


@pytest.mark.parametrize("tied", [False, True])
def test_the_range_of_a_random_top_k_is_that_of_all_draws(tied: bool) -> None:
    """Against every one of the C(12, 3) draws; where validation results are equal, against every order of them."""
    rng = np.random.default_rng(3)
    valid, test = rng.permutation(12).astype(float), rng.normal(size=12)
    if tied:
        valid = np.floor(valid / 4)
    reached: dict[float, float] = {}
    for draw in itertools.combinations(range(12), 3):
        best = [i for i in draw if valid[i] == max(valid[j] for j in draw)]
        for i in best:
            reached[test[i]] = reached.get(test[i], 0.0) + 1 / len(best)
    values = sorted(reached)
    below = np.cumsum([reached[value] for value in values]) / math.comb(12, 3)
    expected = tuple(values[int(np.searchsorted(below, edge))] for edge in (0.05, 0.95))
    assert random_top_k_range(valid, test, 3, 0.9) == expected
    mean = sum(value * chance for value, chance in reached.items()) / math.comb(12, 3)
    assert random_top_k(valid, test, 3) == pytest.approx(mean)


def test_partial_agreement_is_that_of_what_the_given_leaves_unexplained() -> None:
    rng = np.random.default_rng(0)
    sizes, scores = rng.normal(size=60), rng.normal(size=(2, 60))
    truth = sizes + scores[0] + rng.normal(size=60)
    scores = scores + sizes
    found = partial_agreement(scores, truth, sizes)
    design = np.stack([np.ones(60), stats.rankdata(sizes)], axis=1)

    def left(values: Any) -> Any:
        ranks = stats.rankdata(values)
        return ranks - design @ np.linalg.lstsq(design, ranks)[0]

    expected = [np.corrcoef(left(one), left(truth))[0, 1] for one in scores]
    np.testing.assert_allclose(found.each, expected)
    assert found.each[0] > 0.4 > abs(found.each[1])
    picked = np.random.default_rng(0).integers(60, size=(2000, 60))[7]  # one of the bootstrap's draws
    design = np.stack([np.ones(60), stats.rankdata(sizes[picked])], axis=1)
    assert found.drawn[0, 7] == pytest.approx(np.corrcoef(left(scores[0, picked]), left(truth[picked]))[0, 1])


def test_partial_agreement_where_nothing_is_left() -> None:
    sizes = np.arange(20.0)
    found = partial_agreement(sizes[::-1], np.sin(sizes), sizes)
    assert found.each.tolist() == [0.0]
    assert (found.drawn == 0).all()


def test_the_difference_of_two_groups_is_welchs() -> None:
    """One supernet: scipy's Welch, its interval and p. Several: the mean, and p rises as they differ."""
    rng = np.random.default_rng(3)
    mine = np.arange(60) < 8
    values = np.where(mine, rng.normal(2.5, 1.5, 60), rng.normal(0.0, 0.5, 60))
    welch = stats.ttest_ind(values[mine], values[~mine], equal_var=False)
    found, wanted = contrast((1, group_difference(values, mine, resamples=20_000))), welch.confidence_interval()
    assert found.value == pytest.approx(values[mine].mean() - values[~mine].mean())
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.04)
    assert chance_of((1, group_difference(values, mine, resamples=20_000))) == pytest.approx(welch.pvalue, rel=0.1)
    alike = np.array([values + rng.normal(0, 0.01, 60) for _ in range(3)])
    unlike = alike + np.array([[-2.0], [0.0], [2.0]]) * mine
    assert contrast((1, group_difference(unlike, mine))).value == pytest.approx(found.value, abs=0.01)
    assert chance_of((1, group_difference(unlike, mine))) > 2 * chance_of((1, group_difference(alike, mine)))


@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_a_contrast_ends_at_0_where_chance_is_what_its_level_leaves(level: float) -> None:
    rng = np.random.default_rng(4)
    group = rank_agreement(np.arange(40.0) + rng.normal(0, 15, (4, 40)), np.arange(40.0))
    least = contrast((1, group), level=level).low
    moved = PerSupernet(group.each - least, group.drawn - least, group.architectures, group.freedom)
    assert chance_of((1, moved)) == pytest.approx(1 - level)


def test_supernets_of_one_seed_are_not_compared() -> None:
    """Of three seeds, scipy's mean over the six pairs of different ones; pseudo-values from those without a seed."""
    rng = np.random.default_rng(5)
    ours, theirs = rng.normal(size=(2, 3, 30))
    ours[0] = theirs[0]  # of one seed: equal

    def mean(*seeds: int) -> float:
        pairs = [(i, j) for i in seeds for j in seeds if i != j]
        return float(np.mean([stats.spearmanr(ours[i], theirs[j]).statistic for i, j in pairs]))

    found = mutual_agreement(ours, theirs)
    assert found.mean == pytest.approx(mean(0, 1, 2))
    assert found.each == pytest.approx([3 * mean(0, 1, 2) - 2 * one for one in (mean(1, 2), mean(0, 2), mean(0, 1))])
    assert mutual_agreement(ours[:2], theirs[:2]).each == pytest.approx([mean(0, 1)])
    assert mutual_agreement(ours[:1], theirs[:1]).each == pytest.approx([1])  # no other seeds


@pytest.mark.parametrize("shared", [True, False])
def test_the_spread_of_mutual_agreements_is_that_of_other_seeds(shared: bool) -> None:
    """Three seeds of three budgets know the truth well or badly: one seed's budgets alike, or each by itself."""
    rng, truth = np.random.default_rng(6), stats.zscore(np.arange(60.0))

    def drawn(seeds: int) -> PerSupernet:
        strengths = rng.uniform(0.2, 2.0, (1 if shared else 3, seeds, 1))
        budgets = strengths * truth + rng.normal(size=(3, seeds, 60))
        parts = [mutual_agreement(budgets[i], budgets[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
        each, values = (np.mean([getattr(part, name) for part in parts], axis=0) for name in ("each", "drawn"))
        return PerSupernet(each, values, 60, 59)

    expected = drawn(30).mean
    found = [contrast((1, drawn(3))) for _ in range(40)]
    assert np.mean([one.low < expected < one.high for one in found]) > 0.8


def test_draws_from_one_pool_are_no_independent_ones() -> None:
    """Means of 20 of 60 numbers: the interval of their mean covers that of all numbers there are, 0."""
    rng, covered, naive = np.random.default_rng(5), 0, 0
    for _ in range(300):
        pool = rng.standard_normal(60)
        each = np.array([rng.choice(pool, 20, replace=False).mean() for _ in range(25)])
        group = PerSupernet(each, np.zeros((25, 10)) + each[:, None], 100, 99, common=20 / 40)
        found, wrong = contrast((1, group)), contrast((1, replace(group, common=0.0)))
        covered += found.low <= 0 <= found.high
        naive += wrong.low <= 0 <= wrong.high
    assert 0.92 < covered / 300 < 0.98
    assert naive / 300 < 0.6


def biases(sizes: Any, rng: np.random.Generator) -> list[PerSupernet]:
    """Numbers of three supernets, normal around 0 with these standard deviations; architectures play no part."""
    each = np.asarray(sizes)[:, None] * rng.standard_normal((len(sizes), 3))
    return [PerSupernet(one, np.zeros((3, 10)) + one[:, None], 100, 99) for one in each]


def test_many_numbers_of_few_supernets_tell_their_spread() -> None:
    """Equal variances are found to be so; of unequal ones each keeps most of its own."""
    rng = np.random.default_rng(6)
    alike = metrics.moderated(biases(np.full(2000, 2.0), rng))
    for group in alike:
        assert group.spread is not None
        assert group.spread[0] == pytest.approx(4, rel=0.5)  # and of ``each``, which has two degrees of freedom, not
        assert group.spread[1] > 20
    assert np.mean([chance_of((1, group)) < 0.05 for group in alike]) == pytest.approx(0.05, abs=0.03)
    unlike = metrics.moderated(biases(np.exp(3 * rng.standard_normal(2000)), rng))
    for group in unlike:
        assert group.spread is not None
        assert group.spread[1] < 3
    assert np.mean([chance_of((1, group)) < 0.05 for group in unlike]) == pytest.approx(0.05, abs=0.03)


def test_too_few_numbers_tell_nothing_of_each_other() -> None:
    few = biases(np.ones(metrics.MANY - 1), np.random.default_rng(7))
    assert metrics.moderated(few) == few
    one = [
        PerSupernet(group.each[:1], group.drawn[:1], 100, 99) for group in biases(np.ones(20), np.random.default_rng(8))
    ]
    assert all(group.spread is None for group in metrics.moderated(one))
    equal = [PerSupernet(np.ones(3), np.ones((3, 10)), 100, 99)] * 20
    assert all(group.spread is None for group in metrics.moderated(equal))


def test_the_best_of_seven_rankings_that_know_nothing() -> None:
    """The README's 0.19 on 50 networks: the expected maximum of seven normal numbers, 1.352, over the root of 49."""
    rng, truth = np.random.default_rng(9), np.arange(50)
    found = [max(spearman(rng.permutation(50), truth) for _ in range(7)) for _ in range(400)]
    assert np.mean(found) == pytest.approx(1.352 / 7, abs=0.015)


def test_without_noise_is_the_agreement_with_what_the_trainings_are_noisy_about() -> None:
    """Two trainings of 2,000 architectures, each nearly half noise, and supernets that score quality with noise."""
    rng = np.random.default_rng(21)
    quality = rng.standard_normal(2000)
    seeds = quality[:, None] + 0.9 * rng.standard_normal((2000, 2))
    scores = quality + 0.5 * rng.standard_normal((3, 2000))
    noisy, true = (rank_agreement(scores, truth, resamples=100) for truth in (seeds.mean(1), quality))
    found = without_noise(noisy, seeds)
    assert noisy.mean < true.mean - 0.1
    assert found.mean == pytest.approx(true.mean, abs=0.02)
    assert found.drawn.std() > noisy.drawn.std() / 0.9  # the ceiling is not known exactly either
    assert without_noise(noisy, seeds[:, :1]) is noisy  # of one seed no ceiling is known
    some = np.where(np.arange(4000).reshape(2000, 2) % 97 == 1, np.nan, seeds)
    assert without_noise(noisy, some).mean == pytest.approx(true.mean, abs=0.02)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("few", [1, 2, 3])
def test_a_mean_search_is_that_over_all_choices_of_candidates(
    monkeypatch: pytest.MonkeyPatch, few: int, tied: bool
) -> None:
    monkeypatch.setattr(metrics, "POOL", 6)
    score, valid, test = np.random.default_rng(few).normal(size=(3, 11))
    if tied:
        score, valid = np.round(score), np.round(valid)
    every = [
        top_k(score[chosen], valid[chosen], test[chosen], few)
        for chosen in map(list, itertools.combinations(range(11), 6))
    ]
    assert metrics._mean_search(score, valid, test, few) == pytest.approx(np.mean(every))


def test_a_small_search_by_a_perfect_or_blind_judge() -> None:
    """What is certain of 30 candidates: the best of them; what is not: nothing against as many random ones."""
    n, rng = 200, np.random.default_rng(3)
    truth = rng.normal(size=n)
    perfect = search_gain(truth, truth, truth)
    assert perfect.mean + random_top_k(truth, truth, 3) == pytest.approx(random_top_k(truth, truth, metrics.POOL))
    blind = [search_gain(rng.normal(size=n), truth, truth, resamples=2).mean for _ in range(40)]
    assert abs(np.mean(blind)) < 4 * np.std(blind) / np.sqrt(40)
    with pytest.raises(WsnasError, match="60 architectures or more, not 59"):
        search_gain(truth[:59], truth[:59], truth[:59])


def test_a_part_of_a_sample_is_resampled_with_the_whole() -> None:
    """Of the same architectures all ranks are the same; of others the resamples hold those that the whole's do."""
    scores, truth = np.random.default_rng(5).normal(size=(2, 40))
    whole, all_of_it = rank_agreement(scores, truth), rank_agreement(scores, truth, part=(np.arange(40), 40))
    np.testing.assert_array_equal(whole.drawn, all_of_it.drawn)
    rows = np.arange(0, 40, 2)
    half = rank_agreement(scores[rows], truth[rows], part=(rows, 40))
    assert half.mean == pytest.approx(stats.spearmanr(scores[rows], truth[rows]).statistic)
    drawn = [one[one % 2 == 0] for one in metrics.resampled(40, np.random.default_rng(0), 3)]
    found = [stats.spearmanr(scores[one], truth[one]).statistic for one in drawn]
    assert half.drawn[0, :3] == pytest.approx(found)


def test_a_small_search_chooses_by_validation_and_is_drawn_on_halves() -> None:
    rng = np.random.default_rng(30)
    scores, (valid, test) = rng.normal(size=(2, 70)), rng.normal(size=(2, 70))
    found, picks = search_gain(scores, valid, test, seed=5, resamples=4), halves(70, 5, 4)
    for one, each, drawn in zip(scores, found.each, found.drawn, strict=True):
        expected = [
            metrics._mean_search(one[p], valid[p], test[p], 3) - random_top_k(valid[p], test[p], 3)
            for p in (np.arange(70), *picks)
        ]
        assert [each, *drawn] == pytest.approx(expected)


def test_degrees_of_freedom_are_those_of_the_architectures_that_a_number_rests_on() -> None:
    rng = np.random.default_rng(31)
    score, truth, size = rng.normal(size=(3, 70))
    assert top_k_advantage(score, truth, truth, 10, resamples=2).freedom == 9
    assert search_gain(score, truth, truth, resamples=2).freedom == 9
    assert rank_agreement(score, truth).freedom == 69
    assert partial_agreement(score, truth, size).freedom == 68
    many, few = per_supernet([0.5] * 3, 0.0, 99), per_supernet([0.5] * 3, rng.normal(0, 0.1, 2000), 9)
    assert [(many - few).freedom, (few - many).freedom] == [9, 9]
    half = stats.t.ppf(0.975, 9) * few.drawn[0].std(ddof=1)
    for found in (contrast((1, many), (-1, few)), contrast((1, few), (-1, many))):
        assert found.high - found.value == pytest.approx(half)


def test_what_resampling_changes_in_each_supernet_alone_has_the_freedom_of_supernets() -> None:
    """Three supernets: two degrees of freedom, though there are a hundred architectures."""
    rng, each = np.random.default_rng(32), np.array([0.4, 0.5, 0.6])
    drawn = each[:, None] + rng.normal(0, 0.1, (3, 20_000))
    found = contrast((1, PerSupernet(each, drawn, 100, 99)))
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 2) * np.sqrt(2 * 0.01 / 3), rel=0.05)


def ceiling_of(seeds: np.ndarray) -> float:
    found = noise_ceiling(seeds)
    assert found is not None
    return found.ceiling


def test_a_ceiling_that_is_hardly_above_0_tells_nothing() -> None:
    """Trainings that rank the wrong way round, or agree at 0.004: agreements with them are left as they are."""
    rng = np.random.default_rng(33)
    one = np.arange(500.0)
    noisy = rank_agreement(one, one + 300 * rng.standard_normal(500), resamples=10)
    hardly = np.stack([one, one], 1)
    while not 0 < ceiling_of(hardly) < metrics.LEAST_CEILING:
        hardly = np.stack([one, rng.permutation(one)], 1)
    for seeds in (np.stack([one, -one], 1), hardly):
        assert without_noise(noisy, seeds) is noisy


def test_the_ceiling_is_resampled_with_the_agreement_that_it_divides() -> None:
    rng = np.random.default_rng(34)
    quality = rng.standard_normal(60)
    seeds = quality[:, None] + 0.9 * rng.standard_normal((60, 3))
    noisy = rank_agreement(quality, seeds.mean(1), resamples=5)
    found = without_noise(noisy, seeds)
    assert found.drawn[0] == pytest.approx(noisy.drawn[0] / [ceiling_of(seeds[one]) for one in resampled(60, 0, 5)])


def test_a_spread_that_many_numbers_told_replaces_that_of_few() -> None:
    group = per_supernet([0.1, 0.4, 0.9])
    found = contrast((1, replace(group, spread=(0.04, np.inf))))
    assert found.high - found.value == pytest.approx(stats.norm.ppf(0.975) * np.sqrt(0.04 / 3))
    found = contrast((1, replace(group, spread=(0.04, 7.0))))
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.975, 7) * np.sqrt(0.04 / 3))
