"""Predictors fitted on trained architectures: what they see, and what they are asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from wsnas import WsnasError
from wsnas.studies.predictor import FOLDS, features, gaussian_process, linear, most, predictions


class Memory:
    """Predicts a row's number, which is its feature, but 1,000 for those that it was fitted on."""

    def __init__(self, log: list[set[int]]) -> None:
        self.log = log

    def fit(self, x: Any, y: Any) -> None:
        assert (y == 10 * x[:, 0]).all()
        self.log.append({int(one) for one in x[:, 0]})

    def predict(self, x: Any) -> Any:
        return np.array([1000 if int(one) in self.log[-1] else one for one in x[:, 0]])


def test_features_are_choices_and_their_counts() -> None:
    found = features([{"a": "conv", "b": "conv"}, {"a": "skip", "b": "conv"}])
    # a conv, a skip, b conv; number of conv, of skip
    assert found.tolist() == [[1, 0, 1, 2, 0], [0, 1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("wanted", "count", "fits"), [(30, 20, 1), (30, 60, 1), (30, 70, 1), (60, 45, FOLDS), (100, 90, FOLDS)]
)
def test_nothing_is_scored_by_a_model_that_saw_it(wanted: int, count: int, fits: int) -> None:
    x = np.arange(100.0)[:, None]
    rows = np.random.default_rng(0).permutation(100)[:wanted]
    log: list[set[int]] = []
    found = predictions(lambda: Memory(log), x, 10 * x[:, 0], rows, count, np.random.default_rng(1))
    assert len(log) == fits
    assert all(len(seen) == count for seen in log)
    for row, place in zip(rows, found, strict=True):
        unseen = [sorted(set(rows.tolist()) - seen) for seen in log]
        assert place in [1 + one.index(row) for one in unseen if row in one]  # last among those seen, if it had been


def test_models_that_know_nothing_rank_nothing() -> None:
    """A mean of those fitted on is lower for a part that holds good ones; that must not count."""
    truth = np.arange(50.0)
    found = predictions(linear, np.zeros((50, 1)), truth, np.arange(50), 45, np.random.default_rng(1))
    assert found.tolist() == [25.5] * 50


def test_the_untrained_are_not_fitted_on() -> None:
    x, truth = np.arange(100.0)[:, None], 10 * np.arange(100.0)
    truth[::2] = np.nan
    log: list[set[int]] = []
    rows = np.arange(20)
    assert most(truth, rows) == 48  # 40 others, or 50 but those of a part
    predictions(lambda: Memory(log), x, truth, rows, 45, np.random.default_rng(1))
    assert all(one % 2 for seen in log for one in seen)
    with pytest.raises(WsnasError, match="only 48 trained architectures to fit a predictor on, not 49"):
        predictions(lambda: Memory(log), x, truth, rows, 49, np.random.default_rng(1))


def test_the_models_learn_what_can_be_learned() -> None:
    rng = np.random.default_rng(0)
    ops = np.array(["conv", "skip", "none"])
    decisions = [{f"edge {i}": str(ops[rng.integers(3)]) for i in range(4)} for _ in range(120)]
    x = features(decisions)
    worth = {"conv": 2.0, "skip": 1.0, "none": 0.0}
    truth = np.array([sum(worth[choice] for choice in one.values()) for one in decisions])
    for model, count in ((linear, 40), (gaussian_process, 40)):
        found = predictions(model, x, truth, np.arange(50), count, np.random.default_rng(1))
        assert stats.spearmanr(found, truth[:50]).statistic > 0.95
        again = predictions(model, x, truth, np.arange(50), count, np.random.default_rng(1))
        assert (found == again).all()
