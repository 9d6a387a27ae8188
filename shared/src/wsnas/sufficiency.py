"""Is a training length sufficient? The rule for every ground truth trained here.

The paper's ground truth is the score of an architecture "when it is trained independently and sufficiently". A
training of E epochs counts as sufficient if, on a uniform sample of architectures, twice the epochs change neither

(a) the order: Spearman of E and 2E, of different seeds, is at least the lower end of the 95 % interval of the
    agreement of two seeds at E on the same architectures (both are means over all pairs of seeds); nor
(b) the level: the mean improves by less than a point of accuracy, or 2 % of perplexity, from E to 2E.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from wsnas.metrics import NEARLY_ALL, Floats, Interval, pairs_agreement, percentiles
from wsnas.table import Table
from wsnas.words import counted, spelled

LEAST = 60  # architectures the rule needs
POINTS, PERCENT = 1.0, 2.0  # of accuracy, of perplexity


@dataclass(frozen=True)
class Sufficiency:
    """The effect of twice the epochs on the ``n`` architectures with trainings of 2E and two seeds or more of E."""

    epochs: int  # E
    n: int
    doubled: Interval  # Spearman of a seed of 2E with another of E, mean over pairs: they share only the architecture
    seeds: Interval  # Spearman of two seeds of E, mean over pairs
    mean: float  # test accuracy in percent, or perplexity, at E
    doubled_mean: float  # at 2E
    gain: float  # points of accuracy, or percent of perplexity, from E to 2E; above zero is better
    metric: Literal["accuracy", "perplexity"]

    @property
    def holds(self) -> bool | None:
        """None: fewer than LEAST architectures."""
        if self.n < LEAST:
            return None
        return self.doubled.value >= self.seeds.low and self.gain < (POINTS if self.metric == "accuracy" else PERCENT)

    def __str__(self) -> str:
        verdict = {True: "sufficient", False: "not sufficient", None: f"undecided, the rule needs {LEAST}"}[self.holds]
        length = counted(self.epochs, "epoch")
        unit = "points" if self.metric == "accuracy" else "% of perplexity"
        return (
            f"{length} against {2 * self.epochs:,} on {self.n:,} architectures: they agree at {self.doubled}, "
            f"two seeds of {length} at {self.seeds}; the mean goes from {self.mean:.2f} to "
            f"{self.doubled_mean:.2f} ({self.gain:+.2f} {unit}): {verdict}"
        )


def sufficiency(table: Table, dataset: str, metric: Literal["accuracy", "perplexity"]) -> list[Sufficiency]:
    """The rule for every training length with two seeds and with trainings of twice as many epochs, shortest first."""
    lengths, rules = table.epochs(dataset, "test"), []
    for epochs in sorted(epochs for epochs in lengths if 2 * epochs in lengths):
        single, double = (_by_seed(table, dataset, length) for length in (epochs, 2 * epochs))
        if len(single) < 2 or not double:
            continue
        double, doubled_known = _of_most(double, 1)
        single, _ = _of_most({seed: np.where(doubled_known, values, np.nan) for seed, values in single.items()}, 2)
        known = doubled_known & np.isfinite(np.stack([*single.values()])).all(0)
        n = int(known.sum())
        if n < 2:
            continue
        one, two = ({seed: values[known] for seed, values in by_seed.items()} for by_seed in (single, double))
        same = [seed for seed in two if seed in one]  # whose batches and initial weights are the same
        mean = float(np.mean([one[seed] for seed in same or one]))
        doubled_mean = float(np.mean([two[seed] for seed in same or two]))
        gain = doubled_mean - mean if metric == "accuracy" else 100 * (mean - doubled_mean) / mean
        agree = _mean_agreement((two[a], one[b]) for a in two for b in one if a != b)
        seeds = _mean_agreement(combinations(one.values(), 2))
        rules.append(Sufficiency(epochs, n, agree, seeds, mean, doubled_mean, gain, metric))
    return rules


def _of_most(by_seed: Mapping[int, Floats], least: int) -> tuple[dict[int, Floats], NDArray[np.bool_]]:
    """The seeds that nearly as many architectures have as the ``least``-th most frequent one, and [n]: which have all.

    A seed of only a few architectures, such as the best, would leave out all others.
    """
    often = {seed: int(np.isfinite(values).sum()) for seed, values in by_seed.items()}
    enough = NEARLY_ALL * sorted(often.values())[-least]
    kept = {seed: values for seed, values in by_seed.items() if often[seed] >= enough}
    return kept, np.asarray(np.isfinite(np.stack([*kept.values()])).all(0))


def _mean_agreement(pairs: Iterable[tuple[Floats, Floats]]) -> Interval:
    """Mean Spearman over pairs of vectors [n] of the same architectures; bootstrap percentiles over these."""
    found = pairs_agreement(pairs)
    return Interval(found.mean, *percentiles(found.drawn[0]), found.architectures)


def _by_seed(table: Table, dataset: str, epochs: int) -> dict[int, Floats]:
    """The test results of each seed; a publisher's mean has none."""
    wanted = (spelled(dataset, table.datasets), "test", epochs)
    return {
        column.seed: values
        for column, values in table.columns.items()
        if column[:3] == wanted and column.seed is not None
    }
