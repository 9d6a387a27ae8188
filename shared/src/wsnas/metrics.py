"""Rank metrics of Appendix A.2, with their intervals over architectures and supernets, and the noise ceiling.

Throughout, scores and truths are "higher is better": perplexity is flipped once, where it is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations
from math import comb, sqrt
from typing import Any

import numpy as np
import scipy  # its parts load when they are first used: a worker that trains needs none of them
from numpy.typing import ArrayLike, NDArray

from wsnas.errors import WsnasError

Floats = NDArray[np.float64]

AT_ONCE = 2_000_000  # architectures of resamples that are in memory
MANY = 10  # numbers that tell how alike their variances are
LEAST_CEILING = 0.1  # one that is lower tells nothing
NEARLY_ALL = 0.95  # of the architectures must have been trained with a seed that is to speak for all of them


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float
    n: int  # architectures it rests on

    def flipped(self) -> Interval:
        """Of the number with its sign changed."""
        return Interval(-self.value, -self.high, -self.low, self.n)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def __repr__(self) -> str:
        return f"{self} of {self.n} architectures"

    def _repr_html_(self) -> str:
        return f"<p><b>{self.value:.3f}</b> [{self.low:.3f}, {self.high:.3f}] of {self.n:,} architectures</p>"


def sign_of(metric: str) -> float:
    """1 if higher is better, -1 for a perplexity."""
    return -1.0 if metric == "perplexity" else 1.0


def higher_is_better(values: ArrayLike, metric: str) -> Floats:
    """Accuracies unchanged, perplexities negated, so that higher is better.

    ``Table.higher_is_better`` flips a whole ground truth; scores are flipped where they are read.
    """
    return sign_of(metric) * np.asarray(values, dtype=np.float64)


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
    a, b = scipy.stats.rankdata(x, axis=axis), scipy.stats.rankdata(y, axis=axis)
    a, b = a - a.mean(axis, keepdims=True), b - b.mean(axis, keepdims=True)
    scale = np.sqrt((a * a).sum(axis) * (b * b).sum(axis))
    return np.asarray(np.where(scale > 0, (a * b).sum(axis) / np.where(scale > 0, scale, 1), 0.0))


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation of two vectors of equal length >= 2; 0 where one is constant."""
    a, b = _pair(x, y)
    if len(a) < 2:
        raise WsnasError(f"a rank correlation needs at least 2 architectures, not {len(a)}")
    return float(_rank_correlation(a, b))


