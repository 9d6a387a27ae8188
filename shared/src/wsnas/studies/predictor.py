"""Predicts architectures from trained ones, never those that the predictor was fitted on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from wsnas.errors import WsnasError
from wsnas.metrics import Floats

FOLDS = 10


class Model(Protocol):
    """What scikit-learn's regressors can do."""

    def fit(self, features: Floats, truth: Floats) -> Any: ...

    def predict(self, features: Floats) -> Floats: ...


def features(decisions: Sequence[Mapping[str, str]]) -> Floats:
    """[n, d] of architectures' decisions: 1 where a decision is a certain choice, and how often each choice is made."""
    made = sorted({pair for one in decisions for pair in one.items()})
    choices = sorted({choice for _, choice in made})
    chosen = [[float(one.get(decision) == choice) for decision, choice in made] for one in decisions]
    counts = [[float(list(one.values()).count(choice)) for choice in choices] for one in decisions]
    return np.concatenate([np.array(chosen), np.array(counts)], axis=1)


def gaussian_process() -> Model:
    """Of the three tried on 1,500 architectures of NAS-Bench-101 and 201 the best with few, as good with 500."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel() * RBF(3.0, (0.3, 100.0)) + WhiteKernel(0.1)
    model: Model = GaussianProcessRegressor(kernel, normalize_y=True)
    return model


def linear() -> Model:
    from sklearn.linear_model import LinearRegression

    model: Model = LinearRegression()
    return model


def most(truth: ArrayLike, wanted: ArrayLike) -> int:
    """How many trained architectures there are for ``predictions`` to fit on."""
    known, rows = np.isfinite(np.asarray(truth)), np.asarray(wanted, dtype=np.int64)
    return int(known.sum()) - min(int(known[rows].sum()), -(-len(rows) // FOLDS))


def predictions(
    model: Any, features: Floats, truth: Floats, wanted: ArrayLike, count: int, rng: np.random.Generator
) -> Floats:
    """[n]: the place of each of the rows ``wanted`` in the ranking of all of them, the best n, by a model that was not
    fitted on it.

    ``model()`` gives a new model; features [m, d], truth [m] of all architectures, NaN if not trained. Fitted once on
    ``count`` random others if there are so many. Else the wanted are split into ten parts: the model for each is fitted
    on the first ``count`` of one random order that are not in it, so that the ten models hardly differ. It is places
    that are put together, not predictions: the mean of those a model is fitted on is lower if a good one is left out,
    and would rank the part low. Raises WsnasError if there are too few.
    """
    rows = np.asarray(wanted, dtype=np.int64)
    if count > most(truth, rows):
        raise WsnasError(f"there are only {most(truth, rows)} trained architectures to fit a predictor on, not {count}")
    order = rng.permutation(np.flatnonzero(np.isfinite(truth)))
    apart = order[~np.isin(order, rows)]
    parts = np.array_split(rng.permutation(len(rows)), 1 if len(apart) >= count else FOLDS)
    found = np.full(len(rows), np.nan)
    for part in parts:
        fitted = _fitted(model(), features, truth, order[~np.isin(order, rows[part])][:count])
        found[part] = stats.rankdata(fitted.predict(features[rows]))[part]
    return found


def _fitted(model: Model, features: Floats, truth: Floats, rows: NDArray[np.int64]) -> Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a length scale at its bound: as far as that decision matters, nothing or all
        model.fit(features[rows], truth[rows])
    return model
