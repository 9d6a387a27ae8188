"""Predictors fitted on trained architectures: what they see, and what they are asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from wsnas import WsnasError
from wsnas.studies.predictor import FOLDS, features, gaussian_process, linear, most, predictions


class Spy:
    """Predicts the row's number, which is its feature, and remembers what it was fitted on."""

    def __init__(self, log: list[tuple[set[int], set[int]]]) -> None:
        self.log, self.seen = log, set[int]()

    def fit(self, x: Any, y: Any) -> None:
        self.seen = {int(one) for one in x[:, 0]}
        assert (y == 10 * x[:, 0]).all()

    def predict(self, x: Any) -> Any:
        self.log.append((self.seen, {int(one) for one in x[:, 0]}))
        return x[:, 0]


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
    log: list[tuple[set[int], set[int]]] = []
    found = predictions(lambda: Spy(log), x, 10 * x[:, 0], rows, count, np.random.default_rng(1))
    assert found.tolist() == rows.tolist()
    assert len(log) == fits
    for seen, asked in log:
        assert len(seen) == count
        assert not seen & asked
        assert asked <= set(rows.tolist())


def test_the_untrained_are_not_fitted_on() -> None:
    x, truth = np.arange(100.0)[:, None], 10 * np.arange(100.0)
    truth[::2] = np.nan
    log: list[tuple[set[int], set[int]]] = []
    rows = np.arange(20)
    assert most(truth, rows) == 48  # 40 others, or 50 but those of a part
    predictions(lambda: Spy(log), x, truth, rows, 45, np.random.default_rng(1))
    assert all(one % 2 for seen, _ in log for one in seen)
    with pytest.raises(WsnasError, match="only 48 trained architectures to fit a predictor on, not 49"):
        predictions(lambda: Spy(log), x, truth, rows, 49, np.random.default_rng(1))


def test_the_models_learn_what_can_be_learned() -> None:
    rng = np.random.default_rng(0)
    ops = np.array(["conv", "skip", "none"])
    decisions = [{f"edge {i}": str(ops[rng.integers(3)]) for i in range(4)} for _ in range(120)]
    x = features(decisions)
    worth = {"conv": 2.0, "skip": 1.0, "none": 0.0}
    truth = np.array([sum(worth[choice] for choice in one.values()) for one in decisions])
    for model, count in ((linear, 40), (gaussian_process, 40)):
        found = predictions(model, x, truth, np.arange(50), count, np.random.default_rng(1))
        assert np.corrcoef(found, truth[:50])[0, 1] > 0.98
        again = predictions(model, x, truth, np.arange(50), count, np.random.default_rng(1))
        assert (found == again).all()
