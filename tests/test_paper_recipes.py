"""The paper's stand-alone recipes as they train: steps by hand, on a network's own weights, from the publications.

NAS-Bench-101's RMSProp has its own test, in its package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from wsnas import installed_spaces, load_space
from wsnas.recipe import change_recipe
from wsnas.training import learning_rate, optimizer_of

STEPS = 100  # an epoch


@dataclass(frozen=True)
class Published:
    """SGD as the authors describe it."""

    lr: float
    epochs: int | None  # of half a cosine to 0; None: constant
    stepwise: bool  # the cosine goes on within an epoch
    momentum: float
    nesterov: bool
    decay: float
    decay_of_norms: bool

    def rate(self, step: int) -> float:
        if self.epochs is None:
            return self.lr
        epoch = step / STEPS if self.stepwise else step // STEPS
        return self.lr * (1 + math.cos(math.pi * epoch / self.epochs)) / 2


PUBLISHED = {
    "nb201": Published(0.1, 200, False, 0.9, True, 5e-4, True),  # Dong & Yang (2020), Table 1
    "darts_cnn": Published(0.025, 600, False, 0.9, False, 3e-4, True),  # Liu et al. (2019), A.2.1 and train.py
    "darts_rnn": Published(20.0, None, False, 0.0, False, 8e-7, True),  # Liu et al. (2019), A.2.2
    "proxyless": Published(0.2, 300, True, 0.9, True, 4e-5, False),  # Cai et al. (2019) and their released code
}


@pytest.mark.parametrize("name", [name for name in installed_spaces() if name in PUBLISHED])
def test_steps_are_those_of_the_publication(name: str) -> None:
    """Three steps at the start, two in the middle and the last: a weight and, where there are any, a norm's scale."""
    space, theirs = load_space(name), PUBLISHED[name]
    recipe: Any = space.recipes["paper"]
    training = recipe.standalone
    small = {"nb201": {"channels": 4}, "darts_cnn": {"channels": 4, "cells": 3}, "proxyless": {"width": 0.25}}
    small["darts_rnn"] = {"units": 8, "vocabulary": 50, "dataset": space.recipes["micro"].dataset}
    network = space.network(space.sample(np.random.default_rng(0)), change_recipe(recipe, **small[name]))
    norms = [module.weight for module in network.modules() if isinstance(module, nn.BatchNorm2d) and module.affine]
    weights = [parameter for parameter in network.parameters() if parameter.ndim > 1][:1]
    for parameter in (*weights, *norms):
        nn.init.ones_(parameter)  # so that a weight decay of 8e-7 shows
    watched = [(weights[0], True), *((norm, theirs.decay_of_norms) for norm in norms[:1])]
    assert bool(norms) == (name != "darts_rnn")
    values = [
        (parameter.detach().double().clone(), torch.zeros_like(parameter, dtype=torch.double))
        for parameter, _ in watched
    ]
    optimizer, total = optimizer_of(network, training), (theirs.epochs or 8000) * STEPS
    for step in (0, 1, 2, total // 2 - 1, total // 2, total - 1):
        rate = theirs.rate(step)
        assert learning_rate(training, step // STEPS, step, STEPS) == pytest.approx(rate)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(training, step // STEPS, step, STEPS)
        for i, (parameter, decays) in enumerate(watched):
            parameter.grad = torch.full_like(parameter, 1e-3 * (step + 1))
            value, velocity = values[i]
            gradient = 1e-3 * (step + 1) + (theirs.decay * value if decays else 0 * value)
            velocity = theirs.momentum * velocity + gradient
            change = gradient + theirs.momentum * velocity if theirs.nesterov else velocity
            values[i] = value - rate * change, velocity
        optimizer.step()
        for (parameter, _), (value, _) in zip(watched, values, strict=True):
            torch.testing.assert_close(parameter.detach().double(), value, rtol=1e-5, atol=1e-6)
