"""How supernets rank architectures: correlation, top-k, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from wsnas.metrics import (
    POOL,
    Floats,
    Measures,
    PerSupernet,
    contrast,
    correlation_over,
    higher_is_better,
    measures,
    random_top_k,
    random_top_k_range,
    rank_agreement,
    search_gain,
    spearman,
    top_k,
    top_k_advantage,
)
from wsnas.studies.sample import SpaceSample
from wsnas.studies.verdicts import FEWEST

K = 10  # of the top-k


@dataclass(frozen=True)
class Ranking:
    """How the supernets of one setting rank architectures. Higher results are better; ``*_seeds``: per supernet."""

    evaluated: int  # architectures
    not_finite: int  # scores, which rank last
    correlation: float  # Spearman with the ground truth, mean over supernets
    correlation_low: float  # 95 % interval over architectures and supernets (``metrics.contrast``)
    correlation_high: float
    correlation_seeds: list[float]
    parameters_correlation: float | None  # of the parameter count; None: unknown or the same for all
    top: float  # test result of the top-k, mean over supernets
    top_seeds: list[float]
    random_top: float  # exact expectation of a random top-k
    advantage: float  # top minus random_top
    advantage_low: float  # 95 % interval over architectures and supernets
    advantage_high: float
    random_top_low: float  # between these lies a random top-k with probability 0.95
    random_top_high: float
    best: float  # highest test result of all that were scored
    agreement: PerSupernet  # what the intervals rest on: correlations,
    advantages: PerSupernet  # and advantages
    measures: Measures

    def with_interval(self) -> dict[str, float]:
        """The correlation and its interval, by their names in results.json and the CSV."""
        names = ("correlation", "correlation_low", "correlation_high")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Point:
    """One setting of a study and its supernets' ranking: a point of ``figures.ranking_figure``."""

    setting: int  # epochs, or a factor
    tick: str
    ranking: Ranking
    ceiling: float | None  # highest correlation the noise of the ground truth allows
    truth_agreement: float | None = None  # Spearman of two seeds of the ground truth
    architectures: int | None = None  # in the sub-space
    top1: float | None = None  # as ``Ranking.top``, k = 1
    reporting_seeds: int | None = None  # of the ground truth, that did not choose; 0: those that chose also report
    any_judge: float | None = None  # what the correlation at 1x of any judge comes to (``metrics.any_judge``)
    whole_correlation: float | None = None  # of supernets of the whole space, on the same architectures
    gain: PerSupernet | None = None  # correlation minus that, of supernets of the same seed
    search: PerSupernet | None = None  # ``metrics.search_gain``; None: too few architectures

    def to_json(self, setting: str) -> dict[str, Any]:
        """Its row of results.json; ``setting``: the setting's name there."""
        row = {setting: self.setting, "x": self.setting, "tick": self.tick, **vars(self.ranking)}
        del row["agreement"], row["advantages"]
        row["measures"] = measures_json(self.ranking.measures)
        names = ("truth_agreement", "architectures", "top1", "reporting_seeds", "any_judge", "whole_correlation")
        more = {name: getattr(self, name) for name in names}
        for name, gains in (("gain", self.gain), ("search_gain", self.search)):
            if gains is not None:
                found = contrast((1, gains))
                more |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        return {**row, "ceiling": self.ceiling, **{name: value for name, value in more.items() if value is not None}}


def search_of(scores: Floats, valid: Floats, test: Floats, resampling: int = 0) -> PerSupernet | None:
    """``metrics.search_gain`` of scores [supernets, n]; None for too few architectures."""
    return search_gain(finite(scores), valid, test, resampling) if len(test) >= 2 * POOL else None


def judged(points: Sequence[Point]) -> Sequence[Point]:
    """Those of enough architectures for a verdict; all, which decide nothing, if fewer than two are."""
    large = [point for point in points if point.ranking.evaluated >= FEWEST]
    return large if len(large) > 1 else points


def measures_json(found: Measures) -> dict[str, Any]:
    """Of each measure its mean over supernets, the 95 % interval, and the supernets' own."""
    each = found.each()
    return {name: {**asdict(mean), "seeds": each[name]} for name, mean in found.intervals().items()}


def measures_csv(found: Measures, seed: int | None = None) -> dict[str, float]:
    """Flat: the values of one supernet, or their means; and the intervals of these."""
    flat: dict[str, float] = {}
    for name, mean in found.intervals().items():
        flat[name] = mean.value if seed is None else float(found.each()[name][seed])
        flat |= {f"{name}_low": mean.low, f"{name}_high": mean.high}
    return flat