def correlation(x: ArrayLike, y: ArrayLike, seed: int = 0, resamples: int = 2000) -> Interval:
    """Spearman with a bootstrap percentile interval over the architectures (scipy.stats.bootstrap)."""
    a, b = _pair(x, y)
    value = spearman(a, b)
    if len(a) < 4:
        return Interval(value, -1.0, 1.0, len(a))
    drawn = scipy.stats.bootstrap(
        (a, b),
        _rank_correlation,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, AT_ONCE // len(a)),
        confidence_level=0.95,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(value, float(drawn.low), float(drawn.high), len(a))


def correlation_matrix(rows: ArrayLike) -> Floats:
    """[m, n] scores of n architectures by m predictors -> [m, m] mutual Spearman correlations (Figure 3)."""
    values = np.asarray(rows, dtype=np.float64)
    return np.array([[spearman(x, y) for y in values] for x in values])


def top_k(score: ArrayLike, valid: ArrayLike, test: ArrayLike, k: int) -> float:
    """Test result of the best by validation among the k architectures with the highest score.

    Ties keep the order of the sample, which is random.
    """
    score, valid, test = (np.asarray(v, dtype=np.float64) for v in (score, valid, test))
    if not 1 <= k <= len(score):
        raise WsnasError(f"top-{k} needs between 1 and {len(score)} architectures to choose from")
    chosen = np.argsort(-score, kind="stable")[:k]
    return float(test[chosen[np.argmax(valid[chosen])]])


def random_top_k(valid: ArrayLike, test: ArrayLike, k: int) -> float:
    """Exact expectation of ``top_k`` for k architectures drawn at random without replacement.

    The i-th best by validation is the best of k drawn from n with probability C(n-i, k-1) / C(n, k).
    Architectures with equal validation results are equally likely to be chosen.
    """
    valid, test = np.asarray(valid, dtype=np.float64), np.asarray(test, dtype=np.float64)
    n = len(valid)
    if not 1 <= k <= n:
        raise WsnasError(f"random top-{k} needs between 1 and {n} architectures to choose from")
    order = np.argsort(-valid, kind="stable")
    _, group = np.unique(-valid[order], return_inverse=True)
    mean = np.bincount(group, weights=test[order]) / np.bincount(group)

    chance = _chance_of_best(n, k)
    return float(chance @ mean[group[: n - k + 1]])


def random_top_k_range(valid: ArrayLike, test: ArrayLike, k: int, level: float = 0.95) -> tuple[float, float]:
    """Exact quantiles between which ``top_k`` lies with probability ``level``, for k architectures drawn at random."""
    valid, test = np.asarray(valid, dtype=np.float64), np.asarray(test, dtype=np.float64)
    order = np.argsort(-valid, kind="stable")
    _, group = np.unique(-valid[order], return_inverse=True)
    chance = np.zeros(len(valid))
    chance[: len(valid) - k + 1] = _chance_of_best(len(valid), k)
    shared = np.bincount(group, weights=chance) / np.bincount(group)  # equal validation results are equally likely
    by_test = np.argsort(test[order], kind="stable")
    below = np.cumsum(shared[group][by_test])
    low, high = np.searchsorted(below, [(1 - level) / 2, (1 + level) / 2]).clip(max=len(valid) - 1)
    return float(test[order][by_test][low]), float(test[order][by_test][high])


def _chance_of_best(n: int, k: int) -> Floats:
    """[n - k + 1]: the probability that the i-th best of n is the best of k drawn without replacement."""
    i, gammaln = np.arange(1, n - k + 2), scipy.special.gammaln
    ways = gammaln(n - i + 1) - gammaln(k) - gammaln(n - i - k + 2)  # log C(n - i, k - 1)
    every = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return np.asarray(np.exp(ways - every))


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


def ceiling_interval(truth: ArrayLike) -> Interval | None:
    """The noise ceiling with its 95 % interval, bootstrap percentiles over architectures; as ``noise_ceiling``."""
    seeds = _measured(truth)
    found = noise_ceiling(seeds)
    return None if found is None else Interval(found.ceiling, *percentiles(_ceilings_drawn(seeds)), len(seeds))


def pruned_ceiling(valid: ArrayLike, test: ArrayLike, factor: float, reporting: int | None = None) -> Ceiling | None:
    """The ceiling among the best 1/factor, where one seed's validation chooses and the others' mean test reports.

    Choosing and reporting with the same seed would count its luck as skill. [n, s] validation and test results, higher
    is better; ``reporting``: seeds of the mean, by default s - 1. Averaged over which seed chooses: that is nearer to
    any one's ceiling than its own estimate (``benchmarks/ceiling.py``). Seeds that only some architectures have do not
    choose. None where no two seeds remain that did not choose; at factor 1 nothing is chosen, and two are enough.
    """
    by, of = (np.asarray(values, dtype=np.float64) for values in (valid, test))
    measured, seeds = np.isfinite(by).sum(0), range(by.shape[1])
    agreements = []
    for chooser in seeds:
        best = best_rows(by[:, chooser], factor)
        if measured[chooser] < NEARLY_ALL * measured.max() or len(best) < 4:
            continue
        for i, j in combinations([seed for seed in seeds if seed != chooser or factor == 1], 2):
            both = best[np.isfinite(of[best][:, [i, j]]).all(1)]
            if len(both) >= max(4, NEARLY_ALL * len(best)):  # fewer are not the best, but those trained more often
                agreements.append(spearman(of[both, i], of[both, j]))
    return _ceiling(float(np.mean(agreements)), reporting or len(seeds) - 1) if agreements else None


def best_rows(truth: ArrayLike, factor: float) -> NDArray[np.int64]:
    """The rows of the best 1/factor of [n] that were measured (not NaN), best first; ties in their order."""
    values = np.asarray(truth, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(values))
    order = np.argsort(-values[known], kind="stable")
    return np.asarray(known[order[: max(1, round(len(known) / factor))]], dtype=np.int64)


def any_judge(
    chooses: ArrayLike, reports: ArrayLike, judges: ArrayLike, correlation: float, factor: float, seed: int = 0
) -> float:
    """How well any judge that is as good in the whole would rank the best 1/factor: the regression of the selected.

    ``chooses``, ``reports`` [n]: what selects the best, and what they are judged by. ``judges`` [n]: results of
    trainings that do neither. The judge is one of these trainings made worse: its scores are their normal scores plus
    normal noise, as much that it correlates with the reports by ``correlation`` (as well as it can, if that is less).
    It does not change with pruning: it falls because the range is narrower, and because those that were lucky are not
    as good as they were thought to be.
    """
    by, of, known = (np.asarray(values, dtype=np.float64) for values in (chooses, reports, judges))
    noise = np.random.default_rng(seed).normal(size=(max(4, 300_000 // len(of)), len(of)))
    normal = scipy.stats.norm.ppf((scipy.stats.rankdata(known) - 0.5) / len(known))

    def agreement(share: float, rows: Any = slice(None)) -> float:
        scores = np.sqrt(1 - share) * normal[rows] + np.sqrt(share) * noise[:, rows]
        return float(_rank_correlation(scores, of[rows]).mean())

    wanted = min(max(abs(correlation), agreement(1)), agreement(0))
    share = float(scipy.optimize.brentq(lambda share: agreement(share) - wanted, 0, 1, xtol=1e-3))
    return (-1.0 if correlation < 0 else 1.0) * agreement(share, best_rows(by, factor))


def _measured(truth: ArrayLike) -> Floats:
    """The rows of [n, s] (or [n], one seed) without NaN."""
    seeds = np.asarray(truth, dtype=np.float64)
    seeds = seeds[:, None] if seeds.ndim == 1 else seeds
    return seeds[~np.isnan(seeds).any(1)]


def _ceiling(agreement: float, seeds: int) -> Ceiling:
    reliability = float(_reliability(np.array(agreement), seeds))
    return Ceiling(agreement, reliability, sqrt(reliability), seeds)


def _reliability(agreement: Floats, seeds: int) -> Floats:
    """Of the mean of so many seeds, any two of which agree so much (Spearman-Brown)."""
    positive = np.maximum(agreement, 0)
    return np.asarray(seeds * positive / (1 + (seeds - 1) * positive))


def _ceilings_drawn(seeds: Floats, resamples: int = 2000) -> Floats:
    """[resamples]: the ceiling of [n, s] trainings on resampled architectures, as ``rank_agreement`` draws them."""
    pairs = combinations(range(seeds.shape[1]), 2)
    agree = [rank_agreement(seeds[:, i], seeds[:, j], resamples=resamples).drawn[0] for i, j in pairs]
    return np.sqrt(_reliability(np.mean(agree, axis=0), seeds.shape[1]))


@dataclass(frozen=True)
class PerSupernet:
    """One number for each of several supernets, such as the correlation with a ground truth.

    ``each`` [supernets]: as measured. ``drawn`` [supernets, resamples]: on resampled architectures, the same ones for
    all supernets; it varies as much as the number would with another sample of architectures. Where supernets scored
    architectures of their own (``density``), each is resampled by itself: what samples share is not counted.
    """

    each: Floats
    drawn: Floats
    architectures: int
    freedom: int  # of the variance over architectures: their number minus one, if every one contributes
    common: float = 0.0  # what of their variance more of them would not average out, as for predictors of one pool
    spread: tuple[float, float] | None = None  # ``moderated`` variance of ``each``, and its degrees of freedom
    # the last two are of these numbers alone: differences and groups are made without them

    @property
    def mean(self) -> float:
        return float(self.each.mean())

    def __sub__(self, other: PerSupernet) -> PerSupernet:
        """The difference for each supernet. ``other``: the same supernets, or [1], a predictor that is no supernet."""
        freedom = min(self.freedom, other.freedom)
        return PerSupernet(self.each - other.each, self.drawn - other.drawn, self.architectures, freedom)

    @staticmethod
    def of_all(parts: Sequence[PerSupernet]) -> PerSupernet:
        """The supernets of several groups as one group."""
        each, drawn = (np.concatenate([getattr(part, name) for part in parts]) for name in ("each", "drawn"))
        architectures, freedom = (min(getattr(part, name) for part in parts) for name in ("architectures", "freedom"))
        return PerSupernet(each, drawn, architectures, freedom)

    @staticmethod
    def mean_of(parts: Sequence[PerSupernet]) -> PerSupernet:
        """The mean of several numbers of the same supernets, or of supernets of one seed."""
        each, drawn = (np.mean([getattr(part, name) for part in parts], axis=0) for name in ("each", "drawn"))
        return PerSupernet(each, drawn, parts[0].architectures, parts[0].freedom)


def contrast(*terms: tuple[float, PerSupernet], level: float = 0.95) -> Interval:
    """The interval of a weighted sum of means over supernets; each term has its own, independently trained supernets.

    It covers another sample of architectures and other supernets. Resampling two or three supernets would understate
    how supernets differ, so the variance is the bootstrap variance over architectures plus s^2 / k for each term. What
    resampling changes in each supernet separately is in both; this makes up for degrees of freedom that two or three
    supernets determine only roughly. The interval is Student's t, with Satterthwaite's degrees of freedom (Biometrics
    Bulletin 2, 1946) for the variance that all supernets share and for s^2 / k. Where a share of s^2 is ``common``, it
    is not divided by k. A term with one supernet borrows the s^2 of the others; if no term has several supernets, the
    interval covers architectures only.
    ``benchmarks/intervals.py`` measures the coverage.
    """
    value, error, freedom = _estimate(terms)
    half = float(scipy.stats.t.ppf((1 + level) / 2, freedom)) * error
    return Interval(value, value - half, value + half, min(group.architectures for _, group in terms))


def moderated(groups: Sequence[PerSupernet]) -> list[PerSupernet]:
    """Many numbers of the same few supernets, such as a bias for each choice, with what all tell of their spread.

    Two or three supernets determine a variance only roughly, and one that is small by luck makes a number look certain.
    Each is drawn towards those of the others, by as much as they are alike (empirical Bayes: Smyth, Statistical
    Applications in Genetics and Molecular Biology 3, 2004). It takes the numbers as independent, which the choices of
    one decision are not quite. Fewer than ``MANY`` numbers are returned as they are.
    """
    if len(groups) < MANY or len(groups[0].each) < 2:
        return list(groups)
    digamma = scipy.special.digamma

    def trigamma(x: float) -> float:
        return float(scipy.special.polygamma(1, x))

    own, freedom = np.array([group.each.var(ddof=1) for group in groups]), len(groups[0].each) - 1
    if not own.any():
        return list(groups)
    logs = np.log(np.maximum(own, 1e-5 * np.median(own[own > 0]))) - digamma(freedom / 2) + np.log(freedom / 2)
    unlike = float(logs.var(ddof=1) - trigamma(freedom / 2))  # beyond what few supernets explain
    prior = np.inf if unlike < 1e-6 else 2 * scipy.optimize.brentq(lambda x: trigamma(x) - unlike, 1e-6, 1e9)
    if np.isinf(prior):
        alike = float(np.exp(logs.mean()))
        return [replace(group, spread=(alike, np.inf)) for group in groups]
    alike = float(np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2)))
    total = prior + freedom
    return [
        replace(group, spread=((prior * alike + freedom * one) / total, total))
        for group, one in zip(groups, own, strict=True)
    ]


def chance_of(*terms: tuple[float, PerSupernet]) -> float:
    """The two-sided p of the hypothesis that the sum is 0: 0.05 where ``contrast`` ends at 0."""
    value, error, freedom = _estimate(terms)
    return float(2 * scipy.stats.t.sf(abs(value) / error, freedom)) if error else float(value == 0)


def _estimate(terms: Sequence[tuple[float, PerSupernet]]) -> tuple[float, float, float]:
    """The sum, its standard error and the degrees of freedom of that."""
    total = sum(weight * group.drawn.mean(0) for weight, group in terms)
    value = sum(weight * group.mean for weight, group in terms)
    whole = float(np.var(total, ddof=1))
    several = [(weight, group) for weight, group in terms if len(group.each) > 1]
    borrowed = sum(weight**2 for weight, group in terms if len(group.each) == 1) / max(1, len(several))
    shared, parts, freedom = whole, [], []
    for weight, group in several:
        k = 1 / (1 / len(group.each) + group.common)
        own = group.drawn - group.drawn.mean(1, keepdims=True)
        shared -= weight**2 / k * float(own.var(0, ddof=1).mean())
        variance, degrees = group.spread or (float(group.each.var(ddof=1)), len(group.each) - 1)
        parts.append((weight**2 / k + borrowed) * variance)
        freedom.append(degrees)
    shared = max(0.0, shared)
    fewest = min(group.freedom for _, group in terms)
    uncertainty = shared**2 / fewest + sum(part**2 / degrees for part, degrees in zip(parts, freedom, strict=True))
    freedoms = (shared + sum(parts)) ** 2 / uncertainty if uncertainty > 0 else np.inf
    return float(value), sqrt(whole + sum(parts)), float(freedoms)


def correlation_over(agreement: PerSupernet) -> Interval:
    """The interval of a mean correlation, limited to -1 to 1."""
    found = contrast((1, agreement))
    return Interval(found.value, max(-1.0, found.low), min(1.0, found.high), found.n)


def resampled(n: int, seed: int | np.random.Generator = 0, resamples: int = 2000) -> NDArray[np.int64]:
    """[resamples, n] architectures drawn with replacement, the same for the same seed; a generator draws on."""
    return np.random.default_rng(seed).integers(n, size=(resamples, n))


def halves(n: int, seed: int = 0, resamples: int = 2000) -> NDArray[np.int64]:
    """[resamples, n // 2] architectures drawn without replacement, the same for the same seed."""
    drawn = np.random.default_rng(seed).permuted(np.tile(np.arange(n), (resamples, 1)), axis=1)
    return np.asarray(drawn[:, : n // 2])


def rank_agreement(
    scores: ArrayLike,
    truth: ArrayLike,
    seed: int = 0,
    resamples: int = 2000,
    part: tuple[NDArray[np.int64], int] | None = None,
) -> PerSupernet:
    """Spearman of each supernet's scores [supernets, n] with one truth [n].

    Two calls with the same number of architectures and the same seed resample the same architectures, so their
    difference is paired. So are calls on overlapping parts of one sample: ``part`` is the rows [n] of these
    architectures in the sample, and its size; all of the sample is resampled.
    """
    predictors, values = np.atleast_2d(np.asarray(scores, dtype=np.float64)), np.asarray(truth, dtype=np.float64)
    n, rng = len(values), np.random.default_rng(seed)
    rows, size = (np.arange(n), n) if part is None else part

    def drawn(count: int) -> Floats:
        """[supernets, count], of the next resamples."""
        counts = np.array([np.bincount(one, minlength=size)[rows] for one in resampled(size, rng, count)])
        of_truth, found = _deviations(values, counts), []

        def product(a: Floats, b: Floats) -> Floats:
            return np.asarray(np.einsum("rn,rn,rn->r", counts, a, b))

        for predictor in predictors:
            ours = _deviations(predictor, counts)
            scale = np.sqrt(product(ours, ours) * product(of_truth, of_truth))
            found.append(np.where(scale > 0, product(ours, of_truth) / np.where(scale > 0, scale, 1), 0.0))
        return np.array(found)

    few = max(1, AT_ONCE // size)
    parts = [drawn(min(few, resamples - first)) for first in range(0, resamples, few)]
    each = np.array([spearman(predictor, values) for predictor in predictors])
    return PerSupernet(each, np.concatenate(parts, axis=1), n, n - 1)


def pairs_agreement(pairs: Iterable[tuple[Floats, Floats]]) -> PerSupernet:
    """One number: the mean Spearman of pairs of vectors [n] of the same architectures; drawn as ``rank_agreement``."""
    return PerSupernet.mean_of([rank_agreement(one, other) for one, other in pairs])


def without_noise(found: PerSupernet, seeds: ArrayLike) -> PerSupernet:
    """Agreements with a noisy ground truth (``rank_agreement``) as they would be without its noise.

    Divided by the noise ceiling of the seeds' mean (Spearman, American Journal of Psychology 15, 1904). ``seeds``
    [n, s]: the trainings of the same architectures, which are resampled alike. Unchanged where no ceiling is known.
    """
    trained = np.asarray(seeds, dtype=np.float64)
    ceiling = noise_ceiling(trained)
    if ceiling is None or ceiling.ceiling < LEAST_CEILING:
        return found
    drawn = np.full(found.drawn.shape[1], ceiling.ceiling)
    if not np.isnan(trained).any():
        drawn = np.maximum(_ceilings_drawn(trained, found.drawn.shape[1]), LEAST_CEILING)
    return replace(found, each=found.each / ceiling.ceiling, drawn=found.drawn / drawn)


def mutual_agreement(ours: ArrayLike, theirs: ArrayLike) -> PerSupernet:
    """Mean Spearman of our supernets [k, n] with theirs [k, n] of other seeds; row i of both has one seed.

    Supernets of one seed begin with the same weights and see the same batches and paths, so they are not compared (but
    with k = 1 there are no others). Every pair rests on two seeds: the k numbers are the jackknife's pseudo-values
    (Tukey, 1958), k times the mean over all pairs minus k - 1 times that without a seed. Their mean is that over all
    pairs, their spread what seeds contribute, on either side. From two seeds there is one number: no spread is known.
    Resampled as ``rank_agreement``.
    """
    found = [rank_agreement(theirs, one) for one in np.atleast_2d(np.asarray(ours, dtype=np.float64))]
    k, n, freedom = len(found), found[0].architectures, found[0].freedom

    def pseudo_values(name: str) -> Floats:
        pairs = np.array([getattr(one, name) for one in found])  # [k, k], or [k, k, resamples]
        if k == 1:
            return np.asarray(pairs[0])
        pairs[np.arange(k), np.arange(k)] = 0
        whole = pairs.sum((0, 1)) / (k * (k - 1))
        if k == 2:
            return np.asarray(whole[None])
        rest = (pairs.sum((0, 1)) - pairs.sum(0) - pairs.sum(1)) / ((k - 1) * (k - 2))
        return np.asarray(k * whole - (k - 1) * rest)

    return PerSupernet(pseudo_values("each"), pseudo_values("drawn"), n, freedom)


def group_difference(values: ArrayLike, mine: NDArray[np.bool_], resamples: int = 2000) -> PerSupernet:
    """Mean of ``values`` [supernets, n] where ``mine`` [n], minus the mean elsewhere; resampled within both groups.

    The variance over architectures and its degrees of freedom are Welch's, of the values' mean over supernets.
    """
    each_of, rng = np.atleast_2d(np.asarray(values, dtype=np.float64)), np.random.default_rng(0)
    each, drawn, errors, freedoms = np.zeros(len(each_of)), np.zeros((len(each_of), resamples)), [], []
    for sign, group in ((1, each_of[:, mine]), (-1, each_of[:, ~mine])):
        size = group.shape[1]
        counts = rng.multinomial(size, np.full(size, 1 / size), size=resamples)
        mean = group.mean(1)
        each += sign * mean
        deviations = (group @ counts.T) / size - mean[:, None]  # of a bootstrap: too small by (size - 1) / size
        drawn += sign * (mean[:, None] + deviations * sqrt(size / (size - 1)))
        errors.append(float(group.mean(0).var(ddof=1)) / size)
        freedoms.append(size - 1)
    squares = sum(error**2 / freedom for error, freedom in zip(errors, freedoms, strict=True))
    freedom = int(sum(errors) ** 2 / squares) if squares > 0 else sum(freedoms)
    return PerSupernet(each, drawn, each_of.shape[1], max(1, freedom))


def partial_agreement(scores: ArrayLike, truth: ArrayLike, given: ArrayLike) -> PerSupernet:
    """Spearman of each supernet's scores [supernets, n] with one truth [n], at equal ``given`` [n].

    The partial correlation of the ranks: 0 if ``given`` explains all of the scores or all of the truth. Resampled as
    ``rank_agreement``.
    """
    ours, theirs, between = (rank_agreement(*pair) for pair in ((scores, truth), (scores, given), (given, truth)))

    def part(r: Floats, s: Floats, t: Floats) -> Floats:
        left = np.sqrt(np.maximum(0, (1 - s * s) * (1 - t * t)))
        return np.asarray(np.where(left > 1e-9, (r - s * t) / np.where(left > 1e-9, left, 1), 0.0))

    each, drawn = (part(*(getattr(one, name) for one in (ours, theirs, between))) for name in ("each", "drawn"))
    return PerSupernet(each, drawn, ours.architectures, ours.freedom - 1)


def _deviations(values: Floats, counts: NDArray[np.int64]) -> Floats:
    """[resamples, n] centred ranks (ties at their mean rank) if value i occurs ``counts[:, i]`` times.

    Sorts only once, not for every resample.
    """
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    last = np.append(np.flatnonzero(np.diff(group[order])), len(values) - 1)  # of each group of equals
    up_to = counts[:, order].cumsum(1)[:, last]
    before = np.concatenate([np.zeros((len(counts), 1)), up_to[:, :-1]], axis=1)
    return np.asarray(((before + up_to - up_to[:, -1:]) / 2)[:, group])


def top_k_advantage(
    scores: ArrayLike, valid: ArrayLike, test: ArrayLike, k: int, seed: int = 0, resamples: int = 2000
) -> PerSupernet:
    """``top_k`` of each supernet's scores [supernets, n] minus ``random_top_k``.

    ``drawn`` is the best of the top k / 2 in a random half of the architectures. A mean varies as much over halves as
    over new samples; a bootstrap, which draws the best architectures twice or not at all, finds only two thirds of the
    variance of such a maximum. The result rests on few architectures, hence k - 1 degrees of freedom. As in
    ``rank_agreement``, calls with the same seed draw the same architectures.
    """
    predictors = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    valid, test = np.asarray(valid, dtype=np.float64), np.asarray(test, dtype=np.float64)
    picks, few = halves(len(test), seed, resamples), max(1, k // 2)
    tests, rows, chance = test[picks], np.arange(resamples), _chance_of_best(picks.shape[1], few)
    by_valid = _places(valid)[picks]
    order = np.argsort(by_valid, axis=1, kind="stable")[:, : len(chance)]  # ties as they were drawn: at random
    by_chance = np.take_along_axis(tests, order, axis=1) @ chance
    drawn = []
    for predictor in predictors:
        chosen = np.argsort(_places(predictor)[picks], axis=1, kind="stable")[:, :few]
        first = np.take_along_axis(by_valid, chosen, axis=1).argmin(1)
        drawn.append(tests[rows, chosen[rows, first]] - by_chance)
    random = random_top_k(valid, test, k)
    each = np.array([top_k(predictor, valid, test, k) - random for predictor in predictors])
    return PerSupernet(each, np.array(drawn), len(test), max(1, k - 1))


POOL = 30  # candidates of a small search


def search_gain(
    scores: ArrayLike, valid: ArrayLike, test: ArrayLike, seed: int = 0, resamples: int = 300
) -> PerSupernet:
    """What each supernet's scores [supernets, n] are worth in a small search; valid, test [n]. Higher is better.

    A search has ``POOL`` of the architectures as candidates and trains the tenth of them that is scored highest;
    against it, one trains as many random candidates. Both report the test result of their best by validation. The gain
    is the exact mean over all choices of candidates. So it rests on far more architectures than one top-10 of all
    does, and means the same in large and small samples. ``drawn``: of random halves, as ``top_k_advantage``. Raises
    WsnasError for fewer than 2 * POOL architectures.
    """
    predictors = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    valid, test = np.asarray(valid, dtype=np.float64), np.asarray(test, dtype=np.float64)
    n, few = len(test), POOL // 10
    if n < 2 * POOL:
        raise WsnasError(f"a search among {POOL} candidates is judged on {2 * POOL} architectures or more, not {n}")
    picks = halves(n, seed, resamples)
    random = np.array([random_top_k(valid[one], test[one], few) for one in (np.arange(n), *picks)])
    found = np.array(
        [
            [_mean_search(predictor[one], valid[one], test[one], few) for one in (np.arange(n), *picks)]
            for predictor in predictors
        ]
    )
    gains = found - random
    return PerSupernet(gains[:, 0], gains[:, 1:], n, 9)  # cautious: as few degrees of freedom as a top-10 has


def _mean_search(score: Floats, valid: Floats, test: Floats, few: int) -> float:
    """Mean, over all choices of ``POOL`` candidates, of ``top_k`` with k = ``few``."""
    order = np.argsort(-score, kind="stable")
    valid, test = valid[order], test[order]
    n, i = len(order), np.arange(len(order))
    place = np.empty(n, dtype=np.int64)  # by validation; of equals the one scored higher is better, as in top_k
    place[np.argsort(-valid, kind="stable")] = i
    worse = place[:, None] < place  # [winner, other]
    before = np.zeros((n, n + 1), dtype=np.int32)  # [winner, c]: how many worse ones are scored higher than c
    worse.cumsum(1, dtype=np.int32, out=before[:, 1:])
    binom = scipy.special.binom  # 0 where there are too few to choose from
    # a winner wins where it and ``few - 1`` worse ones are trained; c is the lowest-scored of these ``few``
    last = binom(n - 1 - i, POOL - few) / comb(n, POOL)  # the pool's others are scored below c
    as_lowest, above_lowest = binom(i, few - 1), binom(i, few - 2)  # choices among so many worse ones
    wins = as_lowest[before[i, i]] * last
    wins += (np.triu(worse, 1) * above_lowest[before[:, :-1]]) @ last
    return float(wins @ test)


def _places(values: Floats) -> NDArray[np.unsignedinteger[Any]]:
    """Ranks from 0 for the highest value, equal for ties, in a small type that sorts quickly."""
    _, group = np.unique(-values, return_inverse=True)
    return group.astype(np.min_scalar_type(len(values)))


@dataclass(frozen=True)
class Measures:
    """How supernets rank, by measures other than Spearman's correlation. Ties in a score keep the sample's order."""

    kendall: PerSupernet  # Kendall's tau-b
    sparse_kendall: PerSupernet  # the same with the ground truth rounded to 0.1 (Yu et al., ICLR 2020)
    precision_5: PerSupernet  # share of the 5 % scored best that are among the best 5 %
    precision_10: PerSupernet
    best_rank: PerSupernet  # of the k scored best, that of the best of them: 1 is the best of all
    ndcg: PerSupernet  # of the k scored best; gains from 0, the worst test result, to 1, the best; discount log2(i + 1)
    regret: PerSupernet  # best test result minus that of the top-k: points of accuracy, or perplexity

    @staticmethod
    def of_all(parts: Sequence[Measures]) -> Measures:
        """All supernets of several groups, as one group."""
        return Measures(*(PerSupernet.of_all([getattr(part, one.name) for part in parts]) for one in fields(Measures)))

    def each(self) -> dict[str, Floats]:
        """[supernets] by name."""
        return {one.name: getattr(self, one.name).each for one in fields(self)}

    def intervals(self) -> dict[str, Interval]:
        """Means over supernets, within what the measures can be."""
        n = self.kendall.architectures
        ends = {"kendall": (-1, 1), "sparse_kendall": (-1, 1), "best_rank": (1, n), "regret": (0, np.inf)}
        found = {}
        for one in fields(self):
            interval, (least, most) = contrast((1, getattr(self, one.name))), ends.get(one.name, (0, 1))
            low, high = max(least, interval.low), min(most, interval.high)
            found[one.name] = Interval(interval.value, float(low), float(high), n)
        return found


def measures(
    scores: ArrayLike,
    valid: ArrayLike,
    test: ArrayLike,
    k: int,
    seed: int = 0,
    resamples: int = 500,
    common: float = 0.0,
) -> Measures:
    """Of each supernet's scores [supernets, n]; valid, test [n]. ``common``: as of ``PerSupernet``.

    The taus are drawn on resampled architectures, the others, as ``top_k_advantage``, on random halves of them, with
    k / 2; they rest on as many architectures as they choose.
    """
    predictors = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    valid, test = np.asarray(valid, dtype=np.float64), np.asarray(test, dtype=np.float64)
    n, picks = len(test), halves(len(test), seed, resamples)
    everything, scale = np.arange(n)[None], n / picks.shape[1]
    counts = np.array([np.ones(n), *(np.bincount(one, minlength=n) for one in resampled(n, seed, resamples))])
    found: dict[str, list[Floats]] = {one.name: [] for one in fields(Measures)}  # [1 + resamples]: as it is, and drawn
    for predictor in predictors:
        found["kendall"].append(_kendall(predictor, test, counts))
        found["sparse_kendall"].append(_kendall(predictor, np.round(test, 1), counts))
        whole = _of_the_first(predictor[everything], valid[everything], test[everything], k)
        drawn = _of_the_first(predictor[picks], valid[picks], test[picks], max(1, k // 2))
        drawn["best_rank"] = drawn["best_rank"] * scale
        for name, values in drawn.items():
            found[name].append(np.concatenate([whole[name], values]))
    chosen = {"precision_5": _share(n, 0.05), "precision_10": _share(n, 0.1), "kendall": n, "sparse_kendall": n}
    rows = {name: np.array(values) for name, values in found.items()}
    return Measures(
        **{name: PerSupernet(a[:, 0], a[:, 1:], n, max(1, chosen.get(name, k) - 1), common) for name, a in rows.items()}
    )


def _kendall(x: Floats, y: Floats, counts: NDArray[Any]) -> Floats:
    """[resamples]: Kendall's tau-b where architecture i is there ``counts[:, i]`` times; 0 where a side is constant."""
    weights = counts.astype(np.float32)
    sums = np.zeros((3, len(counts)))  # over pairs: agreeing minus not, told apart by x, told apart by y
    for rows in np.array_split(np.arange(len(x)), max(1, len(x) // 1000)):
        a, b = (np.sign(one[rows, None] - one).astype(np.float32) for one in (x, y))
        for i, pairs in enumerate((a * b, np.abs(a), np.abs(b))):
            sums[i] += ((weights @ pairs.T) * weights[:, rows]).sum(1, dtype=np.float64)
    scale = np.sqrt(sums[1] * sums[2])
    return np.asarray(np.where(scale > 0, sums[0] / np.where(scale > 0, scale, 1), 0.0))


def _share(n: int, share: float) -> int:
    return max(1, round(share * n))


def _of_the_first(scores: Floats, valid: Floats, test: Floats, k: int) -> dict[str, Floats]:
    """[samples] by name, of ``Measures`` about those scored best; scores, valid, test [samples, n]."""
    n = scores.shape[1]
    order = np.argsort(-scores, axis=1, kind="stable")
    ranks = np.take_along_axis(scipy.stats.rankdata(-test, method="min", axis=1), order, axis=1)  # 1: the best
    tests, first = np.take_along_axis(test, order, axis=1), order[:, :k]
    pick = np.take_along_axis(valid, first, axis=1).argmax(1)
    best, worst = test.max(1, keepdims=True), test.min(1, keepdims=True)
    spread, discount = np.where(best > worst, best - worst, 1), 1 / np.log2(np.arange(2, min(k, n) + 2))
    ideal = ((-np.sort(-test, axis=1)[:, :k] - worst) / spread) @ discount
    gained = ((tests[:, :k] - worst) / spread) @ discount
    return {
        "precision_5": (ranks[:, : _share(n, 0.05)] <= _share(n, 0.05)).mean(1),
        "precision_10": (ranks[:, : _share(n, 0.1)] <= _share(n, 0.1)).mean(1),
        "best_rank": ranks[:, :k].min(1).astype(np.float64),
        "ndcg": np.where(ideal > 0, gained / np.where(ideal > 0, ideal, 1), 0.0),
        "regret": best[:, 0] - tests[np.arange(len(tests)), pick],
    }


def mean_score(scores: ArrayLike, seed: int = 0, resamples: int = 2000) -> PerSupernet:
    """Mean of each supernet's finite scores [supernets, n], NaN without any; resampled as ``rank_agreement``."""
    values = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    picks = resampled(values.shape[1], seed, resamples)
    each, drawn = [], []
    for one in values:
        known = np.isfinite(one)
        filled, counts = np.where(known, one, 0.0), known[picks].sum(1)
        each.append(filled.sum() / known.sum() if known.any() else np.nan)
        drawn.append(np.where(counts > 0, filled[picks].sum(1) / np.maximum(counts, 1), each[-1]))
    return PerSupernet(np.array(each), np.array(drawn), values.shape[1], values.shape[1] - 1)


def percentiles(drawn: Floats) -> tuple[float, float]:
    """The 95 % percentile interval of bootstrap draws."""
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)
