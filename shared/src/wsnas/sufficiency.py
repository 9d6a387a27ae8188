"""Is a training length sufficient? The rule for every ground truth trained here.

The paper's ground truth is the score of an architecture "when it is trained independently and sufficiently". A
training of E epochs counts as sufficient if, on a uniform sample of architectures, twice the epochs change neither

(a) the order: Spearman of E and 2E, of different seeds, is at least the lower end of the 95 % interval of the
    agreement of two seeds at E on the same architectures; nor
(b) the level: the mean improves by less than a point of accuracy, or 2 % of perplexity, from E to 2E.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from wsnas.metrics import Interval, correlation
from wsnas.table import Table

LEAST = 60  # architectures the rule needs
POINTS, PERCENT = 1.0, 2.0  # of accuracy, of perplexity


@dataclass(frozen=True)
class Sufficiency:
    """The effect of twice the epochs on the ``n`` architectures with a training of 2E and two seeds of E."""

    epochs: int  # E
    n: int
    doubled: Interval  # Spearman of 2E's first seed with E's second: nothing in common but the architecture
    seeds: Interval  # Spearman of two seeds of E
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
        unit = "points" if self.metric == "accuracy" else "% of perplexity"
        return (
            f"{self.epochs} epochs against {2 * self.epochs} on {self.n} architectures: they agree at {self.doubled}, "
            f"two seeds of {self.epochs} epochs at {self.seeds}; the mean goes from {self.mean:.2f} to "
            f"{self.doubled_mean:.2f} ({self.gain:+.2f} {unit}): {verdict}"
        )


def sufficiency(table: Table, dataset: str, metric: Literal["accuracy", "perplexity"]) -> list[Sufficiency]:
    """The rule for every training length with two seeds and with trainings of twice as many epochs, shortest first."""
    lengths, rules = table.epochs(dataset, "test"), []
    for epochs in sorted(epochs for epochs in lengths if 2 * epochs in lengths):
        single, double = table.seeds(dataset, "test", epochs), table.seeds(dataset, "test", 2 * epochs)[:, 0]
        known = np.isfinite(single[:, :2]).all(1) & np.isfinite(double)
        n = int(known.sum())
        if single.shape[1] < 2 or n < 2:
            continue
        first, second, doubled = single[known, 0], single[known, 1], double[known]
        mean, doubled_mean = float(first.mean()), float(doubled.mean())
        gain = doubled_mean - mean if metric == "accuracy" else 100 * (mean - doubled_mean) / mean
        agree, seeds = correlation(doubled, second), correlation(first, second)
        rules.append(Sufficiency(epochs, n, agree, seeds, mean, doubled_mean, gain, metric))
    return rules