def csv_rows(space: str, setting: str, points: Sequence[Point]) -> list[dict[str, Any]]:
    """One row per point and supernet."""
    return [
        {"space": space, setting: point.setting, "seed": seed, "correlation": correlation, "top10": top}
        | ({} if point.top1 is None else {"top1": point.top1})
        | {"random_top": point.ranking.random_top, "best": point.ranking.best, "ceiling": point.ceiling}
        | {"evaluated": point.ranking.evaluated}
        | ({} if point.architectures is None else {"architectures": point.architectures})
        | measures_csv(point.ranking.measures, seed)
        | ({} if point.reporting_seeds is None else {"any_judge": point.any_judge})
        | ({} if point.whole_correlation is None else {"whole_correlation": point.whole_correlation})
        | ({} if point.reporting_seeds is None else {"reporting_seeds": point.reporting_seeds})
        for point in points
        for seed, (correlation, top) in enumerate(
            zip(point.ranking.correlation_seeds, point.ranking.top_seeds, strict=True)
        )
    ]


def not_finite(scores: Floats) -> int:
    """How many scores are not."""
    return int((~np.isfinite(scores)).sum())


def finite(scores: Floats) -> Floats:
    """Replaces scores that are not finite (overflowed perplexities) by a value below all others, to rank last."""
    known = np.isfinite(scores)
    lowest = float(np.min(scores, where=known, initial=0.0))
    return np.where(known, scores, lowest - max(1.0, abs(lowest)))  # 1 is nothing beside a very large score


def ranking(
    scores: Floats,
    valid: Floats,
    test: Floats,
    k: int,
    parameters: Floats | None = None,
    *,
    resampling: int = 0,
    common: float = 0.0,
    part: tuple[NDArray[np.int64], int] | None = None,
) -> Ranking:
    """Scores [supernets, n]; valid, test, parameters [n]; all higher is better.

    ``resampling`` seeds the bootstrap: one number for rankings of the same architectures, whose differences are paired,
    another for others; correlations are also paired if these are a ``part`` of the same sample (``rank_agreement``).
    ``common``: what the judges have in common beyond what resampling shows (``PerSupernet``).
    """
    overflowed, scores = not_finite(scores), finite(scores)
    agreement = replace(rank_agreement(scores, test, 0 if part else resampling, part=part), common=common)
    advantages = replace(top_k_advantage(scores, valid, test, k, resampling), common=common)
    tops = [top_k(score, valid, test, k) for score in scores]
    chance = random_top_k_range(valid, test, k)
    varied = parameters is not None and (parameters >= 0).all() and len(np.unique(parameters)) > 1
    return Ranking(
        evaluated=len(test),
        not_finite=overflowed,
        **_intervals(agreement, advantages),
        correlation_seeds=[float(one) for one in agreement.each],
        parameters_correlation=spearman(parameters, test) if varied and parameters is not None else None,
        top=float(np.mean(tops)),
        top_seeds=tops,
        random_top=random_top_k(valid, test, k),
        random_top_low=chance[0],
        random_top_high=chance[1],
        best=float(test.max()),
        agreement=agreement,
        advantages=advantages,
        measures=measures(scores, valid, test, k, resampling, common=common),
    )


def _intervals(agreement: PerSupernet, advantages: PerSupernet) -> dict[str, float]:
    """The fields of a ``Ranking`` that are means over supernets with intervals."""
    means = {"correlation": correlation_over(agreement), "advantage": contrast((1, advantages))}
    return {
        f"{name}{end}": value
        for name, found in means.items()
        for end, value in (("", found.value), ("_low", found.low), ("_high", found.high))
    }


def ranking_within(
    sample: SpaceSample,
    scored: Sequence[Any],
    valid: Floats,
    test: Floats,
    scores: Floats,
    k: int,
    part: tuple[NDArray[np.int64], int] | None = None,
) -> Ranking:
    """``ranking`` of architectures other than the sample's. scores [supernets, n]: as measured."""
    counts = np.array([sample.space.parameters(arch, sample.recipe) for arch in scored], dtype=np.float64)
    higher = higher_is_better(scores, sample.space.metric)
    return ranking(higher, valid, test, k, counts, resampling=resampling_of(sample, scored), part=part)


def resampling_of(sample: SpaceSample, scored: Sequence[Any]) -> int:
    """The seed of a bootstrap of these architectures."""
    return crc32(" ".join(map(sample.space.encode, scored)).encode())


def mean_ranking(parts: Sequence[Ranking]) -> Ranking:
    """The mean ranking of several supernets that scored different architectures."""
    agreement = PerSupernet.of_all([part.agreement for part in parts])
    advantages = PerSupernet.of_all([part.advantages for part in parts])
    return replace(
        parts[0],
        evaluated=min(part.evaluated for part in parts),
        not_finite=sum(part.not_finite for part in parts),
        **_intervals(agreement, advantages),
        correlation_seeds=[part.correlation for part in parts],
        parameters_correlation=None,
        top=float(np.mean([part.top for part in parts])),
        top_seeds=[part.top for part in parts],
        random_top=float(np.mean([part.random_top for part in parts])),
        random_top_low=float(np.mean([part.random_top_low for part in parts])),
        random_top_high=float(np.mean([part.random_top_high for part in parts])),
        best=float(np.mean([part.best for part in parts])),
        agreement=agreement,
        advantages=advantages,
        measures=Measures.of_all([part.measures for part in parts]),
    )
