"""A space pruned to its best architectures: one training of each chooses, its other trainings report.

The first seed's validation results prune the space and pick from the top-k; the mean test results of the other seeds
are what supernets, random search, the parameter count and the ceiling are judged by. The luck of a training that
chooses would otherwise be counted as quality: most of it is in its validation and test results alike. Where a table has
a single result of each architecture, such as a published mean, that result does both, and ``Reported.seeds`` is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import sqrt
from typing import Any

import numpy as np

from wsnas.metrics import NEARLY_ALL, Ceiling, Floats, any_judge, best_rows, pruned_ceiling
from wsnas.studies.sample import GroundTruth


@dataclass(frozen=True)
class Reported:
    """Architectures to be ranked, and their ground truth. Higher is better."""

    archs: tuple[Any, ...]
    valid: Floats  # [n] of the training that chooses
    test: Floats  # [n] mean of those that report
    seeds: int  # of those; 0: the training that chooses also reports


@dataclass(frozen=True)
class Pruning:
    """The trainings of a ground truth: the first column chooses."""

    truth: GroundTruth
    valid: Floats  # [architectures, seeds]
    test: Floats

    @staticmethod
    def of(truth: GroundTruth) -> Pruning:
        """The seeds with both validation and test results; a mean where there are none."""
        seeds = {
            split: {c.seed for c in truth.table.columns if c[:3] == (truth.dataset, split, truth.epochs)} - {None}
            for split in ("valid", "test")
        }
        if seeds["valid"] != seeds["test"]:  # what one training reached is not told apart
            return Pruning(truth, truth.valid[:, None], truth.test[:, None])
        return Pruning(truth, *(truth.table.seeds(truth.dataset, split, truth.epochs) for split in ("valid", "test")))

    def best(self, factor: float) -> list[Any]:
        """The best 1/factor architectures, as the first seed sees them; those it was not trained with are left out."""
        return [self.truth.archs[row] for row in best_rows(self.valid[:, 0], factor)]

    def reported(self, archs: Sequence[Any]) -> Reported:
        """What judges a ranking of these: the seeds nearly all of them have. Those that lack one are left out."""
        rows = np.array(self.truth.rows(archs), dtype=np.int64)
        others = self.test[rows, 1:]
        others = others[:, np.isfinite(others).mean(0) >= NEARLY_ALL]
        test = others.mean(1) if others.size else self.test[rows, 0]
        known = np.isfinite(test) & np.isfinite(self.valid[rows, 0])
        kept = tuple(arch for arch, ok in zip(archs, known, strict=True) if ok)
        return Reported(kept, self.valid[rows, 0][known], test[known], others.shape[1])

    def ceiling(self, factor: float, seeds: int) -> Ceiling | None:
        """Of a ranking of the best 1/factor by the mean of so many seeds; None: not available, as for 0."""
        return pruned_ceiling(self.valid, self.test, factor, seeds) if seeds else None

    def any_judge(self, correlation: float, factor: float, seeds: int) -> float | None:
        """What the ``correlation`` of any judge with all architectures comes to among the best 1/factor.

        Of the seeds that do not choose, one is the judge and one reports, in all ways; that the mean of ``seeds``
        reports more reliably is made up for. Where the training that chooses also reports, the judge is one on another
        data set of the table. None where there is no such training.
        """
        if not seeds:
            judges = self._elsewhere()
            if judges is None:
                return None
            known = np.isfinite([self.valid[:, 0], self.test[:, 0], judges]).all(0)
            valid, test, judges = (values[known] for values in (self.valid[:, 0], self.test[:, 0], judges))
            return any_judge(valid, test, judges, correlation, factor)
        known = np.isfinite(self.valid[:, 0]) & np.isfinite(self.test[:, 1:]).all(1)
        ceilings = [self.ceiling(one, seeds) for one in (1, factor)]
        agree = [c.agreement for c in ceilings if c is not None and c.agreement > 0]
        if self.test.shape[1] < 3 or known.mean() < NEARLY_ALL or len(agree) < 2:
            return None
        whole, best = (sqrt(seeds / (1 + (seeds - 1) * r)) for r in agree)  # a mean against one: Spearman-Brown
        valid, test = self.valid[known, 0], self.test[known]
        pairs = permutations(range(1, test.shape[1]), 2)
        found = [any_judge(valid, test[:, i], test[:, j], correlation / whole, factor) for i, j in pairs]
        return float(np.mean(found)) * best

    def _elsewhere(self) -> Floats | None:
        """[architectures]: test results on another data set, of as long a training."""
        truth = self.truth
        for dataset in truth.table.datasets:
            if dataset != truth.dataset and truth.epochs in truth.table.epochs(dataset, "test"):
                return truth.table.mean(dataset, "test", truth.epochs)
        return None
