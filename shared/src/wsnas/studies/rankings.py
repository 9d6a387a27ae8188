"""How supernets rank architectures: correlation, top-k, and their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wsnas.metrics import (
    Floats,
    higher_is_better,
    percentiles,
    random_top_k,
    rank_bootstrap,
    spearman,
    top_k,
)
from wsnas.randomness import numpy_rng
from wsnas.studies.sample import SpaceSample


def finite(scores: Floats) -> Floats:
    """The scores with those that are not finite (a submodel whose perplexity overflowed) below all others: last."""
    known = np.isfinite(scores)
    return np.where(known, scores, np.min(scores, where=known, initial=0.0) - 1.0)


def ranking(
    scores: Floats, valid: Floats, test: Floats, k: int, parameters: Floats | None = None, *, draws: int = 0
) -> dict[str, Any]:
    """How supernets rank architectures. scores [supernets, n]; valid, test, parameters [n]; all higher is better.

    Correlations with the ground truth (mean over supernets, bootstrap interval over architectures and supernets,
    each supernet's), the top-k by each supernet, the exact expectation of a random top-k and three draws (``draws``
    numbers them). A score that is not finite ranks last. ``bootstrap``: the draws behind the interval.
    """
    not_finite = int((~np.isfinite(scores)).sum())
    scores = finite(scores)
    drawn = rank_bootstrap(scores, test)
    low, high = percentiles(drawn)
    correlations = [spearman(score, test) for score in scores]
    tops = [top_k(score, valid, test, k) for score in scores]
    rng = numpy_rng(0, "random top-k", draws)
    varied = parameters is not None and (parameters >= 0).all() and len(np.unique(parameters)) > 1
    return {
        "evaluated": len(test),
        "not_finite": not_finite,
        "correlation": float(np.mean(correlations)),
        "correlation_low": low,
        "correlation_high": high,
        "correlation_seeds": correlations,
        "parameters_correlation": spearman(parameters, test) if varied and parameters is not None else None,
        "top": float(np.mean(tops)),
        "top_seeds": tops,
        "random_top": random_top_k(valid, test, k),
        "random_top_draws": [top_k(rng.random(len(test)), valid, test, k) for _ in range(3)],
        "best": float(test.max()),
        "bootstrap": drawn,
    }


def ranking_within(
    sample: SpaceSample, scored: Sequence[str], results: Sequence[Mapping[str, float]], k: int, draws: int
) -> dict[str, Any]:
    """``ranking`` of architectures other than the sample's; ``results``: of each supernet, as measured."""
    rows = [sample.truth.table.row[arch] for arch in scored]
    matrix = higher_is_better([[result[arch] for arch in scored] for result in results], sample.space.metric)
    valid, test = sample.truth.valid[rows], sample.truth.test[rows]
    counted = [sample.space.parameters(sample.space.decode(arch), sample.recipe) for arch in scored]
    return ranking(matrix, valid, test, k, np.array(counted, dtype=np.float64), draws=draws)
