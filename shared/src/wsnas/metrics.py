"""Rank metrics of Appendix A.2, with their intervals, and the noise ceiling.

Throughout, scores and truths are "higher is better": perplexity is flipped once, where it is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import lgamma, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from wsnas.errors import WsnasError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap percentile interval."""

    value: float
    low: float
    high: float
    n: int  # architectures it rests on

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def higher_is_better(values: ArrayLike, metric: str) -> Floats:
    """Accuracies as they are, perplexities with their sign flipped: higher is better. The one place of the flip."""
    numbers = np.asarray(values, dtype=np.float64)
    return -numbers if metric == "perplexity" else numbers


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[Floats, Floats]:
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise WsnasError(f"a correlation needs two lists of one length, not {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise WsnasError(
            "a correlation needs finite numbers: leave out what failed or was not measured, and say how many"
        )
    return a, b


def _rank_correlation(x: Floats, y: Floats, axis: int = -1) -> Floats:
    """Spearman along ``axis``, ties at their mean rank; 0 where one side is constant (no order to agree with)."""
    a, b = stats.rankdata(x, axis=axis), stats.rankdata(y, axis=axis)
    a, b = a - a.mean(axis, keepdims=True), b - b.mean(axis, keepdims=True)
    scale = np.sqrt((a * a).sum(axis) * (b * b).sum(axis))
    return np.asarray(np.where(scale > 0, (a * b).sum(axis) / np.where(scale > 0, scale, 1), 0.0))


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation of two vectors of equal length >= 2; 0 where one is constant."""
    a, b = _pair(x, y)
    if len(a) < 2:
        raise WsnasError(f"a rank correlation needs at least 2 architectures, not {len(a)}")
    return float(_rank_correlation(a, b))


def correlation(x: ArrayLike, y: ArrayLike, seed: int = 0, resamples: int = 2000, level: float = 0.95) -> Interval:
    """Spearman with a bootstrap percentile interval over the architectures (scipy.stats.bootstrap)."""
    a, b = _pair(x, y)
    value = spearman(a, b)
    if len(a) < 4:
        return Interval(value, -1.0, 1.0, len(a))
    drawn = stats.bootstrap(
        (a, b),
        _rank_correlation,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, 2_000_000 // len(a)),
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(value, float(drawn.low), float(drawn.high), len(a))


def correlation_matrix(rows: ArrayLike) -> Floats:
    """[m, n] scores of n architectures by m predictors -> [m, m] mutual Spearman correlations (Figure 3)."""
    values = np.asarray(rows, dtype=np.float64)
    return np.array([[spearman(x, y) for y in values] for x in values])


def top_k(score: ArrayLike, valid: ArrayLike, test: ArrayLike, k: int) -> float:
    """Test performance of the best-by-validation among the k architectures the score likes best.

    Ties in the score keep the order of the sample, which is random.
    """
    score, valid, test = (np.asarray(v, dtype=np.float64) for v in (score, valid, test))
    if not 1 <= k <= len(score):
        raise WsnasError(f"top-{k} needs between 1 and {len(score)} architectures to choose from")
    chosen = np.argsort(-score, kind="stable")[:k]
    return float(test[chosen[np.argmax(valid[chosen])]])


def random_top_k(valid: ArrayLike, test: ArrayLike, k: int) -> float:
    """Exact expectation of ``top_k`` when the k are drawn at random without replacement.

    The i-th best by validation is the best of k drawn from n with probability C(n-i, k-1) / C(n, k);
    architectures that tie in validation are equally likely to be the one taken.
    """
    valid, test = np.asarray(valid, dtype=np.float64), np.asarray(test, dtype=np.float64)
    n = len(valid)
    if not 1 <= k <= n:
        raise WsnasError(f"random top-{k} needs between 1 and {n} architectures to choose from")
    order = np.argsort(-valid, kind="stable")
    _, group = np.unique(-valid[order], return_inverse=True)
    mean = np.bincount(group, weights=test[order]) / np.bincount(group)

    def log_choose(a: int, b: int) -> float:
        return lgamma(a + 1) - lgamma(b + 1) - lgamma(a - b + 1)

    chance = np.array([np.exp(log_choose(n - i, k - 1) - log_choose(n, k)) for i in range(1, n - k + 2)])
    return float(chance @ mean[group[: n - k + 1]])


@dataclass(frozen=True)
class Ceiling:
    """How far any predictor can agree with a ground truth that is itself noisy."""

    agreement: float  # mean Spearman of two single seeds
    reliability: float  # of the mean of all seeds, Spearman-Brown
    ceiling: float  # sqrt(reliability): the highest correlation any predictor could show
    seeds: int


def noise_ceiling(truth: ArrayLike) -> Ceiling | None:
    """From [n, s] trainings of n architectures with s seeds; None where s < 2 or n < 2: not available.

    Architectures that were not measured with every seed (NaN) are left out. A negative agreement means no
    reliability: 0.
    """
    seeds = _measured(truth)
    if seeds.shape[1] < 2 or len(seeds) < 2:
        return None
    pairs = [spearman(seeds[:, i], seeds[:, j]) for i, j in combinations(range(seeds.shape[1]), 2)]
    return _ceiling(float(np.mean(pairs)), seeds.shape[1])


def pruned_ceiling(truth: ArrayLike, factor: float) -> Ceiling | None:
    """The ceiling among the best 1/factor, which are chosen by one seed and compared on the others.

    Choosing and comparing with the same seed would count its luck as skill. [n, s], s >= 3; averaged over
    which seed chooses. None with fewer seeds.
    """
    seeds = _measured(truth)
    if seeds.shape[1] < 3:
        return None
    keep = max(1, round(len(seeds) / factor))
    if keep < 4:
        return None
    agreements = []
    for chooser in range(seeds.shape[1]):
        best = np.argsort(-seeds[:, chooser], kind="stable")[:keep]
        others = [i for i in range(seeds.shape[1]) if i != chooser]
        agreements += [spearman(seeds[best, i], seeds[best, j]) for i, j in combinations(others, 2)]
    return _ceiling(float(np.mean(agreements)), seeds.shape[1])


def _measured(truth: ArrayLike) -> Floats:
    """The rows of [n, s] (or [n], one seed) without NaN."""
    seeds = np.asarray(truth, dtype=np.float64)
    seeds = seeds[:, None] if seeds.ndim == 1 else seeds
    return seeds[~np.isnan(seeds).any(1)]


def _ceiling(agreement: float, seeds: int) -> Ceiling:
    positive = max(0.0, agreement)
    reliability = seeds * positive / (1 + (seeds - 1) * positive)
    return Ceiling(agreement, reliability, sqrt(reliability), seeds)


def rank_bootstrap(scores: ArrayLike, truth: ArrayLike, seed: int = 0, resamples: int = 2000) -> Floats:
    """[resamples] bootstrap draws of the mean Spearman of several predictors (supernets) with one truth.

    scores [predictors, n], truth [n]: architectures and predictors are both resampled, so that the spread is that of
    another sample of architectures and of other supernets. The draws of two calls with as many predictors and
    architectures take the same ones: their difference is paired.
    """
    predictors, values = np.atleast_2d(np.asarray(scores, dtype=np.float64)), np.asarray(truth, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    return mean_of_predictors(
        np.array([_rank_correlation(predictor[picks], values[picks]) for predictor in predictors]), seed
    )


def percentiles(drawn: Floats) -> tuple[float, float]:
    """The 95 % percentile interval of bootstrap draws."""
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def mean_of_predictors(drawn: ArrayLike, seed: int = 0) -> Floats:
    """[predictors, resamples] of single ones -> [resamples] of the mean of as many, drawn with replacement."""
    values = np.asarray(drawn, dtype=np.float64)
    predictors, resamples = values.shape
    picks = np.random.default_rng([seed, predictors]).integers(predictors, size=(predictors, resamples))
    return np.asarray(np.take_along_axis(values, picks, axis=0).mean(0))
